"""The event `access_refused`: which refusals are recorded, and how often."""

import logging
from collections.abc import AsyncIterator
from typing import Annotated

import pytest
from fastapi import Depends

from authapi import Settings, User, create_app, current_user
from authapi.errors import StorageUnavailable
from authapi.storage.tables.events import EventTable
from authapi.testing import Client, client
from tests.storage.rows import sql
from tests.web.logins import sign_in

SCOPES = {"reports:read": "Read reports"}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """The shipped app with a route for each requirement that answers 403."""
    app = create_app(Settings(database_url=database_url, scopes=SCOPES))  # type: ignore[arg-type]

    @app.get("/scope")
    async def scope(user: Annotated[User, Depends(current_user(scopes={"reports:read"}))]) -> None:
        return

    @app.get("/verified")
    async def verified(user: Annotated[User, Depends(current_user(verified=True))]) -> None:
        return

    @app.get("/superuser")
    async def superuser(user: Annotated[User, Depends(current_user(superuser=True))]) -> None:
        return

    async with client(app) as found:
        yield found


def access_refused_events(url: str) -> list[tuple[str, bool, str]]:
    """Returns outcome, whether an account is named, and detail of each `access_refused` event."""
    query = (
        "SELECT outcome, user_id, detail FROM authapi_events"
        " WHERE type = 'access_refused' ORDER BY id"
    )
    return [(outcome, who is not None, str(detail)) for outcome, who, detail in sql(url, query)]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/scope", "insufficient_scope"),
        ("/verified", "email_not_confirmed"),
        ("/superuser", "superuser_required"),
    ],
)
async def test_refused_authorization_is_an_event_of_the_account(
    api: Client, path: str, code: str
) -> None:
    alice = await api.create_user()
    login = await sign_in(api.services, alice, "jwt")
    made = await api.post("/me/tokens", json={"name": "x", "scopes": []}, headers=login)
    headers = {"authorization": f"Bearer {made.json()['access_token']}"}
    answer = await api.get(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, code)
    items = (await api.get("/me/events", headers=login)).json()["items"]
    [event] = [item for item in items if item["type"] == "access_refused"]
    assert event["outcome"] == "refused"
    assert event["detail"] == {"code": code}
    assert event["strategy"] == "token"
    assert event["session_id"] == made.json()["id"]
    assert event["request_id"] == answer.headers["x-request-id"]


async def test_request_of_a_foreign_origin_is_an_event(api: Client, database_url: str) -> None:
    alice = await api.create_user()
    headers = {**await sign_in(api.services, alice), "sec-fetch-site": "cross-site"}
    assert (await api.patch("/me", json={"name": "x"}, headers=headers)).status_code == 403
    [(outcome, _, detail)] = access_refused_events(database_url)
    assert outcome == "refused"
    assert "foreign_origin" in detail


@pytest.mark.parametrize("cached", [False, True])
async def test_event_of_a_foreign_origin_names_the_account_of_the_cookie(
    api: Client, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The log line names no user, since the request was not authenticated."""
    alice = await api.create_user()
    headers = await sign_in(api.services, alice)
    if cached:
        assert (await api.get("/me", headers=headers)).status_code == 200
    caplog.set_level(logging.INFO, "authapi")
    foreign = {**headers, "sec-fetch-site": "cross-site"}
    answer = await api.patch("/me", json={"name": "x"}, headers=foreign)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    [line] = [item.__dict__ for item in caplog.records if item.name == "authapi.refusals"]
    assert (line["code"], line["user_id"], line["strategy"]) == ("foreign_origin", None, None)
    items = (await api.get("/me/events", headers=headers)).json()["items"]
    [event] = [item for item in items if item["type"] == "access_refused"]
    assert event["detail"] == {"code": "foreign_origin"}
    assert event["strategy"] == "session"
    seen = (await api.get("/me/identity", headers=headers)).json()
    assert event["session_id"] == seen["session_id"]
    assert event["request_id"] == answer.headers["x-request-id"]
    assert (await api.get("/me", headers=headers)).json()["name"] is None


async def test_access_log_of_a_foreign_origin_names_no_user(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authapi.access")
    settings = Settings(database_url=database_url, access_log=True)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user())
        await api.post("/logout", headers={**headers, "sec-fetch-site": "cross-site"})
    [line] = [item.__dict__ for item in caplog.records if item.name == "authapi.access"]
    assert (line["status"], line["user_id"], line["strategy"]) == (403, None, None)


async def test_event_of_a_foreign_origin_without_cookie_names_no_account(
    api: Client, database_url: str
) -> None:
    body = {"email": "a@example.com", "password": "a long walk by the sea"}
    answer = await api.post("/login", json=body, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    [(_, named, _)] = access_refused_events(database_url)
    assert not named


async def test_repeated_refusals_are_one_event_a_minute_for_each_code_and_caller(
    api: Client, database_url: str
) -> None:
    callers = [await sign_in(api.services, await api.create_user(), "jwt") for _ in range(2)]
    for _ in range(5):
        for headers in callers:
            for path in ("/verified", "/superuser"):
                assert (await api.get(path, headers=headers)).status_code == 403
    assert len(access_refused_events(database_url)) == 4
    assert all(named for _, named, _ in access_refused_events(database_url))


async def test_event_of_a_refused_login_names_the_strategy(api: Client, database_url: str) -> None:
    alice = await api.create_user()
    wrong = {"email": alice.email, "password": "not this one"}
    for strategy in ("session", "token", "jwt"):
        await api.post("/login", json={**wrong, "strategy": strategy})
    await api.post("/login", json=wrong)
    form = {"grant_type": "password", "username": alice.email, "password": "not this one"}
    await api.post("/token", data=form)
    query = "SELECT strategy FROM authapi_events WHERE type = 'login_refused' ORDER BY id"
    names = [name for (name,) in sql(database_url, query)]
    assert names == ["session", "token", "jwt", "session", "jwt"]


async def test_failed_event_is_logged_with_the_request_id(
    api: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await api.create_user()

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(EventTable, "add_without_lock", fail)
    answer = await api.post("/login", json={"email": alice.email, "password": "not this one"})
    assert answer.status_code == 401
    [line] = [item for item in caplog.records if "not recorded" in item.getMessage()]
    assert line.request_id == answer.headers["x-request-id"]  # type: ignore[attr-defined]  # extra
