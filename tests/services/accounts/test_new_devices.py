"""Logins from a new device and network: which are told, how many, and the token that ends one."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy import event as sql_event

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidOneTimeSecret
from authapi.services import Lifetime, Login, Services
from authapi.services.accounts import new_devices
from authapi.services.mail import MailKind
from authapi.settings import Settings
from tests.clocks import travel_to
from tests.storage.rows import HASH, sql
from tests.tables import events
from tests.web.mailbox import keep_mail, mail_kinds, secret_in

ALICE = "alice@example.com"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
NEWER = FIREFOX.replace("140.0", "153.0")
HOME, AWAY = "192.0.2.1", "198.51.100.1"
DAY = timedelta(days=1)


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(Settings(database_url=database_url))  # type: ignore[arg-type]
    keep_mail(found)
    await found.open()
    yield found
    await found.stop()


@pytest.fixture
async def alice(services: Services) -> User:
    """An account with a confirmed address, without a login."""
    return await an_account(services)


async def an_account(services: Services, *, confirmed: bool = True) -> User:
    user = await services.accounts.registration.create(parse_email(ALICE), None)
    async with services.database.transaction() as store:
        await store.users.set_password(user.id, HASH, at=now())
        if confirmed:
            await store.users.confirm_email(user.id, at=now())
    return await services.accounts.profiles.find(user.id)


async def a_login(services: Services, user: User) -> Login:
    async with services.database.read() as store:
        found = await store.users.find_credentials(user.id)
    assert found is not None
    return Login(user=user, credentials_version=found.version, auth_time=now(), amr=("pwd",))


async def log_in(
    services: Services,
    user: User,
    user_agent: str | None = FIREFOX,
    ip: str | None = HOME,
    kind: SessionKind = SessionKind.TOKEN,
) -> UUID:
    """Creates a session for a request of this client; returns its id."""
    login = await a_login(services, user)
    with on_behalf_of(lambda: Client(ip=ip, user_agent=user_agent, request_id="0" * 32)):
        session = await services.sessions.create(
            login, kind, lifetime=Lifetime(30 * DAY), secret=hash_secret(new_secret())
        )
    return session.id


async def told(services: Services) -> int:
    """The number of mails about new devices so far."""
    return (await mail_kinds(services)).count("new_device")


async def types(services: Services, user: User) -> list[str]:
    return [event.type.value for event in await services.audit.page(user.id, before=None, limit=99)]


async def test_first_login_of_an_account_is_not_told(services: Services, alice: User) -> None:
    await log_in(services, alice)
    assert await told(services) == 0
    assert EventType.NEW_DEVICE not in await types(services, alice)
    await log_in(services, alice, "curl/8", AWAY)
    assert await told(services) == 1


@pytest.mark.parametrize(
    ("user_agent", "ip", "is_new"),
    [
        (FIREFOX, HOME, False),
        (NEWER, HOME, False),
        (FIREFOX, AWAY, True),
        ("curl/8.5.0", HOME, True),
        (None, HOME, True),
        (FIREFOX, None, True),
        (FIREFOX.replace("Windows NT 10.0", "X11; Linux x86_64"), HOME, True),
    ],
)
async def test_device_and_network_must_both_be_known(
    services: Services, alice: User, user_agent: str | None, ip: str | None, is_new: bool
) -> None:
    await log_in(services, alice)
    session_id = await log_in(services, alice, user_agent, ip)
    assert await told(services) == is_new
    await log_in(services, alice, user_agent, ip)  # known in every case
    assert await told(services) == is_new
    events = await services.audit.page(alice.id, before=None, limit=99)
    new = [event.session_id for event in events if event.type is EventType.NEW_DEVICE]
    assert new == [session_id] * is_new


async def test_network_of_ipv6_has_64_bits(services: Services, alice: User) -> None:
    await log_in(services, alice, ip="2001:db8::1")
    await log_in(services, alice, ip="2001:db8::2:3")
    assert await told(services) == 0
    await log_in(services, alice, ip="2001:db8:0:1::1")
    assert await told(services) == 1


async def test_clients_without_address_are_one_network(services: Services, alice: User) -> None:
    for _ in range(2):
        await log_in(services, alice, ip=None)
    assert await told(services) == 0
    await log_in(services, alice, "curl/8", ip=None)
    assert await told(services) == 1


async def test_device_is_known_for_90_days(services: Services) -> None:
    with travel_to(NOON) as clock:
        alice = await an_account(services)
        await log_in(services, alice)
        clock.shift(90 * DAY - timedelta(seconds=1))
        await log_in(services, alice)
        assert await told(services) == 0
        clock.shift(90 * DAY + timedelta(seconds=1))
        await log_in(services, alice)
        assert await told(services) == 1, "all logins are older than 90 days"


async def test_account_without_any_events_is_told(
    services: Services, alice: User, database_url: str
) -> None:
    # Its beginning is older than `events_retention`.
    sql(database_url, "DELETE FROM authapi_events")
    await log_in(services, alice)
    assert await told(services) == 1


async def test_login_of_another_account_does_not_make_a_device_known(
    services: Services, alice: User
) -> None:
    bob = await services.accounts.registration.create(parse_email("bob@example.com"), None)
    async with services.database.transaction() as store:
        await store.users.set_password(bob.id, HASH, at=now())
    await log_in(services, bob, ip=AWAY)
    await log_in(services, alice)
    await log_in(services, alice, ip=AWAY)
    assert await told(services) == 1


async def test_refused_login_does_not_make_a_device_known(services: Services, alice: User) -> None:
    await log_in(services, alice)
    with on_behalf_of(lambda: Client(ip=AWAY, user_agent=FIREFOX, request_id="0" * 32)):
        await services.audit.record_separately(EventType.LOGIN_REFUSED, user_id=alice.id)
    await log_in(services, alice, ip=AWAY)
    assert await told(services) == 1


async def test_unconfirmed_address_gets_no_mail(services: Services) -> None:
    alice = await an_account(services, confirmed=False)
    await log_in(services, alice)
    await log_in(services, alice, ip=AWAY)
    assert await told(services) == 0
    assert EventType.NEW_DEVICE not in await types(services, alice)


async def test_nothing_is_mailed_where_no_mail_is_sent(database_url: str) -> None:
    settings = Settings(database_url=database_url, mail_url="none:")  # type: ignore[arg-type]
    services = Services.build(settings)
    await services.open()
    alice = await an_account(services)
    for ip in (HOME, AWAY):
        await log_in(services, alice, ip=ip)
    assert EventType.NEW_DEVICE not in await types(services, alice)
    assert sql(database_url, "SELECT count(*) FROM authapi_email_tokens") == [(0,)]
    await services.stop()


async def test_login_without_a_request_is_not_told(services: Services, alice: User) -> None:
    await log_in(services, alice)
    login = await a_login(services, alice)
    await services.sessions.create(login, SessionKind.TOKEN, lifetime=Lifetime(DAY))
    assert await told(services) == 0


async def test_http_basic_is_not_told_and_makes_a_device_known(
    services: Services, alice: User
) -> None:
    await log_in(services, alice)
    with on_behalf_of(lambda: Client(ip=AWAY, user_agent=FIREFOX, request_id="0" * 32)):
        await services.audit.record_login_without_session(alice.id, "basic")
    assert await told(services) == 0
    await log_in(services, alice, ip=AWAY)
    assert await told(services) == 0


async def test_five_mails_are_sent_in_a_day(services: Services) -> None:
    with travel_to(NOON) as clock:
        alice = await an_account(services)
        await log_in(services, alice)
        for number in range(8):
            await log_in(services, alice, ip=f"198.51.100.{number}")
            clock.shift(timedelta(hours=1))
        assert await told(services) == 5
        assert (await types(services, alice)).count(EventType.NEW_DEVICE) == 5
        # The owner who uses the links does not make room for further mails.
        await services.accounts.new_devices.disown(await secret_in(services, "new_device", ALICE))
        await log_in(services, alice, ip="198.51.100.100")
        assert await told(services) == 5
        clock.move_to(NOON + DAY + timedelta(minutes=1))
        await log_in(services, alice, ip="198.51.100.200")
        assert await told(services) == 6, "the first of the five is older than a day"
        await log_in(services, alice, ip="198.51.100.201")
        assert await told(services) == 6


async def test_concurrent_logins_from_one_device_are_told_once(
    services: Services, alice: User
) -> None:
    await log_in(services, alice)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(log_in, services, alice, "curl/8", AWAY)
    assert await told(services) == 1
    assert len(await services.sessions.list_for_user(alice.id)) == 51


async def test_search_for_the_device_is_bounded(
    services: Services, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new_devices, "_MAX_LOGINS", 3)
    await log_in(services, alice)
    for _ in range(2):
        await log_in(services, alice, "curl/8")
    assert await told(services) == 1
    await log_in(services, alice)  # the third newest login is by this device
    assert await told(services) == 1
    for _ in range(3):
        await log_in(services, alice, "curl/8")
    await log_in(services, alice)
    assert await told(services) == 2


async def test_known_device_costs_one_query(services: Services, alice: User) -> None:
    await log_in(services, alice)
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    engine = services.database.engine.sync_engine
    sql_event.listen(engine, "before_cursor_execute", count)
    await log_in(services, alice)
    confirmed, statements[:] = [*statements], []
    sql_event.remove(engine, "before_cursor_execute", count)
    assert sum("FROM authapi_events" in statement for statement in confirmed) == 1


def login_of_another() -> dict[str, object]:
    return {
        "id": new_id(),
        "at": now(),
        "type": EventType.LOGIN,
        "outcome": "success",
        "user_id": new_id(),
        "network": "192.0.2.0/24",
        "detail": {},
    }


async def test_the_queries_use_an_index(services: Services, alice: User) -> None:
    statements: list[tuple[str, Any]] = []

    def keep(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        if "FROM authapi_events" in statement:
            statements.append((statement, values))

    engine = services.database.engine.sync_engine
    await log_in(services, alice)
    sql_event.listen(engine, "before_cursor_execute", keep)
    await log_in(services, alice, ip=AWAY)
    sql_event.remove(engine, "before_cursor_execute", keep)
    assert len(statements) == 2
    async with services.database.engine.begin() as connection:
        # Recent logins of other accounts: without rows and statistics, a plan is arbitrary.
        await connection.execute(sa.insert(events), [login_of_another() for _ in range(3000)])
        await connection.exec_driver_sql("ANALYZE")
        explain = "EXPLAIN" if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN"
        for statement, values in statements:
            rows = await connection.exec_driver_sql(f"{explain} {statement}", values)
            plan = [row[-1] for row in rows if "authapi_events" in row[-1]]
            assert plan
            assert all("ix_authapi_events_user_id" in line for line in plan), plan


async def test_failed_mail_fails_the_login(
    services: Services, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log_in(services, alice)

    async def fails(*_: object, **__: object) -> None:
        raise OSError("at the last moment")

    monkeypatch.setattr(services.mail._outbox, "enqueue", fails)
    with pytest.raises(OSError, match="last moment"):
        await log_in(services, alice, ip=AWAY)
    assert await types(services, alice) == ["login", "account_registered"]
    assert len(await services.sessions.list_for_user(alice.id)) == 1


# The token in the link ----------------------------------------------------------------------------


async def test_link_ends_its_login_alone(services: Services, alice: User) -> None:
    first = await log_in(services, alice)
    foreign = await log_in(services, alice, ip=AWAY)
    later = await log_in(services, alice, ip="198.51.100.2")
    secrets = [mail for mail in await mail_kinds(services) if mail == "new_device"]
    assert len(secrets) == 2
    await services.accounts.new_devices.disown(await secret_in(services, "new_device", ALICE))
    assert {it.id for it in await services.sessions.list_for_user(alice.id)} == {first, foreign}
    assert later not in {first, foreign}


async def test_link_works_for_7_days(services: Services) -> None:
    with travel_to(NOON) as clock:
        alice = await an_account(services)
        await log_in(services, alice)
        await log_in(services, alice, ip=AWAY)
        secret = await secret_in(services, "new_device", ALICE)
        clock.shift(7 * DAY)
        with pytest.raises(InvalidOneTimeSecret):
            await services.accounts.new_devices.disown(secret)
        clock.shift(timedelta(seconds=-1))
        await services.accounts.new_devices.disown(secret)
        assert len(await services.sessions.list_for_user(alice.id)) == 1


async def test_expired_link_is_deleted(services: Services, database_url: str) -> None:
    with travel_to(NOON) as clock:
        alice = await an_account(services)
        await log_in(services, alice)
        await log_in(services, alice, ip=AWAY)
        clock.shift(7 * DAY)
        await services.cleanup.run_once()
        assert sql(database_url, "SELECT count(*) FROM authapi_email_tokens") == [(0,)]


async def test_link_survives_changes_that_the_attacker_may_have_made(
    services: Services, alice: User, database_url: str
) -> None:
    home = await log_in(services, alice)
    foreign = await log_in(services, alice, ip=AWAY)
    secret = await secret_in(services, "new_device", ALICE)
    await services.accounts.email_changes.change_for_operator(
        alice.id, parse_email("mallory@example.com")
    )
    async with services.database.transaction() as store:
        await store.users.set_password(alice.id, HASH, at=now())
    await services.accounts.new_devices.disown(secret)
    assert {it.id for it in await services.sessions.list_for_user(alice.id)} == {home}
    assert foreign != home


async def test_link_of_an_account_that_is_deactivated_or_deleted_does_not_work(
    services: Services, alice: User
) -> None:
    await log_in(services, alice)
    await log_in(services, alice, ip=AWAY)
    secret = await secret_in(services, "new_device", ALICE)
    await services.accounts.administration.change(alice.id, {"is_active": False})
    with pytest.raises(InvalidOneTimeSecret):
        await services.accounts.new_devices.disown(secret)
    await services.accounts.deletion.delete(alice.id)
    with pytest.raises(InvalidOneTimeSecret):
        await services.accounts.new_devices.disown(secret)


async def test_link_of_an_ended_login_is_used_up(services: Services, alice: User) -> None:
    await log_in(services, alice)
    foreign = await log_in(services, alice, ip=AWAY)
    secret = await secret_in(services, "new_device", ALICE)
    assert await services.sessions.end(foreign) == 1
    await services.accounts.new_devices.disown(secret)
    assert (await types(services, alice)).count("session_ended") == 1
    with pytest.raises(InvalidOneTimeSecret):
        await services.accounts.new_devices.disown(secret)


@pytest.mark.parametrize("purpose", [it for it in Purpose if it is not Purpose.DISOWN])
async def test_token_for_another_purpose_ends_no_login(
    services: Services, alice: User, purpose: Purpose
) -> None:
    session_id = await log_in(services, alice)
    email_tokens = services.accounts.new_devices._email_tokens
    async with services.database.transaction() as store:
        await store.users.lock(alice.id)
        issued = await email_tokens.issue(store, alice, purpose, session_id=session_id)
    with pytest.raises(InvalidOneTimeSecret):
        await services.accounts.new_devices.disown(issued.text)
    assert len(await services.sessions.list_for_user(alice.id)) == 1


@pytest.mark.parametrize("purpose", [it for it in Purpose if it is not Purpose.DISOWN])
async def test_link_serves_no_other_purpose(
    services: Services, alice: User, purpose: Purpose
) -> None:
    await log_in(services, alice)
    await log_in(services, alice, ip=AWAY)
    secret = await secret_in(services, "new_device", ALICE)
    with pytest.raises(InvalidOneTimeSecret):
        await services.accounts.new_devices._email_tokens.peek(secret, purpose)


async def test_each_login_has_its_own_link(services: Services, alice: User) -> None:
    await log_in(services, alice)
    secrets = []
    for number in range(3):
        await log_in(services, alice, ip=f"198.51.100.{number}")
        secrets.append(await secret_in(services, "new_device", ALICE))
    assert len({*secrets}) == 3
    async with services.database.transaction() as store:
        await store.users.lock(alice.id)
        await services.accounts.new_devices._email_tokens.send(store, alice, MailKind.RESET)
    for remaining, secret in zip((3, 2, 1), secrets, strict=True):
        await services.accounts.new_devices.disown(secret)
        assert len(await services.sessions.list_for_user(alice.id)) == remaining
