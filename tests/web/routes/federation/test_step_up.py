"""POST /me/reauthenticate/with/{provider} and its callback: a new proof at a provider."""

from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.domain.federation.flow import FlowIntent
from authapi.domain.user import User
from tests.clocks import travel_to
from tests.web.federation.visits import (
    Visitor,
    person,
    settings_with_providers,
    state_of,
    visiting,
)

PATH = "/me/reauthenticate/with/acme"
LATER = timedelta(hours=1)


async def linked(visitor: Visitor, strategy: str = "session") -> tuple[User, dict[str, str]]:
    """An account with a linked person, that is logged in; the headers of its bearer token."""
    user = await visitor.api.create_user("alice@example.com")
    await visitor.api.login(user)
    begun = await visitor.api.post("/me/identities/acme", json={})
    await visitor.come_back(state_of(begun.json()["url"]), person())
    if strategy == "session":
        return user, {}
    visitor.api.cookies.clear()
    await visitor.api.login(user, strategy=strategy)
    return user, {"authorization": visitor.api.headers.pop("authorization")}


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_login_at_the_provider_makes_the_session_recent(
    visitor_on_each: Visitor, strategy: str
) -> None:
    visitor, at = visitor_on_each, now()
    with travel_to(at - LATER):
        _, headers = await linked(visitor, strategy)
    with travel_to(at - LATER + timedelta(minutes=6)):
        stale = await visitor.api.post("/me/identities/other", json={}, headers=headers)
        assert (stale.status_code, stale.json()["code"]) == (401, "stale_authentication")
        begun = await visitor.api.post(PATH, json={"continue": "/back"}, headers=headers)
        assert begun.status_code == 200, begun.text
        assert begun.headers["cache-control"] == "no-store"
        flow = visitor.acme.started[-1][0]
        assert flow.intent is FlowIntent.STEP_UP
        assert flow.credentials_version is not None
        answer = await visitor.come_back(
            state_of(begun.json()["url"]), person(auth_time=now()), code="new"
        )
        assert answer.headers["location"] == "/back"
        fresh = await visitor.api.post("/me/identities/other", json={}, headers=headers)
        assert fresh.status_code == 200, fresh.text


async def test_another_person_or_an_old_login_proves_nothing(visitor: Visitor) -> None:
    await linked(visitor)
    with travel_to(now() + timedelta(minutes=10)):
        for who in (
            person(auth_time=now() - timedelta(minutes=6)),
            person(),
            person("2", auth_time=now()),
        ):
            begun = await visitor.api.post(PATH, json={"continue": "https://app.example/x"})
            assert begun.status_code == 422
            begun = await visitor.api.post(PATH)
            answer = await visitor.come_back(state_of(begun.json()["url"]), who)
            assert "provider-answer-refused" in answer.headers["location"]
        stale = await visitor.api.post("/me/identities/other", json={})
        assert stale.json()["code"] == "stale_authentication"


async def test_a_provider_that_cannot_prove_it_is_refused(visitor: Visitor) -> None:
    await linked(visitor)
    visitor.acme.proves_fresh_login = False
    answer = await visitor.api.post(PATH, json={})
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [
            {
                "loc": ["path", "provider"],
                "code": "provider_proves_no_login",
                "message": "does not tell when a person has logged in",
            }
        ],
    )
    unknown = await visitor.api.post("/me/reauthenticate/with/unlisted", json={})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "provider_unknown")


async def test_a_caller_without_a_session_or_of_a_foreign_page_begins_nothing(
    visitor: Visitor,
) -> None:
    await linked(visitor)
    begun = len(visitor.acme.started)
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    answer = await visitor.api.post(PATH, json={}, headers=foreign)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    made = await visitor.api.post("/me/tokens", json={"name": "script"})
    visitor.api.cookies.clear()
    bearer = {"authorization": f"Bearer {made.json()['access_token']}"}
    assert (await visitor.api.post(PATH, json={}, headers=bearer)).status_code == 401
    assert (await visitor.api.post(PATH, json={})).status_code == 401
    assert len(visitor.acme.started) == begun


async def test_the_session_of_a_jwt_that_has_ended_is_not_made_recent(sqlite_url: str) -> None:
    async with visiting(settings_with_providers(sqlite_url)) as visitor:
        _, headers = await linked(visitor, "jwt")
        begun = await visitor.api.post(PATH, json={"continue": "/back"}, headers=headers)
        await visitor.api.post("/logout", headers=headers)
        answer = await visitor.come_back(
            state_of(begun.json()["url"]), person(auth_time=now()), code="new"
        )
        assert "session-changed" in answer.headers["location"]
