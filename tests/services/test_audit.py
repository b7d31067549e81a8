"""Which events each operation writes, with what, and in whose transaction."""

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
import time_machine
from sqlalchemy import event as sql_event

from authapi import Settings, create_app
from authapi.errors import NotFound, StorageUnavailable
from authapi.identity import EventType, User
from authapi.services.accounts import standing
from authapi.services.accounts.importing import Importing
from authapi.services.addresses import parse_email
from authapi.services.tokens import Leak
from authapi.storage import models
from authapi.testing import PASSWORD, Client, client

AGENT = "a browser/1.0"
OTHER = "another horse, another battery"


async def rows(api: Client) -> list[dict[str, Any]]:
    """Every event there is, the oldest first."""
    statement = sa.select(models.events).order_by(models.events.c.id)
    async with api.services.database.engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


class Watch:
    """What an operation over HTTP has written: `since()` gives it and begins again."""

    def __init__(self, api: Client, caplog: pytest.LogCaptureFixture) -> None:
        self._api, self._caplog, self._known = api, caplog, set[UUID]()

    async def since(self) -> list[dict[str, Any]]:
        found = [row for row in await rows(self._api) if row["id"] not in self._known]
        self._known |= {row["id"] for row in found}
        logged = [r for r in self._caplog.records if r.name == "authapi.events"]
        # The log tells the same events. Its order is the true one: ids only tell milliseconds.
        order = [record.__dict__["event_id"] for record in logged]
        assert sorted(order) == sorted(str(row["id"]) for row in found)
        found.sort(key=lambda row: order.index(str(row["id"])))
        for record, row in zip(logged, found, strict=True):
            assert record.getMessage() == row["type"]
            for name in ("outcome", "strategy", "ip", "user_agent", "request_id"):
                assert record.__dict__[name] == row[name], name
            for name in ("user_id", "session_id", "actor_id"):
                assert record.__dict__[name] == (str(row[name]) if row[name] else None), name
        self._caplog.clear()
        return found

    async def one(self, kind: EventType, response: Any = None) -> dict[str, Any]:
        """The one event since, which is of this kind and of the request that was answered."""
        (found,) = await self.since()
        assert found["type"] == kind.value
        if response is not None:
            assert found["request_id"] == response.headers["x-request-id"]
            assert (found["ip"], found["user_agent"]) == ("127.0.0.1", AGENT)
        return found


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """A client on each database that tells who it is."""
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]
        found.headers["user-agent"] = AGENT
        yield found


@pytest.fixture
async def alice(api: Client, caplog: pytest.LogCaptureFixture) -> User:
    caplog.set_level(logging.INFO, "authapi")
    return await api.create_user("alice@example.com")


@pytest.fixture
async def watch(api: Client, alice: User, caplog: pytest.LogCaptureFixture) -> Watch:
    """Watches from after the moment when Alice was made."""
    watch = Watch(api, caplog)
    (made,) = await watch.since()
    assert (made["type"], made["user_id"], made["request_id"]) == (
        "account_registered",
        alice.id,
        None,
    )
    return watch


def credentials(email: str, password: str, **more: object) -> dict[str, object]:
    return {"email": email, "password": password, **more}


async def test_registration(api: Client, watch: Watch) -> None:
    response = await api.post("/register", json=credentials("bob@example.com", PASSWORD))
    found = await watch.one(EventType.ACCOUNT_REGISTERED, response)
    assert (str(found["user_id"]), found["outcome"]) == (response.json()["id"], "success")
    assert (await api.post("/register", json=credentials("bob@example.com", OTHER))).is_error
    assert await watch.since() == []


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_login_and_logout(api: Client, alice: User, watch: Watch, strategy: str) -> None:
    response = await api.login(alice, strategy=strategy)
    began = await watch.one(EventType.LOGIN, response)
    assert (began["user_id"], began["strategy"], began["outcome"]) == (
        alice.id,
        strategy,
        "success",
    )
    identity = (await api.get("/me/identity")).json()
    assert str(began["session_id"]) == identity["session_id"]
    assert await watch.since() == []
    response = await api.post("/logout")
    ended = await watch.one(EventType.LOGOUT, response)
    assert (ended["user_id"], ended["strategy"], ended["session_id"]) == (
        alice.id,
        strategy,
        began["session_id"],
    )


async def test_the_password_grant_is_a_login(api: Client, alice: User, watch: Watch) -> None:
    form = {"grant_type": "password", "username": alice.email, "password": PASSWORD}
    response = await api.post("/token", data=form)
    assert response.status_code == 200
    found = await watch.one(EventType.LOGIN, response)
    assert (found["user_id"], found["strategy"]) == (alice.id, "jwt")
    response = await api.post("/token", data={**form, "password": OTHER})
    assert response.status_code == 400
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"]) == (alice.id, "refused")


async def test_refused_logins(api: Client, alice: User, watch: Watch) -> None:
    response = await api.post("/login", json=credentials(alice.email, OTHER))
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"], found["session_id"]) == (alice.id, "refused", None)
    response = await api.post("/login", json=credentials("nobody@example.com", OTHER))
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"]) == (None, "refused")
    assert "nobody" not in repr(found)
    await api.services.accounts.set_active(alice.id, False)
    await watch.since()
    response = await api.post("/login", json=credentials(alice.email, PASSWORD))
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert found["user_id"] == alice.id


async def test_a_refused_login_by_basic(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authapi")
    settings = Settings(database_url=database_url, strategies=("session", "basic"))  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        api.headers["user-agent"] = AGENT
        alice = await api.create_user("alice@example.com")
        watch = Watch(api, caplog)
        await watch.since()
        response = await api.get("/me", auth=(alice.email, OTHER))
        assert response.status_code == 401
        found = await watch.one(EventType.LOGIN_REFUSED, response)
        assert found["user_id"] == alice.id


async def test_change_of_password(api: Client, alice: User, watch: Watch) -> None:
    session = await api.login(alice)
    await watch.since()
    body = {"current_password": OTHER, "new_password": OTHER + "!"}
    response = await api.post("/me/password", json=body)
    assert response.status_code == 403
    found = await watch.one(EventType.PASSWORD_CHANGE_REFUSED, response)
    assert (found["user_id"], found["outcome"]) == (alice.id, "refused")
    body = {"current_password": PASSWORD, "new_password": OTHER}
    response = await api.post("/me/password", json=body)
    assert response.status_code == 204
    found = await watch.one(EventType.PASSWORD_CHANGED, response)
    assert (found["user_id"], found["strategy"], found["outcome"]) == (
        alice.id,
        "session",
        "success",
    )
    assert session.json()["user"]["id"] == str(found["user_id"])


async def test_tokens(api: Client, alice: User, watch: Watch) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.post("/me/tokens", json={"name": "backup script"})
    made = response.json()
    found = await watch.one(EventType.TOKEN_CREATED, response)
    assert (found["user_id"], str(found["session_id"]), found["strategy"]) == (
        alice.id,
        made["id"],
        "session",
    )
    response = await api.delete(f"/me/tokens/{made['id']}")
    found = await watch.one(EventType.TOKEN_ENDED, response)
    assert (found["user_id"], str(found["session_id"])) == (alice.id, made["id"])
    assert (await api.delete(f"/me/tokens/{made['id']}")).status_code == 404
    assert await watch.since() == []


async def test_ending_sessions(api: Client, alice: User, watch: Watch) -> None:
    others = []
    for _ in range(3):
        await api.login(alice, strategy="token")
        others.append((await api.get("/me/identity")).json()["session_id"])
        del api.headers["authorization"]
    await api.login(alice)
    await watch.since()
    response = await api.delete(f"/me/sessions/{others[0]}")
    found = await watch.one(EventType.SESSION_ENDED, response)
    assert (found["user_id"], str(found["session_id"])) == (alice.id, others[0])
    response = await api.delete("/me/sessions")
    found = await watch.one(EventType.SESSIONS_ENDED, response)
    assert (found["user_id"], found["session_id"], found["detail"]) == (
        alice.id,
        None,
        {"count": 2},
    )
    assert (await api.delete("/me/sessions")).status_code == 204
    assert await watch.since() == []


async def test_a_login_in_place_of_a_session_tells_its_owner(
    api: Client, alice: User, watch: Watch
) -> None:
    """One browser, first of Alice, then of Bob: each hears of the end of their own session."""
    bob = await api.create_user("bob@example.com")
    body = credentials(alice.email, PASSWORD)
    await watch.since()
    hers = (await watch.one(EventType.LOGIN, await api.post("/login", json=body)))["session_id"]
    response = await api.post("/login", json=credentials(bob.email, PASSWORD))
    ended, began = await watch.since()
    assert (ended["type"], ended["user_id"], ended["session_id"], ended["detail"]) == (
        "session_ended",
        alice.id,
        hers,
        {"because": "replaced"},
    )
    assert (began["type"], began["user_id"]) == ("login", bob.id)
    assert ended["request_id"] == began["request_id"] == response.headers["x-request-id"]
    # What is not the secret of any session replaces nothing.
    await api.post("/logout")
    await watch.since()
    api.cookies.set("authapi", "x" * 43, domain="127.0.0.1")
    await watch.one(EventType.LOGIN, await api.post("/login", json=body))


async def test_somebody_elses_session_is_not_ended_nor_told(
    api: Client, alice: User, watch: Watch
) -> None:
    await api.login(alice, strategy="jwt")
    session = (await api.get("/me/identity")).json()["session_id"]
    bob = await api.create_user("bob@example.com")
    await api.login(bob, strategy="jwt")
    await watch.since()
    assert (await api.delete(f"/me/sessions/{session}")).status_code == 404
    assert await watch.since() == []


async def test_rename_and_deletion(api: Client, alice: User, watch: Watch) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.patch("/me", json={"name": "Alice"})
    found = await watch.one(EventType.ACCOUNT_RENAMED, response)
    assert found["user_id"] == alice.id
    assert "Alice" not in repr(found)
    await api.patch("/me", json={"name": "Alice"})
    assert await watch.since() == []
    response = await api.delete("/me")
    assert response.status_code == 204
    found = await watch.one(EventType.ACCOUNT_DELETED)
    assert found["user_id"] == alice.id
    # Where its owner was then is as much theirs as the rest that went.
    assert (found["ip"], found["user_agent"]) == (None, None)
    assert found["request_id"] == response.headers["x-request-id"]
    # What is gone is not deleted a second time.
    await api.services.accounts.delete(alice.id)
    assert await watch.since() == []


async def test_what_operators_do(api: Client, alice: User, watch: Watch) -> None:
    accounts, sessions = api.services.accounts, api.services.sessions
    await api.login(alice)
    first = (await watch.since())[0]["session_id"]
    await sessions.end(first)
    found = await watch.one(EventType.SESSION_ENDED)
    assert (found["user_id"], found["session_id"], found["ip"]) == (alice.id, first, None)
    assert await sessions.end(first) == 0
    assert await watch.since() == []
    api.cookies.clear()
    await api.login(alice)
    await watch.since()
    assert await sessions.end_all(alice.id) == 1
    assert (await watch.one(EventType.SESSIONS_ENDED))["detail"] == {"count": 1}
    await accounts.set_password(alice.id, OTHER)
    assert (await watch.one(EventType.PASSWORD_CHANGED))["user_id"] == alice.id
    for active, kind in (
        (False, EventType.ACCOUNT_DEACTIVATED),
        (True, EventType.ACCOUNT_ACTIVATED),
    ):
        await accounts.set_active(alice.id, active)
        assert (await watch.one(kind))["user_id"] == alice.id
        await accounts.set_active(alice.id, active)
        assert await watch.since() == []
    with pytest.raises(NotFound):
        await accounts.set_active(UUID(int=1), False)
    assert await watch.since() == []


@asynccontextmanager
async def limited(
    url: str, caplog: pytest.LogCaptureFixture, **limits: str
) -> AsyncIterator[tuple[Client, Watch]]:
    caplog.set_level(logging.INFO, "authapi")
    async with client(create_app(Settings(database_url=url, **limits))) as api:  # type: ignore[arg-type]
        api.headers["user-agent"] = AGENT
        yield api, Watch(api, caplog)


async def test_a_flood_is_told_once(database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with limited(database_url, caplog, limit_account_and_network="1/hour") as (api, watch):
        alice = await api.create_user("alice@example.com")
        await api.post("/login", json=credentials(alice.email, OTHER))
        assert len(await watch.since()) == 2
        response = await api.post("/login", json=credentials(alice.email, OTHER))
        assert response.status_code == 429
        found = await watch.one(EventType.THROTTLED, response)
        assert (found["user_id"], found["outcome"]) == (alice.id, "refused")
        for _ in range(10):
            response = await api.post("/login", json=credentials(alice.email, PASSWORD))
            assert response.status_code == 429
        assert await watch.since() == []


@pytest.mark.parametrize("email", ["alice@example.com", "nobody@example.com"])
async def test_who_is_guessed_at_is_told_of_the_throttling(
    api: Client, alice: User, watch: Watch, email: str
) -> None:
    for _ in range(3):
        await api.services.audit.throttled(email)
    found = await watch.one(EventType.THROTTLED)
    assert found["user_id"] == (alice.id if email == alice.email else None)
    assert "@" not in repr(found)


async def test_one_network_is_told_once(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    # A /64 has more addresses than a table should have rows.
    changes: dict[str, Any] = {
        "limit_account_and_network": "1/hour",
        "trusted_proxies": ("127.0.0.1/32",),
    }
    async with limited(sqlite_url, caplog, **changes) as (api, watch):
        for number in range(10):
            headers = {"x-forwarded-for": f"2001:db8::{number:x}"}
            await api.post("/login", json=credentials("a@example.com", OTHER), headers=headers)
        kinds = [row["type"] for row in await watch.since()]
        assert kinds == ["login_refused", "throttled"]
        headers = {"x-forwarded-for": "2001:db8:0:1::1"}
        for _ in range(3):
            await api.post("/login", json=credentials("a@example.com", OTHER), headers=headers)
        kinds = [row["type"] for row in await watch.since()]
        assert kinds == ["login_refused", "throttled"]


async def test_throttled_registrations_and_changes_are_told(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with limited(database_url, caplog, limit_registrations="1/hour") as (api, watch):
        await api.post("/register", json=credentials("a@example.com", PASSWORD))
        await watch.since()
        response = await api.post("/register", json=credentials("b@example.com", PASSWORD))
        assert response.status_code == 429
        await watch.one(EventType.THROTTLED, response)
    async with limited(database_url, caplog, limit_account_and_network="1/hour") as (api, watch):
        alice = await api.create_user("alice@example.com")
        await api.login(alice)
        caplog.clear()
        watch._known = {row["id"] for row in await rows(api)}
        body = {"current_password": OTHER, "new_password": OTHER + "!"}
        assert (await api.post("/me/password", json=body)).status_code == 403
        await watch.one(EventType.PASSWORD_CHANGE_REFUSED)
        response = await api.post("/me/password", json=body)
        assert response.status_code == 429
        await watch.one(EventType.THROTTLED, response)


async def requests_that_change(api: Client, alice: User) -> Sequence[tuple[str, str, object]]:
    await api.login(alice)
    token = (await api.post("/me/tokens", json={"name": "one"})).json()["id"]
    body = credentials(alice.email, PASSWORD, strategy="token")
    bearer = (await api.post("/login", json=body)).json()["access_token"]
    headers = {"authorization": f"Bearer {bearer}"}
    other = (await api.get("/me/identity", headers=headers)).json()["session_id"]
    return (
        ("POST", "/register", credentials("bob@example.com", PASSWORD)),
        ("POST", "/login", credentials(alice.email, PASSWORD)),
        ("POST", "/login", credentials(alice.email, OTHER)),
        ("PATCH", "/me", {"name": "Alice"}),
        ("POST", "/me/tokens", {"name": "two"}),
        ("DELETE", f"/me/tokens/{token}", None),
        ("DELETE", f"/me/sessions/{other}", None),
        ("DELETE", "/me/sessions", None),
        ("POST", "/me/password", {"current_password": PASSWORD, "new_password": OTHER}),
        ("POST", "/logout", None),
        ("DELETE", "/me", None),
    )


async def test_a_commit_that_fails_leaves_no_event_and_no_line(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each change, with the commit failing as it does when the database goes away."""
    caplog.set_level(logging.INFO, "authapi")
    settings = Settings(database_url=database_url, last_seen_interval=3600)  # type: ignore[arg-type]
    app = create_app(settings)
    async with client(app) as api:
        alice = await api.create_user("alice@example.com")
        requests = await requests_that_change(api, alice)
        engine = api.services.database.engine.sync_engine

        def fail(_: object) -> None:
            raise sa.exc.OperationalError("COMMIT", {}, Exception("the connection is gone"))

        for method, path, body in requests:
            before = await rows(api)
            caplog.clear()
            sql_event.listen(engine, "commit", fail)
            try:
                response = await api.request(method, path, json=body)
            finally:
                sql_event.remove(engine, "commit", fail)
            told = [r.getMessage() for r in caplog.records if r.name == "authapi.events"]
            if body == credentials(alice.email, OTHER):
                # A refusal stands; that it is missing from the table is told.
                assert response.status_code == 401
                assert told == ["login_refused could not be written down"]
            else:
                assert response.status_code == 503, (method, path, response.text)
                assert told == []
            assert await rows(api) == before, path
        # And the same requests succeed when the database is back.
        for method, path, body in requests:
            if (method, path) == ("DELETE", "/me"):
                await api.login(alice, password=OTHER)
            response = await api.request(method, path, json=body)
            assert response.status_code < 400 or body == credentials(alice.email, OTHER), path


async def test_an_event_that_cannot_be_written_undoes_the_change(
    api: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from authapi.storage.tables.events import EventTable

    await api.login(alice)

    async def fail(*_: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(EventTable, "add", fail)
    assert (await api.patch("/me", json={"name": "Alice"})).status_code == 503
    assert (await api.post("/me/tokens", json={"name": "one"})).status_code == 503
    response = await api.post("/login", json=credentials(alice.email, PASSWORD))
    assert response.status_code == 503
    assert "set-cookie" not in response.headers
    monkeypatch.undo()
    assert (await api.get("/me")).json()["name"] is None
    assert (await api.get("/me/tokens")).json() == []
    assert len((await api.get("/me/sessions")).json()) == 1


async def test_what_clients_send_is_cut_and_made_printable(
    api: Client, alice: User, watch: Watch
) -> None:
    api.headers["user-agent"] = "x" * 5000
    await api.login(alice)
    (found,) = await watch.since()
    assert found["user_agent"] == "x" * 255


async def link_in_mail(api: Client, to: str) -> str:
    """What the link in the newest mail to this address proves."""
    found = [message for message in await api.outbox() if message["to"] == to]
    body = found[-1].get_body(("plain",))
    assert body is not None
    match = re.search(r"token=([\w-]{43})", body.get_content())
    assert match is not None
    return match[1]


async def test_recovery(api: Client, alice: User, watch: Watch) -> None:
    asked = await api.post("/password/forgot", json={"email": alice.email})
    secret = await link_in_mail(api, alice.email)
    # Of the request that asked, though it was done after that was answered.
    await watch.one(EventType.PASSWORD_RESET_REQUESTED, asked)
    body = {"token": secret, "new_password": OTHER}
    response = await api.post("/password/reset", json=body)
    found = await watch.one(EventType.PASSWORD_RESET, response)
    assert found["user_id"] == alice.id
    assert (await api.post("/password/reset", json=body)).status_code == 400
    assert await watch.since() == []


async def test_addresses(api: Client, alice: User, watch: Watch) -> None:
    await api.login(alice)
    await watch.since()
    await api.post("/email/confirm/request", json={"email": alice.email})
    secret = await link_in_mail(api, alice.email)
    assert await watch.since() == []
    response = await api.post("/email/confirm", json={"token": secret})
    await watch.one(EventType.EMAIL_CONFIRMED, response)
    new = "alice@example.org"
    response = await api.post("/me/email", json={"email": new, "current_password": OTHER})
    await watch.one(EventType.REAUTHENTICATION_REFUSED, response)
    response = await api.post("/me/email", json={"email": new})
    await watch.one(EventType.EMAIL_CHANGE_REQUESTED, response)
    response = await api.post("/email/confirm", json={"token": await link_in_mail(api, new)})
    found = await watch.one(EventType.EMAIL_CHANGED, response)
    assert new not in repr(found)
    undo = await link_in_mail(api, alice.email)
    response = await api.post("/email/undo", json={"token": undo, "email": alice.email})
    found = await watch.one(EventType.EMAIL_CHANGE_UNDONE, response)
    assert found["user_id"] == alice.id


async def test_a_password_proved_again(api: Client, alice: User, watch: Watch) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.post("/me/reauthenticate", json={"password": OTHER})
    refused = await watch.one(EventType.REAUTHENTICATION_REFUSED, response)
    assert (refused["outcome"], refused["strategy"]) == ("refused", "session")
    response = await api.post("/me/reauthenticate", json={"password": PASSWORD})
    found = await watch.one(EventType.REAUTHENTICATED, response)
    assert (found["user_id"], found["session_id"]) == (alice.id, refused["session_id"])


async def test_an_invitation(api: Client, watch: Watch) -> None:
    bob = await api.services.accounts.create(parse_email("bob@example.com"), None)
    async with api.services.database.transaction() as store:
        await api.services.invitations.invite(store, bob)
    await watch.since()
    body = {"token": await link_in_mail(api, bob.email), "password": PASSWORD}
    response = await api.post("/invitation/accept", json=body)
    found = await watch.one(EventType.INVITATION_ACCEPTED, response)
    assert found["user_id"] == bob.id


def test_every_kind_of_event_is_written_by_something() -> None:
    # The tests above name each kind; one that nobody names is one that nobody has tried.
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    missing = [kind.name for kind in EventType if text.count(f"EventType.{kind.name}") == 0]
    assert missing == []


async def test_a_page_of_another_origin_is_told(api: Client, alice: User, watch: Watch) -> None:
    await api.login(alice)
    foreign = {"sec-fetch-site": "cross-site"}
    assert (await api.patch("/me", json={"name": "x"}, headers=foreign)).status_code == 403
    assert [found["type"] for found in await watch.since()].count(EventType.ACCESS_REFUSED) == 1


async def test_accounts_made_by_operators_are_told(api: Client, watch: Watch) -> None:
    await api.services.accounts.create(parse_email("bob@example.com"), None, is_superuser=True)
    await watch.one(EventType.ACCOUNT_REGISTERED)


async def test_imported_accounts_are_told_each_once(api: Client, watch: Watch) -> None:
    services = api.services
    importing = Importing(services.database, services.audit, services.settings)
    lines = b'{"email":"alice@example.com"}\n{"email":"bob@example.com"}\n'
    for _ in range(2):
        await importing.run(BytesIO(lines), lambda *_: None)
    found = await watch.one(EventType.ACCOUNT_IMPORTED)
    bob = await services.accounts.find_by_email(parse_email("bob@example.com"))
    assert (found["user_id"], found["outcome"], found["ip"]) == (bob.id, "success", None)


async def test_a_refresh_token_that_is_used_twice_is_told(
    api: Client, alice: User, watch: Watch
) -> None:
    login = (await api.login(alice, strategy="jwt")).json()
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    assert (await api.post("/token", data=form)).status_code == 200
    # A refresh by itself is no event: there would be one every few minutes.
    await watch.one(EventType.LOGIN)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1)):
        refused = await api.post("/token", data=form)
    assert refused.status_code == 400
    found = await watch.one(EventType.REFRESH_REUSE, refused)
    assert (found["user_id"], found["strategy"], found["outcome"]) == (alice.id, "jwt", "refused")


async def test_what_happens_to_signing_keys_is_told(api: Client, watch: Watch) -> None:
    keys = api.services.keys
    active = await keys.rotate(early=True)
    found = await watch.one(EventType.KEY_ROTATED)
    assert (found["user_id"], found["detail"]) == (None, {"kid": active.kid})
    waiting = next(
        key for key in (await keys.ring()).stored if key.kid != active.kid and not key.retired_at
    )
    await keys.lifecycle.retire(waiting.kid)
    assert (await watch.one(EventType.KEY_RETIRED))["detail"] == {"kid": waiting.kid}
    await keys.lifecycle.rewrap(b"x" * 32)
    assert (await watch.one(EventType.KEYS_REWRAPPED))["detail"] == {}


async def test_a_leak_is_told(api: Client, alice: User, watch: Watch) -> None:
    token = (await api.login(alice, strategy="token")).json()["access_token"]
    await watch.one(EventType.LOGIN)
    place = {"url": "https://example.com/file", "source": "content"}
    await api.services.leaks.end([Leak(token, **place)])
    found = await watch.one(EventType.TOKEN_LEAKED)
    assert (found["user_id"], found["strategy"], found["detail"]) == (alice.id, "token", place)


async def test_what_superusers_do_is_told_with_their_name(
    api: Client, alice: User, watch: Watch
) -> None:
    root = await api.create_user("root@example.com", is_superuser=True)
    await api.login(root)
    await watch.since()
    steps: list[tuple[str, str, dict[str, object] | None, EventType]] = [
        ("POST", "", {"email": "carol@example.com"}, EventType.ACCOUNT_INVITED),
        ("PATCH", f"/{alice.id}", {"is_superuser": True}, EventType.SUPERUSER_GRANTED),
        ("PATCH", f"/{alice.id}", {"is_superuser": False}, EventType.SUPERUSER_REVOKED),
        ("PATCH", f"/{alice.id}", {"name": "Al"}, EventType.ACCOUNT_RENAMED),
        ("PATCH", f"/{alice.id}", {"is_active": False}, EventType.ACCOUNT_DEACTIVATED),
        ("PATCH", f"/{alice.id}", {"is_active": True}, EventType.ACCOUNT_ACTIVATED),
        ("DELETE", f"/{alice.id}", None, EventType.ACCOUNT_DELETED),
    ]
    for method, path, body, kind in steps:
        answer = await api.request(method, f"/admin/users{path}", json=body)
        assert answer.status_code < 300, answer.text
        found = await watch.one(kind, answer)
        assert found["actor_id"] == root.id
        assert found["user_id"] == (alice.id if path else UUID(answer.json()["id"]))


async def test_what_operators_do_has_no_name(api: Client, alice: User, watch: Watch) -> None:
    for roles in (frozenset({"reader"}), frozenset[str]()):
        async with api.services.database.transaction() as store:
            audit = api.services.audit
            await standing.set_roles(
                store, audit, await api.services.accounts.find(alice.id), roles
            )
        found = await watch.one(EventType.ROLES_CHANGED)
        assert (found["actor_id"], found["detail"]) == (None, {"roles": sorted(roles)})
