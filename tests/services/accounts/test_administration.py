"""Administration: lists of accounts, changes by superusers, and invitations."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret
from authapi.domain.email_address import canonical_prefix, parse_email
from authapi.domain.email_token import EmailToken, Purpose
from authapi.domain.events import EventFilter, EventType
from authapi.domain.identity import Identity
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.errors import (
    EmailTaken,
    InvalidCredential,
    InvalidInput,
    LastSuperuser,
    MailDisabled,
    NotFound,
    OwnAccount,
    Refusal,
    SuperuserRequired,
)
from authapi.services import Services
from authapi.services.accounts.administration import AccountChanges
from authapi.settings import Settings
from tests.storage.rows import HASH, sql, stored_users
from tests.web.logins import sign_in


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        scopes={"a": "A"},
        roles={"reader": frozenset({"a"}), "base": frozenset()},
        default_roles=("base",),
    )
    found = Services.build(settings)
    await found.start()
    yield found
    await found.stop()


async def a_superuser(services: Services, email: str) -> User:
    return await services.accounts.registration.create(parse_email(email), None, is_superuser=True)


def acting(user: User) -> Identity:
    return Identity(user, "session", None, frozenset(), now(), ("pwd",), None)


async def superusers(services: Services) -> set[UUID]:
    page = await services.accounts.administration.page(
        UserFilter(superuser=True, active=True), limit=200
    )
    return {user.id for user in page.items}


async def last_events(
    services: Services, user: UUID, count: int
) -> list[tuple[EventType, UUID | None]]:
    found = await services.audit.search(EventFilter(user_id=user), limit=count)
    return [(event.type, event.actor_id) for event in found]


# Lists.


async def add_many(services: Services, count: int) -> list[User]:
    at, made = now(), []
    for number in range(count):
        # Three accounts per time, so the id decides their order.
        begun = at + timedelta(microseconds=number // 3)
        name = f"{'ABC'[number % 3]}{number % 7}_{number}"
        user = User(
            new_id(), f"{name}@Example.com", None, number % 2 == 0, False, None, begun, begun
        )
        made.append(user)
        async with services.database.transaction() as store:
            await store.users.add(user, email=user.email.lower(), password_hash=HASH)
    return made


@pytest.mark.parametrize("order", UserOrder)
async def test_pages_list_every_account_once_in_order(services: Services, order: UserOrder) -> None:
    made = await add_many(services, 31)
    seen: list[User] = []
    after = None
    while True:
        page = await services.accounts.administration.page(
            UserFilter(), order=order, after=after, limit=7
        )
        seen += page.items
        if page.next is None:
            break
        after = page.next
        # Accounts are added and deleted between pages, also the last account of a page.
        await services.accounts.deletion.delete(page.items[-1].id)
        async with services.database.transaction() as store:
            early, late = now() - timedelta(days=9), now() + timedelta(days=9)
            for name, at in ((f"0{len(seen)}", early), (f"zz{len(seen)}", late)):
                new = User(new_id(), f"{name}@x.org", None, True, False, None, at, at)
                await store.users.add(new, email=new.email, password_hash=None)
    ids = [user.id for user in seen]
    assert len(ids) == len(set(ids))
    assert set(ids) >= {user.id for user in made}
    if order in (UserOrder.OLDEST, UserOrder.NEWEST):
        keys = [(user.created_at, user.id) for user in seen]
        assert keys == sorted(keys, reverse=order is UserOrder.NEWEST)
    else:
        emails = [user.email.lower() for user in seen]
        both = [list(emails), sorted(emails)]
        # Databases sort underscores differently, so only the direction is compared.
        assert (emails[0] > emails[-1]) == (order is UserOrder.EMAIL_DESCENDING), both


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", 8),
        ("AL", 3),
        ("al_", 1),
        ("al%", 1),
        ("al%_", 0),
        ("%", 0),
        ("_", 0),
        ("alx@example.", 1),
        ("ALX@EXAMPLE.COM", 1),
        ("back\\", 0),
        ("u@b\u00fccher.", 1),
        ("U@B\u00fccher.example", 1),
        ("u@b\u00fc", 0),  # an internationalized label matches once it is complete
        ("u@xn--", 1),
        ("\u0430l", 0),
        ("' OR 1=1 --", 0),
        ("quote'", 1),
    ],
)
async def test_a_prefix_is_matched_literally(
    services: Services, prefix: str, expected: int
) -> None:
    for email in (
        *("al_@example.com", "al%x@example.com", "ALX@example.com", "bob@example.com"),
        *("xal@example.com", "u@b\u00fccher.example", "quote'@example.com", "zoe@example.com"),
    ):
        await services.accounts.registration.create(parse_email(email), None)
    wanted = UserFilter(email_prefix=canonical_prefix(prefix))
    found = (await services.accounts.administration.page(wanted, limit=100)).items
    assert len(found) == expected, [user.email for user in found]


async def test_filters_combine_with_and(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    bob, cleo, _ = [
        await services.accounts.registration.create(parse_email(f"{name}@example.com"), None)
        for name in ("bob", "cleo", "dan")
    ]
    administration = services.accounts.administration
    await administration.change(bob.id, {"roles": frozenset({"reader"})})
    await administration.change(cleo.id, {"roles": frozenset({"reader"}), "is_active": False})
    url = services.settings.resolved_database_url
    sql(
        url,
        "UPDATE authapi_users SET email_confirmed_at = created_at WHERE email = 'dan@example.com'",
    )

    async def emails(**wanted: object) -> set[str]:
        page = await administration.page(UserFilter(**wanted))  # type: ignore[arg-type]
        return {user.email.partition("@")[0] for user in page.items}

    assert await emails() == {"ada", "bob", "cleo", "dan"}
    assert await emails(active=True) == {"ada", "bob", "dan"}
    assert await emails(active=False) == {"cleo"}
    assert await emails(confirmed=True) == {"dan"}
    assert await emails(confirmed=False) == {"ada", "bob", "cleo"}
    assert await emails(superuser=True) == {"ada"}
    assert await emails(superuser=False) == {"bob", "cleo", "dan"}
    assert await emails(role="reader") == {"bob", "cleo"}
    assert (
        await emails(role="read") == await emails(role="%") == await emails(role="_eader") == set()
    )
    # Every account has the default role, which is not stored.
    assert await emails(role="base") == {"ada", "bob", "cleo", "dan"}
    assert await emails(role="reader", active=True, email_prefix="b") == {"bob"}
    assert ada.is_superuser


# Superusers.


async def test_one_of_two_mutual_demotions_succeeds(services: Services) -> None:
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    change = services.accounts.administration.change
    for _ in range(25):
        results = await asyncio.gather(
            change(bob.id, {"is_superuser": False}, actor=acting(ada)),
            change(ada.id, {"is_superuser": False}, actor=acting(bob)),
            return_exceptions=True,
        )
        # The first demotion succeeded, and the second actor was no longer a superuser.
        refused = [item for item in results if isinstance(item, BaseException)]
        assert [type(item) for item in refused] == [SuperuserRequired], results
        [left] = await superusers(services)
        assert left == (ada.id if isinstance(results[1], SuperuserRequired) else bob.id)
        for user in (ada, bob):
            await change(user.id, {"is_superuser": True})


@pytest.mark.parametrize("how", ["command", "own hand"])
async def test_one_of_two_concurrent_removals_of_the_last_superusers_succeeds(
    services: Services, how: str
) -> None:
    """The transactions lock different rows, so only the advisory lock orders them."""
    for number in range(10):
        pair = [await a_superuser(services, f"{name}{number}@example.com") for name in "ab"]
        others = await superusers(services) - {user.id for user in pair}
        for user_id in others:
            await services.accounts.deletion.delete(user_id)
        going: list[Awaitable[object]]
        if how == "command":
            change = services.accounts.administration.change
            going = [change(user.id, {"is_superuser": False}) for user in pair]
        else:
            delete_own = services.accounts.deletion.delete_own
            going = [delete_own(acting(user)) for user in pair]
        results = await asyncio.gather(*going, return_exceptions=True)
        refused = [type(item) for item in results if isinstance(item, BaseException)]
        assert refused == [LastSuperuser], results
        assert len(await superusers(services)) == 1


async def test_one_superuser_remains_after_any_concurrent_removals(services: Services) -> None:
    """Demoted, deactivated and deleted: by operators, by themselves and by each other."""
    administration, accounts = services.accounts.administration, services.accounts
    for number in range(8):
        crowd = [await a_superuser(services, f"{n}-{number}@example.com") for n in range(6)]
        present = await superusers(services)
        everybody = [user for user in crowd if user.id in present]
        rest = present - {user.id for user in crowd}
        first, second, third, fourth, fifth, sixth = everybody
        results = await asyncio.gather(
            administration.change(first.id, {"is_superuser": False}),
            administration.change(second.id, {"is_active": False}),
            accounts.deletion.delete(third.id),
            accounts.deletion.delete_own(acting(fourth)),
            administration.change(fifth.id, {"is_active": False}),
            administration.change(sixth.id, {"is_superuser": False}, actor=acting(first)),
            *(accounts.deletion.delete(user_id) for user_id in rest),
            return_exceptions=True,
        )
        for item in results:
            assert not isinstance(item, BaseException) or isinstance(item, Refusal), results
        left = await superusers(services)
        assert len(left) == 1 or (len(left) == 2 and sixth.id in left), results


async def test_the_last_superuser_cannot_be_removed(services: Services) -> None:
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    administration = services.accounts.administration
    # A deactivated superuser does not count.
    await administration.change(bob.id, {"is_active": False})
    tries: list[AccountChanges] = [{"is_superuser": False}, {"is_active": False}]
    tries.append({"is_active": True, "is_superuser": False, "name": "changed"})
    for changes in tries:
        with pytest.raises(LastSuperuser):
            await administration.change(ada.id, changes)
    with pytest.raises(LastSuperuser):
        await services.accounts.deletion.delete(ada.id)
    with pytest.raises(LastSuperuser):
        await services.accounts.deletion.delete_own(acting(ada))
    with pytest.raises(LastSuperuser):
        await services.accounts.administration.change(ada.id, {"is_active": False})
    assert await services.accounts.profiles.find(ada.id) == ada
    assert await last_events(services, ada.id, 9) == [(EventType.ACCOUNT_REGISTERED, None)]
    await administration.change(bob.id, {"is_active": True})
    await administration.change(ada.id, {"is_superuser": False, "is_active": False})
    assert await superusers(services) == {bob.id}


async def test_a_superuser_cannot_act_on_their_own_account(services: Services) -> None:
    ada, _ = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    administration, me = services.accounts.administration, acting(ada)
    tries: list[AccountChanges] = [
        {"is_superuser": False},
        {"is_superuser": True},
        {"is_active": False},
        {"roles": frozenset({"reader"})},
        {"name": "x", "roles": frozenset()},
    ]
    for changes in tries:
        with pytest.raises(OwnAccount):
            await administration.change(ada.id, changes, actor=me)
    with pytest.raises(OwnAccount):
        await services.accounts.deletion.delete(ada.id, actor=me)
    assert await services.accounts.profiles.find(ada.id) == ada
    assert (await administration.change(ada.id, {"name": "Ada"}, actor=me)).name == "Ada"


async def test_a_demoted_superuser_is_refused_inside_the_transaction(services: Services) -> None:
    """The identity is from before the demotion; the transaction checks the flag again."""
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    carol = await services.accounts.registration.create(parse_email("carol@example.com"), None)
    administration, former = services.accounts.administration, acting(bob)
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: administration.change(carol.id, {"name": "x"}, actor=former),
        lambda: administration.end_sessions(carol.id, actor=former),
        lambda: services.accounts.deletion.delete(carol.id, actor=former),
        lambda: administration.invite(parse_email("x@example.com"), actor=former),
    ]
    await administration.change(bob.id, {"is_superuser": False}, actor=acting(ada))
    for act in acts:
        with pytest.raises(SuperuserRequired):
            await act()
    await administration.change(bob.id, {"is_superuser": True, "is_active": False})
    for act in acts:
        with pytest.raises(InvalidCredential):
            await act()
    await services.accounts.deletion.delete(bob.id)
    for act in acts:
        with pytest.raises(InvalidCredential):
            await act()
    assert (await services.accounts.profiles.find(carol.id)) == carol
    assert len((await administration.page(UserFilter())).items) == 2


async def test_each_event_names_the_actor(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    administration, me = services.accounts.administration, acting(ada)
    carol = await administration.invite(
        parse_email("carol@example.com"), roles=["reader"], actor=me
    )
    assert carol.roles == {"reader"}
    steps: list[tuple[AccountChanges, EventType]] = [
        ({"name": "Carol"}, EventType.ACCOUNT_RENAMED),
        ({"roles": frozenset()}, EventType.ROLES_CHANGED),
        ({"is_superuser": True}, EventType.SUPERUSER_GRANTED),
        ({"is_superuser": False}, EventType.SUPERUSER_REVOKED),
        ({"is_active": False}, EventType.ACCOUNT_DEACTIVATED),
        ({"is_active": True}, EventType.ACCOUNT_ACTIVATED),
    ]
    assert await last_events(services, carol.id, 9) == [(EventType.ACCOUNT_INVITED, ada.id)]
    for count, (changes, kind) in enumerate(steps):
        for _ in range(2):  # a change without effect records no event
            await administration.change(carol.id, changes, actor=me)
        assert len(await last_events(services, carol.id, 99)) == count + 2
        assert await last_events(services, carol.id, 1) == [(kind, ada.id)]
    await services.accounts.deletion.delete(carol.id, actor=me)
    assert await last_events(services, carol.id, 1) == [(EventType.ACCOUNT_DELETED, ada.id)]
    with pytest.raises(NotFound):
        await services.accounts.deletion.delete(carol.id, actor=me)


async def test_change_applies_all_changes_or_none(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    with pytest.raises(InvalidInput):
        await services.accounts.administration.change(
            ada.id, {"name": "x", "roles": frozenset({"nope"})}
        )
    with pytest.raises(LastSuperuser):
        await services.accounts.administration.change(
            ada.id, {"name": "x", "roles": frozenset({"reader"}), "is_active": False}
        )
    assert await services.accounts.profiles.find(ada.id) == ada


# Invitations.


async def test_invite_creates_account_token_and_mail_or_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = services.settings.resolved_database_url
    carol = await services.accounts.administration.invite(
        parse_email("Carol@example.com"), name="Carol"
    )
    [row] = sql(
        url, "SELECT purpose, email, email_given, password_version FROM authapi_email_tokens"
    )
    assert tuple(row) == ("invitation", "carol@example.com", "Carol@example.com", 0)
    assert sql(url, "SELECT kind, purpose FROM authapi_outbox") == [("mail", "invitation")]
    assert sql(url, "SELECT password_hash FROM authapi_users") == [(None,)]
    with pytest.raises(EmailTaken):
        await services.accounts.administration.invite(parse_email("CAROL@example.com"))

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the outbox is full")

    with monkeypatch.context() as patch:
        patch.setattr(services.mail, "queue", fail)
        with pytest.raises(RuntimeError):
            await services.accounts.administration.invite(parse_email("dan@example.com"))
    assert len(sql(url, "SELECT id FROM authapi_users")) == 1
    assert len(sql(url, "SELECT id FROM authapi_email_tokens")) == 1
    await services.accounts.deletion.delete(carol.id)
    assert sql(url, "SELECT id FROM authapi_email_tokens") == []


async def test_a_reserved_address_counts_as_taken(services: Services) -> None:
    bob = await services.accounts.registration.create(parse_email("bob@example.com"), None)
    secret = EmailToken(
        *(
            new_id(),
            bob.id,
            Purpose.REVERT_EMAIL_CHANGE,
            "old@example.com",
            "old@example.com",
            0,
            now(),
        ),
        now() + timedelta(days=1),
    )
    async with services.database.transaction() as store:
        await store.email_tokens.add(secret, hash_secret("x"))
    with pytest.raises(EmailTaken):
        await services.accounts.administration.invite(parse_email("old@example.com"))


async def test_deactivation_revokes_the_links_in_mails(services: Services) -> None:
    bob = await services.accounts.registration.create(parse_email("bob@example.com"), None)
    async with services.database.transaction() as store:
        for purpose in Purpose:
            secret = EmailToken(
                *(new_id(), bob.id, purpose, "bob@example.com", "bob@example.com", 0, now()),
                now() + timedelta(days=1),
            )
            await store.email_tokens.add(secret, hash_secret(purpose))
    await services.accounts.administration.change(bob.id, {"is_active": False})
    url = services.settings.resolved_database_url
    # The owner of a stolen account can still revert the change of address, and end a login.
    kept = {purpose for (purpose,) in sql(url, "SELECT purpose FROM authapi_email_tokens")}
    assert kept == {"revert_email_change", "disown"}


async def test_invite_is_refused_if_mail_is_disabled(sqlite_url: str) -> None:
    services = Services.build(Settings(database_url=sqlite_url, mail_url="none:"))  # type: ignore[arg-type]
    await services.start()
    with pytest.raises(MailDisabled):
        await services.accounts.administration.invite(parse_email("carol@example.com"))
    assert await stored_users(services.database) == []
    await services.stop()


async def test_end_sessions_returns_the_number_of_sessions(services: Services) -> None:
    await a_superuser(services, "ada@example.com")
    bob = await services.accounts.registration.create(
        parse_email("bob@example.com"), "correct horse battery staple"
    )
    for name in ("session", "token", "jwt"):
        await sign_in(services, bob, name)
    assert await services.accounts.administration.end_sessions(bob.id) == 3
    assert await services.accounts.administration.end_sessions(bob.id) == 0
    assert await services.sessions.list_for_user(bob.id) == []
