"""POST /me/identities/{provider} and its callback: links a provider to an account."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from authapi.clock import now
from authapi.domain.user import User
from tests.clocks import travel_to
from tests.web.federation.visits import (
    Visitor,
    person,
    settings_with_providers,
    state_of,
    visiting,
)

DONE = "/account/security?done=connected"


@pytest.fixture
async def alice(visitor: Visitor) -> User:
    """An account that is logged in with a cookie."""
    user = await visitor.api.create_user("alice@example.com")
    await visitor.api.login(user)
    return user


async def begin(visitor: Visitor, provider: str = "acme", **options: object) -> str:
    """Begins a link; returns `state`."""
    answer = await visitor.api.post(
        f"/me/identities/{provider}",
        json={"continue": DONE},
        **options,  # type: ignore[arg-type]  # of httpx
    )
    assert answer.status_code == 200, answer.text
    return state_of(answer.json()["url"])


async def linked(visitor: Visitor, user: User) -> list[str]:
    """Returns the subjects that are linked to an account."""
    found = await visitor.api.services.federation.links.list_of(user.id)
    return [it.subject for it in found]


def refusal(answer: httpx.Response) -> str:
    """Returns the outcome on the page to which a refused link leads."""
    assert answer.status_code == 303
    return answer.headers["location"].removeprefix("../../../account/security?done=")


async def test_a_link_is_made_and_logs_in(visitor: Visitor, alice: User) -> None:
    state = await begin(visitor)
    [(flow, hint)] = visitor.acme.started
    assert (flow.user_id, flow.intent, hint) == (alice.id, "link", "alice@example.com")
    answer = await visitor.come_back(state, person(email="other@example.com"))
    assert answer.headers["location"] == DONE
    assert await linked(visitor, alice) == ["1"]
    visitor.api.cookies.clear()
    await visitor.log_in(person(email="other@example.com"))
    assert (await visitor.api.get("/me")).json()["email"] == "alice@example.com"


async def test_a_link_needs_a_recent_login(visitor: Visitor, alice: User) -> None:
    with travel_to(now() + timedelta(hours=1)):
        answer = await visitor.api.post("/me/identities/acme", json={})
    assert (answer.status_code, answer.json()["code"]) == (401, "stale_authentication")
    visitor.api.cookies.clear()
    assert (await visitor.api.post("/me/identities/acme", json={})).status_code == 401
    assert not visitor.acme.started


async def test_a_foreign_page_begins_no_link(visitor: Visitor, alice: User) -> None:
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    answer = await visitor.api.post("/me/identities/acme", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")


async def test_a_link_of_another_session_is_refused(visitor: Visitor, alice: User) -> None:
    state = await begin(visitor)
    await visitor.api.login(alice)  # the same account, in a new session
    assert refusal(await visitor.come_back(state, person())) == "session-changed"
    assert await linked(visitor, alice) == []


async def test_a_link_of_another_account_is_refused(visitor: Visitor, alice: User) -> None:
    state = await begin(visitor)
    bob = await visitor.api.create_user("bob@example.com")
    await visitor.api.login(bob)
    assert refusal(await visitor.come_back(state, person())) == "session-changed"
    assert await linked(visitor, alice) == await linked(visitor, bob) == []


async def test_a_link_after_a_logout_is_refused(visitor: Visitor, alice: User) -> None:
    state = await begin(visitor)
    await visitor.api.post("/logout")
    assert refusal(await visitor.come_back(state, person())) == "session-changed"
    assert await linked(visitor, alice) == []


async def test_a_person_of_another_account_is_refused(visitor: Visitor, alice: User) -> None:
    await visitor.come_back(await begin(visitor), person())
    bob = await visitor.api.create_user("bob@example.com")
    await visitor.api.login(bob)
    state = await begin(visitor)
    assert refusal(await visitor.come_back(state, person())) == "identity-taken"
    assert await linked(visitor, bob) == []


async def test_a_link_is_made_once(visitor: Visitor, alice: User) -> None:
    state = await begin(visitor)
    await visitor.come_back(state, person())
    again = await visitor.come_back(state, person("2"), code="b-code")
    assert again.headers["location"] == DONE  # the page was loaded again
    assert await linked(visitor, alice) == ["1"]


async def test_a_flow_of_a_login_links_nothing(visitor: Visitor, alice: User) -> None:
    await visitor.come_back(await visitor.start(), person(email="other@example.com"))
    assert await linked(visitor, alice) == []


async def test_an_error_of_the_provider_leads_to_the_page_of_the_account(
    visitor: Visitor, alice: User
) -> None:
    answer = await visitor.come_back(await begin(visitor), code="", error="access_denied")
    assert refusal(answer) == "provider-refused"


async def test_a_jwt_begins_a_link_for_its_session(sqlite_url: str) -> None:
    async with visiting(settings_with_providers(sqlite_url)) as visitor:
        user = await visitor.api.create_user("alice@example.com")
        await visitor.api.login(user, strategy="jwt")
        bearer = {"authorization": visitor.api.headers.pop("authorization")}
        state = await begin(visitor, headers=bearer)
        answer = await visitor.come_back(state, person())
        assert answer.headers["location"] == DONE
        assert await linked(visitor, user) == ["1"]
        state = await begin(visitor, headers=bearer)
        await visitor.api.post("/logout", headers=bearer)
        assert refusal(await visitor.come_back(state, person("2"))) == "session-changed"
        assert await linked(visitor, user) == ["1"]


async def test_a_cookie_of_another_account_does_not_finish_the_link_of_a_jwt(
    sqlite_url: str,
) -> None:
    async with visiting(settings_with_providers(sqlite_url)) as visitor:
        user = await visitor.api.create_user("alice@example.com")
        await visitor.api.login(user, strategy="jwt")
        bearer = {"authorization": visitor.api.headers.pop("authorization")}
        state = await begin(visitor, headers=bearer)
        await visitor.api.login(await visitor.api.create_user("bob@example.com"))
        assert refusal(await visitor.come_back(state, person())) == "session-changed"
        assert await linked(visitor, user) == []


async def test_a_personal_token_begins_no_link(visitor: Visitor, alice: User) -> None:
    made = await visitor.api.post("/me/tokens", json={"name": "script"})
    visitor.api.cookies.clear()
    headers = {"authorization": f"Bearer {made.json()['access_token']}"}
    answer = await visitor.api.post("/me/identities/acme", json={}, headers=headers)
    assert answer.status_code == 401


@pytest.fixture
async def visitor(sqlite_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(sqlite_url, registration="open")) as found:
        yield found
