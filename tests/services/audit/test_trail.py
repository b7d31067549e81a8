"""The events that each operation records, their content, and their transaction."""

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

import pyotp
import pytest
import sqlalchemy as sa
import time_machine
from sqlalchemy import event as sql_event

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User
from authapi.errors import NotFound, StorageUnavailable
from authapi.services.accounts.administration import set_roles
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.importing import AccountImporter
from authapi.services.mail import MailKind
from authapi.services.restores import AllSessions, EventReplay
from authapi.services.tokens import ReportedToken
from authapi.testing import PASSWORD, Client, client
from tests.profiles import application, running
from tests.second_factors import add_second_factors, insert_passkey
from tests.soft_authenticator import VERIFIED, SoftAuthenticator
from tests.tables import events as event_rows
from tests.web.federation.visits import person, settings_with_providers, state_of, visiting

AGENT = "a browser/1.0"
OTHER = "another horse, another battery"


async def rows(api: Client) -> list[dict[str, Any]]:
    """All events, the oldest first."""
    statement = sa.select(event_rows).order_by(event_rows.c.id)
    async with api.services.database.engine.connect() as connection:
        return [dict(row) for row in (await connection.execute(statement)).mappings()]


class EventWatcher:
    """Returns the events recorded since the last call of `since()`, and checks their log lines."""

    def __init__(self, api: Client, caplog: pytest.LogCaptureFixture) -> None:
        self._api, self._caplog, self._known = api, caplog, set[UUID]()

    async def since(self) -> list[dict[str, Any]]:
        found = [row for row in await rows(self._api) if row["id"] not in self._known]
        self._known |= {row["id"] for row in found}
        logged = [r for r in self._caplog.records if r.name == "authapi.events"]
        # The log contains the same events. Its order is exact; ids have milliseconds only.
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
        """Returns the only new event, after checking its type and its request."""
        (found,) = await self.since()
        assert found["type"] == kind.value
        if response is not None:
            assert found["request_id"] == response.headers["x-request-id"]
            assert (found["ip"], found["user_agent"]) == ("127.0.0.1", AGENT)
        return found


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """A client with a User-Agent, on each database."""
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]
        found.headers["user-agent"] = AGENT
        yield found


@pytest.fixture
async def alice(api: Client, caplog: pytest.LogCaptureFixture) -> User:
    caplog.set_level(logging.INFO, "authapi")
    return await api.create_user("alice@example.com")


@pytest.fixture
async def watch(api: Client, alice: User, caplog: pytest.LogCaptureFixture) -> EventWatcher:
    """A watcher that starts after the creation of Alice's account."""
    watch = EventWatcher(api, caplog)
    (made,) = await watch.since()
    assert (made["type"], made["user_id"], made["request_id"]) == (
        "account_registered",
        alice.id,
        None,
    )
    return watch


def credentials(email: str, password: str, **more: object) -> dict[str, object]:
    return {"email": email, "password": password, **more}


async def test_registration(api: Client, watch: EventWatcher) -> None:
    response = await api.post("/register", json=credentials("bob@example.com", PASSWORD))
    found = await watch.one(EventType.ACCOUNT_REGISTERED, response)
    assert (str(found["user_id"]), found["outcome"]) == (response.json()["id"], "success")
    assert (await api.post("/register", json=credentials("bob@example.com", OTHER))).is_error
    assert await watch.since() == []


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_login_and_logout(
    api: Client, alice: User, watch: EventWatcher, strategy: str
) -> None:
    response = await api.login(alice, strategy=strategy)
    started = await watch.one(EventType.LOGIN, response)
    assert (started["user_id"], started["strategy"], started["outcome"]) == (
        alice.id,
        strategy,
        "success",
    )
    identity = (await api.get("/me/identity")).json()
    assert str(started["session_id"]) == identity["session_id"]
    assert await watch.since() == []
    response = await api.post("/logout")
    ended = await watch.one(EventType.LOGOUT, response)
    assert (ended["user_id"], ended["strategy"], ended["session_id"]) == (
        alice.id,
        strategy,
        started["session_id"],
    )


async def test_the_password_grant_is_a_login(api: Client, alice: User, watch: EventWatcher) -> None:
    form = {"grant_type": "password", "username": alice.email, "password": PASSWORD}
    response = await api.post("/token", data=form)
    assert response.status_code == 200
    found = await watch.one(EventType.LOGIN, response)
    assert (found["user_id"], found["strategy"]) == (alice.id, "jwt")
    response = await api.post("/token", data={**form, "password": OTHER})
    assert response.status_code == 400
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"]) == (alice.id, "refused")


async def test_refused_logins(api: Client, alice: User, watch: EventWatcher) -> None:
    response = await api.post("/login", json=credentials(alice.email, OTHER))
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"], found["session_id"]) == (alice.id, "refused", None)
    response = await api.post("/login", json=credentials("unknown@example.com", OTHER))
    found = await watch.one(EventType.LOGIN_REFUSED, response)
    assert (found["user_id"], found["outcome"]) == (None, "refused")
    assert "unknown" not in repr(found)
    await api.services.accounts.administration.change(alice.id, {"is_active": False})
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
        watch = EventWatcher(api, caplog)
        await watch.since()
        response = await api.get("/me", auth=(alice.email, OTHER))
        assert response.status_code == 401
        found = await watch.one(EventType.LOGIN_REFUSED, response)
        assert found["user_id"] == alice.id


async def test_change_of_password(api: Client, alice: User, watch: EventWatcher) -> None:
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


async def test_tokens(api: Client, alice: User, watch: EventWatcher) -> None:
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
    assert found["detail"] == {"name": "backup script"}
    response = await api.delete(f"/me/tokens/{made['id']}")
    found = await watch.one(EventType.TOKEN_ENDED, response)
    assert (found["user_id"], str(found["session_id"])) == (alice.id, made["id"])
    assert (await api.delete(f"/me/tokens/{made['id']}")).status_code == 404
    assert await watch.since() == []


async def test_ending_sessions(api: Client, alice: User, watch: EventWatcher) -> None:
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


async def test_a_login_that_replaces_a_session_is_recorded_for_its_owner(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    """Alice and Bob log in with one browser: each sees the end of their own session."""
    bob = await api.create_user("bob@example.com")
    body = credentials(alice.email, PASSWORD)
    await watch.since()
    hers = (await watch.one(EventType.LOGIN, await api.post("/login", json=body)))["session_id"]
    response = await api.post("/login", json=credentials(bob.email, PASSWORD))
    ended, started = await watch.since()
    assert (ended["type"], ended["user_id"], ended["session_id"], ended["detail"]) == (
        "session_ended",
        alice.id,
        hers,
        {"because": "replaced"},
    )
    assert (started["type"], started["user_id"]) == ("login", bob.id)
    assert ended["request_id"] == started["request_id"] == response.headers["x-request-id"]
    # A cookie that is the secret of no session replaces none.
    await api.post("/logout")
    await watch.since()
    api.cookies.set("authapi", "x" * 43, domain="127.0.0.1")
    await watch.one(EventType.LOGIN, await api.post("/login", json=body))


async def test_a_session_of_another_user_is_neither_ended_nor_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    await api.login(alice, strategy="jwt")
    session = (await api.get("/me/identity")).json()["session_id"]
    bob = await api.create_user("bob@example.com")
    await api.login(bob, strategy="jwt")
    await watch.since()
    assert (await api.delete(f"/me/sessions/{session}")).status_code == 404
    assert await watch.since() == []


async def test_a_changed_language_is_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.patch("/me", json={"locale": "ko"})
    assert (await watch.one(EventType.LOCALE_CHANGED, response))["user_id"] == alice.id


async def test_a_changed_profile_is_recorded(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "authapi")
    async with running(application(database_url)) as api:
        api.headers["user-agent"] = AGENT
        bob = await api.create_user(profile={"city": "Bern"})
        await api.login(bob)
        watch = EventWatcher(api, caplog)
        await watch.since()
        response = await api.patch("/me", json={"profile": {"city": "Chur"}})
        found = await watch.one(EventType.PROFILE_CHANGED, response)
        assert (found["user_id"], found["outcome"]) == (bob.id, "success")
        assert "Chur" not in repr(found)


async def test_a_resent_invitation_is_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    administration = api.services.accounts.administration
    bob = await administration.invite(parse_email("bob@example.com"))
    assert (await watch.one(EventType.ACCOUNT_INVITED))["user_id"] == bob.id
    await administration.resend_invitation(bob.id)
    assert (await watch.one(EventType.INVITATION_RESENT))["user_id"] == bob.id


async def test_rename_and_deletion(api: Client, alice: User, watch: EventWatcher) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.patch("/me", json={"name": "Alice"})
    found = await watch.one(EventType.ACCOUNT_RENAMED, response)
    assert found["user_id"] == alice.id
    assert "Alice" not in repr(found)
    await api.patch("/me", json={"name": "Alice"})
    assert await watch.since() == []
    response = await api.patch("/me", json={"locale": "ko"})
    found = await watch.one(EventType.LOCALE_CHANGED, response)
    assert found["user_id"] == alice.id
    response = await api.delete("/me")
    assert response.status_code == 204
    found = await watch.one(EventType.ACCOUNT_DELETED)
    assert found["user_id"] == alice.id
    # The network address of the owner is personal data, and deleted with the rest.
    assert (found["ip"], found["user_agent"]) == (None, None)
    assert found["request_id"] == response.headers["x-request-id"]
    # A second deletion records nothing.
    with pytest.raises(NotFound):
        await api.services.accounts.deletion.delete(alice.id)
    assert await watch.since() == []


async def test_operations_of_operators(api: Client, alice: User, watch: EventWatcher) -> None:
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
    await accounts.passwords.set(alice.id, OTHER)
    assert (await watch.one(EventType.PASSWORD_CHANGED))["user_id"] == alice.id
    for active, kind in (
        (False, EventType.ACCOUNT_DEACTIVATED),
        (True, EventType.ACCOUNT_ACTIVATED),
    ):
        await api.services.accounts.administration.change(alice.id, {"is_active": active})
        assert (await watch.one(kind))["user_id"] == alice.id
        await api.services.accounts.administration.change(alice.id, {"is_active": active})
        assert await watch.since() == []
    with pytest.raises(NotFound):
        await api.services.accounts.administration.change(UUID(int=1), {"is_active": False})
    assert await watch.since() == []


@asynccontextmanager
async def limited(
    url: str, caplog: pytest.LogCaptureFixture, **limits: str
) -> AsyncIterator[tuple[Client, EventWatcher]]:
    caplog.set_level(logging.INFO, "authapi")
    async with client(create_app(Settings(database_url=url, **limits))) as api:  # type: ignore[arg-type]
        api.headers["user-agent"] = AGENT
        yield api, EventWatcher(api, caplog)


async def test_repeated_throttling_is_recorded_once(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
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


@pytest.mark.parametrize("email", ["alice@example.com", "unknown@example.com"])
async def test_throttling_is_recorded_for_the_account_under_attack(
    api: Client, alice: User, watch: EventWatcher, email: str
) -> None:
    for _ in range(3):
        await api.services.audit.record_throttled(email)
    found = await watch.one(EventType.THROTTLED)
    assert found["user_id"] == (alice.id if email == alice.email else None)
    assert "@" not in repr(found)


async def test_one_network_is_recorded_once(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A /64 has too many addresses for one row each.
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


async def test_throttled_registrations_and_changes_are_recorded(
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


async def test_a_failed_commit_leaves_no_event_and_no_log_line(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Every change, with a commit that fails as if the connection were lost."""
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
            logged = [r.getMessage() for r in caplog.records if r.name == "authapi.events"]
            if body == credentials(alice.email, OTHER):
                # The refusal stands; the log reports that its event is missing.
                assert response.status_code == 401
                assert logged == ["login_refused event not recorded"]
            else:
                assert response.status_code == 503, (method, path, response.text)
                assert logged == []
            assert await rows(api) == before, path
        # The same requests succeed when the database is available again.
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


async def test_the_user_agent_is_truncated(api: Client, alice: User, watch: EventWatcher) -> None:
    api.headers["user-agent"] = "x" * 5000
    await api.login(alice)
    (found,) = await watch.since()
    assert found["user_agent"] == "x" * 255


async def link_in_mail(api: Client, to: str) -> str:
    """The token of the link in the newest mail to this address."""
    found = [message for message in await api.outbox() if message["to"] == to]
    body = found[-1].get_body(("plain",))
    assert body is not None
    match = re.search(r"token=([\w-]{43})", body.get_content())
    assert match is not None
    return match[1]


async def test_a_login_from_a_new_device(api: Client, alice: User, watch: EventWatcher) -> None:
    await api.services.accounts.email_changes.confirm_for_operator(alice.id)
    await api.login(alice)
    await watch.since()
    api.headers["user-agent"] = "another/1.0"
    response = await api.login(alice, strategy="jwt")
    api.headers["user-agent"] = AGENT
    started, told = await watch.since()
    assert [started["type"], told["type"]] == [EventType.LOGIN, EventType.NEW_DEVICE]
    assert told["request_id"] == response.headers["x-request-id"]
    for name in ("user_id", "session_id", "strategy", "ip", "network", "user_agent"):
        assert told[name] == started[name], name
    assert (told["outcome"], told["detail"], told["user_agent"]) == ("success", {}, "another/1.0")
    response = await api.post("/login/disown", json={"token": await link_in_mail(api, alice.email)})
    ended = await watch.one(EventType.SESSION_ENDED, response)
    assert (ended["user_id"], ended["session_id"]) == (alice.id, told["session_id"])
    assert ended["detail"] == {"because": "disowned"}


async def test_recovery(api: Client, alice: User, watch: EventWatcher) -> None:
    asked = await api.post("/password/forgot", json={"email": alice.email})
    secret = await link_in_mail(api, alice.email)
    # The event names the request that asked, though it is recorded after the response.
    await watch.one(EventType.PASSWORD_RESET_REQUESTED, asked)
    body = {"token": secret, "new_password": OTHER}
    response = await api.post("/password/reset", json=body)
    found = await watch.one(EventType.PASSWORD_RESET, response)
    assert found["user_id"] == alice.id
    assert (await api.post("/password/reset", json=body)).status_code == 400
    assert await watch.since() == []


async def test_addresses(api: Client, alice: User, watch: EventWatcher) -> None:
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
    found = await watch.one(EventType.EMAIL_CHANGE_REVERTED, response)
    assert found["user_id"] == alice.id


async def test_a_reset_and_a_refused_passkey(api: Client, alice: User, watch: EventWatcher) -> None:
    await add_second_factors(api.services, alice)
    await api.services.accounts.administration.reset_factors(alice.id)
    assert EventType.FACTORS_RESET in [found["type"] for found in await watch.since()]
    passkey = SoftAuthenticator()
    await insert_passkey(api.services, alice, passkey)
    passkey.flags &= ~VERIFIED
    asked = (await api.post("/login/passkey/options", json={})).json()
    answer = await api.post("/login/passkey", json={"credential": passkey.get(asked)})
    assert answer.status_code == 401
    refused = await watch.one(EventType.PASSKEY_REFUSED, answer)
    assert (refused["outcome"], refused["user_id"]) == ("refused", alice.id)


async def test_reauthentication(api: Client, alice: User, watch: EventWatcher) -> None:
    await api.login(alice)
    await watch.since()
    response = await api.post("/me/reauthenticate", json={"password": OTHER})
    refused = await watch.one(EventType.REAUTHENTICATION_REFUSED, response)
    assert (refused["outcome"], refused["strategy"]) == ("refused", "session")
    response = await api.post("/me/reauthenticate", json={"password": PASSWORD})
    found = await watch.one(EventType.REAUTHENTICATED, response)
    assert (found["user_id"], found["session_id"]) == (alice.id, refused["session_id"])


async def test_second_factors(api: Client, alice: User, watch: EventWatcher) -> None:
    await api.services.accounts.email_changes.confirm_for_operator(alice.id)
    await api.login(alice)
    enrolled = await api.post("/me/factors/totp")
    app = pyotp.TOTP(enrolled.json()["secret"])
    await watch.since()
    response = await api.post("/me/factors/totp/confirm", json={"code": app.now()})
    codes = response.json()["recovery_codes"]
    found = await watch.one(EventType.FACTOR_ADDED, response)
    session_id = found["session_id"]
    assert (found["user_id"], found["strategy"]) == (alice.id, "session")
    assert found["detail"] == {"method": "totp"}
    response = await api.post("/me/reauthenticate", json={"recovery_code": codes[0]})
    used, proved = await watch.since()
    assert (used["type"], used["detail"]) == (EventType.RECOVERY_CODE_USED, {"left": 9})
    assert (proved["type"], proved["detail"]) == (
        EventType.REAUTHENTICATED,
        {"amr": ["recovery"]},
    )
    assert proved["session_id"] == session_id
    response = await api.post("/me/reauthenticate", json={"recovery_code": codes[0]})
    refused = await watch.one(EventType.REAUTHENTICATION_REFUSED, response)
    assert (refused["outcome"], refused["session_id"]) == ("refused", session_id)
    begun = await api.post("/login", json=credentials(alice.email, PASSWORD, strategy="token"))
    step = {"ticket": begun.json()["ticket"], "recovery_code": codes[0]}
    response = await api.post("/login/second-factor", json=step)
    refused = await watch.one(EventType.SECOND_FACTOR_REFUSED, response)
    assert (refused["outcome"], refused["user_id"]) == ("refused", alice.id)
    response = await api.post("/me/factors/recovery-codes")
    found = await watch.one(EventType.RECOVERY_CODES_MADE, response)
    assert (found["session_id"], found["detail"]) == (session_id, {})
    response = await api.delete("/me/factors/totp")
    found = await watch.one(EventType.FACTOR_REMOVED, response)
    assert (found["session_id"], found["detail"]) == (session_id, {"method": "totp"})


async def test_an_invitation(api: Client, watch: EventWatcher) -> None:
    bob = await api.services.accounts.registration.create(parse_email("bob@example.com"), None)
    async with api.services.database.transaction() as store:
        await EmailTokens(api.services.database, api.services.mail, api.services.settings).send(
            store, bob, MailKind.INVITATION
        )
    await watch.since()
    body = {"token": await link_in_mail(api, bob.email), "password": PASSWORD}
    response = await api.post("/invitation/accept", json=body)
    found = await watch.one(EventType.INVITATION_ACCEPTED, response)
    assert found["user_id"] == bob.id


async def test_people_at_providers(sqlite_url: str) -> None:
    async with visiting(settings_with_providers(sqlite_url)) as visitor:
        api = visitor.api
        user = await api.create_user("person1@example.com")
        refused = await visitor.log_in(person())
        assert "link-required" in refused.headers["location"]
        await api.login(user)
        begun = await api.post("/me/identities/acme", json={"continue": "/in"})
        await visitor.come_back(state_of(begun.json()["url"]), person())
        [linked] = (await api.get("/me/identities")).json()
        assert (await api.delete(f"/me/identities/{linked['id']}")).status_code == 204
        kinds = {
            EventType.FEDERATED_LOGIN_REFUSED,
            EventType.IDENTITY_LINKED,
            EventType.IDENTITY_UNLINKED,
        }
        found = [row for row in await rows(api) if row["type"] in kinds]
    assert [(row["type"], row["outcome"], row["detail"]) for row in found] == [
        (
            EventType.FEDERATED_LOGIN_REFUSED,
            "refused",
            {"provider": "acme", "reason": "link_required"},
        ),
        (EventType.IDENTITY_LINKED, "success", {"provider": "acme"}),
        (
            EventType.IDENTITY_UNLINKED,
            "success",
            {"provider": "acme", "identity_id": linked["id"], "sessions": 0},
        ),
    ]
    assert [row["user_id"] for row in found] == [user.id, user.id, user.id]


async def test_what_follows_a_restore(api: Client, alice: User, watch: EventWatcher) -> None:
    services, moment = api.services, datetime(2026, 11, 30, tzinfo=UTC)
    await watch.since()
    await AllSessions(services.database, services.audit).end(before=moment, keep_tokens=True)
    replay = EventReplay(services.database, services.audit, services.hooks, services.settings)
    await replay.run([], since=moment)
    ended, reapplied = await watch.since()
    assert ended["type"] == EventType.ALL_SESSIONS_ENDED
    assert ended["detail"] == {"before": moment.isoformat(), "kept_tokens": True}
    assert reapplied["type"] == EventType.EVENTS_REAPPLIED
    assert reapplied["detail"] == {"since": moment.isoformat(), "applied": 0, "refused": 0}
    assert ended["user_id"] is reapplied["user_id"] is None


def test_every_event_type_is_tested_above() -> None:
    # The tests above name every type they check.
    from pathlib import Path

    text = Path(__file__).read_text(encoding="utf-8")
    missing = [kind.name for kind in EventType if text.count(f"EventType.{kind.name}") == 0]
    assert missing == []


async def test_a_cross_site_request_is_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    await api.login(alice)
    foreign = {"sec-fetch-site": "cross-site"}
    assert (await api.patch("/me", json={"name": "x"}, headers=foreign)).status_code == 403
    assert [found["type"] for found in await watch.since()].count(EventType.ACCESS_REFUSED) == 1


async def test_accounts_created_by_operators_are_recorded(api: Client, watch: EventWatcher) -> None:
    await api.services.accounts.registration.create(
        parse_email("bob@example.com"), None, is_superuser=True
    )
    await watch.one(EventType.ACCOUNT_REGISTERED)


async def test_each_imported_account_is_recorded_once(api: Client, watch: EventWatcher) -> None:
    services = api.services
    importing = AccountImporter(services.database, services.audit, services.settings)
    lines = b'{"email":"alice@example.com"}\n{"email":"bob@example.com"}\n'
    for _ in range(2):
        await importing.run(BytesIO(lines), lambda *_: None)
    found = await watch.one(EventType.ACCOUNT_IMPORTED)
    bob = await services.accounts.profiles.find_by_email(parse_email("bob@example.com"))
    assert (found["user_id"], found["outcome"], found["ip"]) == (bob.id, "success", None)


async def test_reuse_of_a_refresh_token_is_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    login = (await api.login(alice, strategy="jwt")).json()
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    assert (await api.post("/token", data=form)).status_code == 200
    # A refresh is no event: there would be one every few minutes.
    await watch.one(EventType.LOGIN)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=1)):
        refused = await api.post("/token", data=form)
    assert refused.status_code == 400
    found = await watch.one(EventType.REFRESH_REUSE, refused)
    assert (found["user_id"], found["strategy"], found["outcome"]) == (alice.id, "jwt", "refused")


async def test_changes_of_signing_keys_are_recorded(api: Client, watch: EventWatcher) -> None:
    keys = api.services.keys
    active = await keys.rotate(early=True)
    found = await watch.one(EventType.KEY_ROTATED)
    assert (found["user_id"], found["detail"]) == (None, {"kid": active.kid})
    upcoming = next(
        key for key in (await keys.key_set()).stored if key.kid != active.kid and not key.retired_at
    )
    await keys.lifecycle.retire(upcoming.kid)
    assert (await watch.one(EventType.KEY_RETIRED))["detail"] == {"kid": upcoming.kid}
    await keys.lifecycle.rewrap(b"x" * 32)
    assert (await watch.one(EventType.KEYS_REWRAPPED))["detail"] == {}


async def test_what_superusers_do_with_queues_is_recorded(api: Client, watch: EventWatcher) -> None:
    services = api.services
    root = await api.create_user("root@example.com", is_superuser=True)
    await watch.one(EventType.ACCOUNT_REGISTERED)
    actor = Identity(root, "session", None, frozenset(), now(), ("pwd",), None)
    await services.queues.send_test_mail(actor=actor)
    found = await watch.one(EventType.MAIL_TESTED)
    assert (found["user_id"], found["actor_id"], found["detail"]) == (None, root.id, {})
    async with services.database.transaction() as store:
        # Without webhooks, the service has no worker of this kind.
        await services.outbox.enqueue(store, "webhook", "login", {})
        [entry] = await store.outbox.claim("webhook", now=now(), until=now(), limit=1)
        await store.outbox.mark_failed(entry, at=now(), error="away")
    await services.queues.retry("webhook", actor=actor)
    found = await watch.one(EventType.DELIVERIES_RETRIED)
    assert (found["actor_id"], found["detail"]) == (root.id, {"queue": "webhook", "count": 1})
    await services.queues._record_webhook_test("https://example.com/hooks", actor)
    found = await watch.one(EventType.WEBHOOK_TESTED)
    assert (found["actor_id"], found["detail"]) == (root.id, {"host": "example.com"})


async def test_a_leaked_token_is_recorded(api: Client, alice: User, watch: EventWatcher) -> None:
    token = (await api.login(alice, strategy="token")).json()["access_token"]
    await watch.one(EventType.LOGIN)
    place = {"url": "https://example.com/file", "source": "content"}
    await api.services.tokens.secret_scanning.revoke_leaked([ReportedToken(token, **place)])
    found = await watch.one(EventType.TOKEN_LEAKED)
    assert (found["user_id"], found["strategy"], found["detail"]) == (alice.id, "token", place)


async def test_a_repeated_invitation_is_recorded(api: Client, watch: EventWatcher) -> None:
    administration = api.services.accounts.administration
    carol = await administration.invite(parse_email("carol@example.com"))
    assert (await watch.one(EventType.ACCOUNT_INVITED))["user_id"] == carol.id
    await administration.resend_invitation(carol.id)
    assert (await watch.one(EventType.INVITATION_RESENT))["user_id"] == carol.id


async def test_a_link_that_a_superuser_sends_is_recorded(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    await api.services.accounts.administration.send_reset_link(alice.id)
    assert (await watch.one(EventType.PASSWORD_RESET_SENT))["user_id"] == alice.id


async def test_a_change_of_the_user_name_is_recorded(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(database_url=database_url, login_identifier="both")  # type: ignore[arg-type]
    caplog.set_level(logging.INFO, "authapi")
    async with client(create_app(settings)) as api:
        api.headers["user-agent"] = AGENT
        alice = await api.create_user("alice@example.com")
        await api.login(alice)
        watch = EventWatcher(api, caplog)
        await watch.since()
        for name in ("Alice", None):
            response = await api.patch("/me", json={"username": name})
            assert response.status_code == 200
            found = await watch.one(EventType.USERNAME_CHANGED, response)
            assert (found["user_id"], found["actor_id"]) == (alice.id, None)
            assert "Alice" not in repr(found)


async def test_changes_by_superusers_are_recorded_with_the_actor(
    api: Client, alice: User, watch: EventWatcher
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


async def test_changes_by_operators_have_no_actor(
    api: Client, alice: User, watch: EventWatcher
) -> None:
    for roles in (frozenset({"reader"}), frozenset[str]()):
        async with api.services.database.transaction() as store:
            audit = api.services.audit
            await set_roles(
                store, audit, await api.services.accounts.profiles.find(alice.id), roles
            )
        found = await watch.one(EventType.ROLES_CHANGED)
        assert (found["actor_id"], found["detail"]) == (None, {"roles": sorted(roles)})
