"""Accounts: logins and changes of accounts, also under concurrency."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from argon2 import low_level
from argon2.exceptions import VerifyMismatchError

from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.domain.username import Username
from authapi.errors import (
    EmailTaken,
    InvalidCredential,
    InvalidCredentials,
    InvalidInput,
    NotFound,
    Overloaded,
    PreconditionFailed,
    RegistrationClosed,
    WrongPassword,
)
from authapi.services import Lifetime, Services
from authapi.services.accounts.authentication import Authentication
from authapi.services.logins.proved import Proved
from authapi.services.passwords import Passwords
from authapi.settings import Settings
from authapi.testing import PASSWORD
from authapi.testing import Client as HTTPClient
from tests.storage.rows import sql, stored_users

ALICE = parse_email("Alice@example.com")
OTHER = PASSWORD[::-1]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The costs of the argon2 verifications so far."""
    done: list[str] = []
    verify_secret = low_level.verify_secret

    def counted(encoded: bytes, secret: bytes, kind: low_level.Type) -> bool:
        try:
            verify_secret(encoded, secret, kind)
        except VerifyMismatchError:
            done.append(encoded.decode().split("$")[3])
            raise
        done.append(encoded.decode().split("$")[3])
        return True

    monkeypatch.setattr(low_level, "verify_secret", counted)
    return done


async def log_in(services: Services, proved: Proved) -> tuple[Session, str]:
    """A cookie session for `proved`, and its secret."""
    secret = new_secret()
    session = await services.sessions.create(
        services.logins.complete_at_once(proved),
        SessionKind.SESSION,
        lifetime=Lifetime(timedelta(days=1)),
        secret=hash_secret(secret),
    )
    return session, secret


async def identify(services: Services, secret: str) -> Identity | None:
    return await services.sessions.identify_by_secret(
        hash_secret(secret), SessionKind.SESSION, strategy="session"
    )


async def hash_in(services: Services, user: User) -> str:
    async with services.database.read() as store:
        found = await store.users.find_credentials(user.id)
    assert found is not None
    assert found[1] is not None
    return found[1].text


async def test_authenticate_accepts_the_right_password(services_on_each: Services) -> None:
    accounts = services_on_each.accounts
    user = await accounts.registration.create(ALICE, PASSWORD, name="Alice")
    login = await accounts.authentication.authenticate(parse_email("ALICE@EXAMPLE.COM"), PASSWORD)
    assert login.user == user
    assert login.amr == ("pwd",)
    assert (user.email, user.name, user.is_active, user.is_superuser) == (
        *("Alice@example.com", "Alice", True, False),
    )
    assert PASSWORD not in repr(login)
    assert "argon2" not in repr(login)


@pytest.mark.real_hashes
async def test_every_refused_login_costs_the_same_work_and_raises_the_same_error(
    services: Services, work: list[str]
) -> None:
    accounts = services.accounts
    await accounts.registration.create(ALICE, PASSWORD)
    gone = await accounts.registration.create(parse_email("gone@example.com"), PASSWORD)
    await services.accounts.administration.change(gone.id, {"is_active": False})
    await accounts.registration.create(parse_email("invited@example.com"), None)
    refusals = set()
    for address, password in [
        ("alice@example.com", "wrong"),
        ("alice@example.com", ""),
        ("alice@example.com", PASSWORD + "x" * 2000),
        ("gone@example.com", PASSWORD),
        ("gone@example.com", "wrong"),
        ("invited@example.com", PASSWORD),
        ("invited@example.com", ""),
        ("nobody@example.com", PASSWORD),
        ("nobody@example.com", "nobody has this password"),
    ]:
        work.clear()
        with pytest.raises(InvalidCredentials) as caught:
            await accounts.authentication.authenticate(parse_email(address), password)
        assert work == ["m=19456,t=2,p=1"]
        refusals.add((type(caught.value), str(caught.value), caught.value.detail))
    assert len(refusals) == 1


@pytest.mark.real_hashes
async def test_a_damaged_hash_is_refused_with_the_same_work(
    services: Services, sqlite_url: str, work: list[str]
) -> None:
    await services.accounts.registration.create(ALICE, PASSWORD)
    sql(sqlite_url, "UPDATE authapi_users SET password_hash = substr(password_hash, 1, 60)")
    with pytest.raises(InvalidCredentials):
        await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    assert work == ["m=19456,t=2,p=1"]


@pytest.mark.real_hashes
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((19456, 2, 1), (19456, 3, 1), "m=19456,t=3,p=1"),
        ((19456, 3, 1), (19456, 2, 1), "m=19456,t=3,p=1"),
        ((20480, 2, 1), (19456, 3, 1), "m=20480,t=2,p=1"),
    ],
    ids=["stronger", "weaker", "neither"],
)
async def test_a_login_rehashes_with_stronger_parameters_only(
    sqlite_url: str,
    before: tuple[int, int, int],
    after: tuple[int, int, int],
    expected: str,
) -> None:
    hashes: list[str] = []
    for memory, passes, lanes in (before, after, after):
        services = Services.build(
            Settings(
                database_url=sqlite_url,  # type: ignore[arg-type]
                argon2_memory=memory,
                argon2_passes=passes,
                argon2_lanes=lanes,
            )
        )
        await services.start()
        if not hashes:
            await services.accounts.registration.create(ALICE, PASSWORD)
        login = await services.accounts.authentication.authenticate(ALICE, PASSWORD)
        # The login holds the hash that is stored now: with any other, creating a session fails.
        await log_in(services, login)
        hashes.append(await hash_in(services, login.user))
        with pytest.raises(InvalidCredentials):
            await services.accounts.authentication.authenticate(ALICE, OTHER)
        await services.stop()
    assert hashes[1].split("$")[3] == expected
    assert hashes[2] == hashes[1]
    assert (hashes[0] == hashes[1]) == (expected == hashes[0].split("$")[3])


async def test_a_failed_rehash_does_not_fail_the_login(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await services.accounts.registration.create(ALICE, PASSWORD)
    old = await hash_in(services, user)

    def outdated(*_: object) -> bool:
        return True

    async def overloaded(*_: object) -> None:
        raise Overloaded

    monkeypatch.setattr(Passwords, "needs_rehash", outdated)
    monkeypatch.setattr(Passwords, "hash", overloaded)
    await log_in(services, await services.accounts.authentication.authenticate(ALICE, PASSWORD))
    assert await hash_in(services, user) == old


async def test_concurrent_logins_that_rehash_all_succeed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await services.accounts.registration.create(ALICE, PASSWORD)
    old = await hash_in(services, user)

    def outdated(_: Passwords, stored: PasswordHash) -> bool:
        return stored.text == old

    monkeypatch.setattr(Passwords, "needs_rehash", outdated)
    logins = await asyncio.gather(
        *(services.accounts.authentication.authenticate(ALICE, PASSWORD) for _ in range(4)),
    )
    for login in logins:
        await log_in(services, login)
    assert await hash_in(services, user) != old


async def test_a_login_is_refused_if_the_password_changes_during_its_rehash(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await services.accounts.registration.create(ALICE, PASSWORD)
    old, hash_now = await hash_in(services, user), Passwords.hash

    def outdated(_: Passwords, stored: PasswordHash) -> bool:
        return stored.text == old

    async def overtaken(self: Passwords, password: str) -> PasswordHash:
        monkeypatch.setattr(Passwords, "hash", hash_now)
        await services.accounts.passwords.set(user.id, OTHER)
        return await self.hash(password)

    monkeypatch.setattr(Passwords, "needs_rehash", outdated)
    monkeypatch.setattr(Passwords, "hash", overtaken)
    with pytest.raises(InvalidCredentials):
        await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    await log_in(services, await services.accounts.authentication.authenticate(ALICE, OTHER))


Change = Callable[[Services, User], Awaitable[object]]


@pytest.mark.parametrize(
    ("strategy", "change"),
    [
        ("session", lambda services, user: services.accounts.passwords.set(user.id, OTHER)),
        (
            "token",
            lambda services, user: services.accounts.administration.change(
                user.id, {"is_active": False}
            ),
        ),
        ("jwt", lambda services, user: services.accounts.deletion.delete(user.id)),
    ],
    ids=["password", "deactivated", "deleted"],
)
async def test_a_login_is_refused_if_the_account_changes_during_authentication(
    api_on_each: HTTPClient, monkeypatch: pytest.MonkeyPatch, strategy: str, change: Change
) -> None:
    user = await api_on_each.create_user("alice@example.com")
    authenticate = Authentication.authenticate

    async def overtaken(
        self: Authentication,
        login_name: EmailAddress | Username,
        password: str,
        *,
        may_continue: bool = False,
        strategy: str | None = None,
        request: object = None,
    ) -> Proved:
        proved = await authenticate(
            self,
            login_name,
            password,
            may_continue=may_continue,
            strategy=strategy,
            request=request,
        )
        await change(api_on_each.services, user)
        return proved

    monkeypatch.setattr(Authentication, "authenticate", overtaken)
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy}
    answer = await api_on_each.post("/login", json=body)
    assert answer.status_code == 401
    assert answer.json()["code"] == "invalid_credentials"
    assert "set-cookie" not in answer.headers
    assert await api_on_each.services.sessions.list_for_user(user.id) == []


async def test_one_of_concurrent_password_changes_succeeds(services_on_each: Services) -> None:
    accounts = services_on_each.accounts
    await accounts.registration.create(ALICE, PASSWORD)
    session, secret = await log_in(
        services_on_each, await accounts.authentication.authenticate(ALICE, PASSWORD)
    )
    caller = await identify(services_on_each, secret)
    assert caller is not None
    outcomes = await asyncio.gather(
        *(
            accounts.passwords.change(
                caller, current=PASSWORD, new=f"{OTHER} {n}", new_secret_hash=None
            )
            for n in range(5)
        ),
        return_exceptions=True,
    )
    assert Counter(type(outcome) for outcome in outcomes) == {int: 1, WrongPassword: 4}
    await accounts.authentication.authenticate(ALICE, f"{OTHER} {outcomes.index(0)}")
    assert [
        found.id for found in await services_on_each.sessions.list_for_user(caller.user.id)
    ] == [session.id]


async def test_change_password_ends_all_sessions_but_the_current_one(
    services_on_each: Services,
) -> None:
    services = services_on_each
    await services.accounts.registration.create(ALICE, PASSWORD)
    login = await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    session, secret = await log_in(services, login)
    _, other = await log_in(services, login)
    caller = await identify(services, secret)
    assert caller is not None
    await services.tokens.personal.create(caller, name="script", scopes=None, lifetime=None)
    stranger = await services.accounts.registration.create(parse_email("bob@example.com"), PASSWORD)
    strangers = await log_in(
        services,
        await services.accounts.authentication.authenticate(
            parse_email("bob@example.com"), PASSWORD
        ),
    )

    await services.accounts.passwords.change(
        caller, current=PASSWORD, new=OTHER, new_secret_hash=hash_secret("renewed")
    )
    assert await identify(services, other) is None
    # A concurrent request may still use the previous secret. It is refused as out of date.
    with pytest.raises(InvalidCredential):
        await identify(services, secret)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2), tick=False):
        assert await identify(services, secret) is None
    renewed = await identify(services, "renewed")
    assert renewed is not None
    assert renewed.session_id == session.id
    assert await services.tokens.personal.list_of(caller.user.id) == []
    assert [found.id for found in await services.sessions.list_for_user(stranger.id)] == [
        strangers[0].id
    ]
    await services.accounts.authentication.authenticate(ALICE, OTHER)
    with pytest.raises(InvalidCredentials):
        await services.accounts.authentication.authenticate(ALICE, PASSWORD)


async def test_a_refused_password_change_changes_nothing(services: Services) -> None:
    accounts = services.accounts
    user = await accounts.registration.create(ALICE, PASSWORD)
    _, secret = await log_in(services, await accounts.authentication.authenticate(ALICE, PASSWORD))
    caller = await identify(services, secret)
    assert caller is not None
    before = await hash_in(services, user)
    for current, new, refusal in [
        ("wrong", OTHER, WrongPassword),
        ("", OTHER, WrongPassword),
        (PASSWORD, "short", InvalidInput),
        (PASSWORD, "x" * 1025, InvalidInput),
        (PASSWORD, PASSWORD, InvalidInput),
    ]:
        with pytest.raises(refusal):
            await accounts.passwords.change(caller, current=current, new=new, new_secret_hash=None)
    assert await hash_in(services, user) == before
    assert await identify(services, secret) is not None


async def test_set_password_ends_all_sessions(services: Services) -> None:
    user = await services.accounts.registration.create(ALICE, None)
    await services.accounts.passwords.set(user.id, PASSWORD)
    _, secret = await log_in(
        services, await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    )
    with pytest.raises(InvalidInput):
        await services.accounts.passwords.set(user.id, "short")
    assert await identify(services, secret) is not None
    await services.accounts.passwords.set(user.id, OTHER)
    assert await identify(services, secret) is None
    await services.accounts.authentication.authenticate(ALICE, OTHER)


async def test_deactivation_ends_all_sessions_and_activation_restores_none(
    services_on_each: Services,
) -> None:
    services = services_on_each
    user = await services.accounts.registration.create(ALICE, PASSWORD)
    _, secret = await log_in(
        services, await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    )
    assert not (
        await services.accounts.administration.change(user.id, {"is_active": False})
    ).is_active
    assert await identify(services, secret) is None
    with pytest.raises(InvalidCredentials):
        await services.accounts.authentication.authenticate(ALICE, PASSWORD)
    assert (await services.accounts.administration.change(user.id, {"is_active": True})).is_active
    assert await identify(services, secret) is None
    await services.accounts.authentication.authenticate(ALICE, PASSWORD)


async def test_updated_at_strictly_increases(services: Services) -> None:
    # ETags are derived from `updated_at`, and the clock may stand still or be set back.
    with time_machine.travel(NOON, tick=False) as clock:
        user = await services.accounts.registration.create(ALICE, PASSWORD)
        seen = [user.updated_at]
        for name, step in (("a", 0), ("b", 0), ("a", -3600), (None, 0)):
            clock.shift(step)
            changed = await services.accounts.profiles.edit(
                user.id, {"name": name}, is_stale=lambda _: False
            )
            assert changed.name == name
            seen.append(changed.updated_at)
        unchanged = await services.accounts.profiles.edit(
            user.id, {"name": None}, is_stale=lambda _: False
        )
    assert seen == sorted(set(seen))
    assert unchanged.updated_at == seen[-1]


async def test_edit_refuses_a_stale_version(services: Services) -> None:
    user = await services.accounts.registration.create(ALICE, PASSWORD, name="before")
    asked: list[User] = []

    def changed(current: User) -> bool:
        asked.append(current)
        return True

    with pytest.raises(PreconditionFailed):
        await services.accounts.profiles.edit(user.id, {"name": "after"}, is_stale=changed)
    assert asked == [user]
    assert (await services.accounts.profiles.find(user.id)).name == "before"


async def test_operators_create_accounts_while_registration_is_closed(sqlite_url: str) -> None:
    services = Services.build(Settings(database_url=sqlite_url, registration="closed"))  # type: ignore[arg-type]
    await services.start()
    with pytest.raises(RegistrationClosed):
        await services.accounts.registration.register(ALICE, PASSWORD, name=None)
    await services.accounts.registration.create(ALICE, PASSWORD)
    with pytest.raises(EmailTaken):
        await services.accounts.registration.create(parse_email("alice@EXAMPLE.com"), PASSWORD)
    await services.stop()


async def test_calls_on_a_deleted_account_raise_not_found(services_on_each: Services) -> None:
    accounts = services_on_each.accounts
    user = await accounts.registration.create(ALICE, PASSWORD)
    assert await accounts.profiles.find_by_email(parse_email("alice@example.com")) == user
    assert await stored_users(services_on_each.database) == [user]
    await accounts.deletion.delete(user.id)
    for attempt in (
        accounts.profiles.find(user.id),
        accounts.profiles.find_by_email(ALICE),
        accounts.profiles.edit(user.id, {"name": "x"}, is_stale=lambda _: False),
        accounts.administration.change(user.id, {"is_active": True}),
        accounts.passwords.set(user.id, PASSWORD),
        accounts.deletion.delete(user.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await stored_users(services_on_each.database) == []
    again = await accounts.registration.create(ALICE, PASSWORD)
    assert again.id != user.id
