"""Administration: pages that leave nobody out, and superusers of whom one is always left."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret
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
from authapi.identity import EventType, Identity, User
from authapi.services import Services
from authapi.services.accounts.administration import Changes
from authapi.services.addresses import email_prefix, parse_email
from authapi.settings import Settings
from authapi.storage.tables.events import EventFilter
from authapi.storage.tables.one_time_secrets import OneTimeSecret, Purpose
from authapi.storage.tables.users import UserFilter, UserOrder
from tests.storage.rows import HASH, sql
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
    return await services.accounts.create(parse_email(email), None, is_superuser=True)


def acting(user: User) -> Identity:
    return Identity(user, "session", None, frozenset(), now(), ("pwd",), None)


async def superusers(services: Services) -> set[UUID]:
    page = await services.administration.page(UserFilter(superuser=True, active=True), limit=200)
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
        # Three at each moment: the id decides between them.
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
async def test_pages_tell_everybody_once_in_their_order(
    services: Services, order: UserOrder
) -> None:
    made = await add_many(services, 31)
    seen: list[User] = []
    after = None
    while True:
        page = await services.administration.page(UserFilter(), order=order, after=after, limit=7)
        seen += page.items
        if page.next is None:
            break
        after = page.next
        # Others come and go meanwhile, the one behind whom the list goes on too.
        await services.accounts.delete(page.items[-1].id)
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
        # Databases disagree about what an underscore sorts before; not about the direction.
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
        ("u@b\u00fc", 0),  # a label is found once it is whole
        ("u@xn--", 1),
        ("\u0430l", 0),
        ("' OR 1=1 --", 0),
        ("quote'", 1),
    ],
)
async def test_a_prefix_is_a_text_and_no_pattern(
    services: Services, prefix: str, expected: int
) -> None:
    for email in (
        *("al_@example.com", "al%x@example.com", "ALX@example.com", "bob@example.com"),
        *("xal@example.com", "u@b\u00fccher.example", "quote'@example.com", "zoe@example.com"),
    ):
        await services.accounts.create(parse_email(email), None)
    wanted = UserFilter(email_prefix=email_prefix(prefix))
    found = (await services.administration.page(wanted, limit=100)).items
    assert len(found) == expected, [user.email for user in found]


async def test_filters_are_met_all_together(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    bob, cleo, _ = [
        await services.accounts.create(parse_email(f"{name}@example.com"), None)
        for name in ("bob", "cleo", "dan")
    ]
    administration = services.administration
    await administration.change(bob.id, {"roles": frozenset({"reader"})})
    await administration.change(cleo.id, {"roles": frozenset({"reader"}), "is_active": False})
    url = services.settings.resolved_database_url
    sql(url, "UPDATE users SET email_confirmed_at = created_at WHERE email = 'dan@example.com'")

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
    # Everybody has this one, without its being written down anywhere.
    assert await emails(role="base") == {"ada", "bob", "cleo", "dan"}
    assert await emails(role="reader", active=True, email_prefix="b") == {"bob"}
    assert ada.is_superuser


# Superusers.


async def test_of_two_who_take_it_from_one_another_one_is_left(services: Services) -> None:
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    change = services.administration.change
    for _ in range(25):
        results = await asyncio.gather(
            change(bob.id, {"is_superuser": False}, by=acting(ada)),
            change(ada.id, {"is_superuser": False}, by=acting(bob)),
            return_exceptions=True,
        )
        # One was first; who had lost the rank then could not take it from the other.
        refused = [item for item in results if isinstance(item, BaseException)]
        assert [type(item) for item in refused] == [SuperuserRequired], results
        [left] = await superusers(services)
        assert left == (ada.id if isinstance(results[1], SuperuserRequired) else bob.id)
        for user in (ada, bob):
            await change(user.id, {"is_superuser": True})


@pytest.mark.parametrize("how", ["command", "own hand"])
async def test_of_two_who_go_at_one_moment_one_stays(services: Services, how: str) -> None:
    """Neither holds what the other has, so that only their turn keeps one of them."""
    for number in range(10):
        pair = [await a_superuser(services, f"{name}{number}@example.com") for name in "ab"]
        others = await superusers(services) - {user.id for user in pair}
        for user_id in others:
            await services.administration.delete(user_id)
        going: list[Awaitable[object]]
        if how == "command":
            change = services.administration.change
            going = [change(user.id, {"is_superuser": False}) for user in pair]
        else:
            delete = services.accounts.delete
            going = [delete(user.id, caller=acting(user)) for user in pair]
        results = await asyncio.gather(*going, return_exceptions=True)
        refused = [type(item) for item in results if isinstance(item, BaseException)]
        assert refused == [LastSuperuser], results
        assert len(await superusers(services)) == 1


async def test_however_they_go_at_one_moment_one_is_left(services: Services) -> None:
    """By command, by their own hand and by one another: demoted, deactivated, deleted."""
    administration, accounts = services.administration, services.accounts
    for number in range(8):
        crowd = [await a_superuser(services, f"{n}-{number}@example.com") for n in range(6)]
        present = await superusers(services)
        everybody = [user for user in crowd if user.id in present]
        rest = present - {user.id for user in crowd}
        first, second, third, fourth, fifth, sixth = everybody
        results = await asyncio.gather(
            administration.change(first.id, {"is_superuser": False}),
            administration.change(second.id, {"is_active": False}),
            administration.delete(third.id),
            accounts.delete(fourth.id, caller=acting(fourth)),
            accounts.set_active(fifth.id, False),
            administration.change(sixth.id, {"is_superuser": False}, by=acting(first)),
            *(administration.delete(user_id) for user_id in rest),
            return_exceptions=True,
        )
        for item in results:
            assert not isinstance(item, BaseException) or isinstance(item, Refusal), results
        left = await superusers(services)
        assert len(left) == 1 or (len(left) == 2 and sixth.id in left), results


async def test_the_last_superuser_stays_one(services: Services) -> None:
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    administration = services.administration
    # One who is deactivated looks after nobody.
    await administration.change(bob.id, {"is_active": False})
    tries: list[Changes] = [{"is_superuser": False}, {"is_active": False}]
    tries.append({"is_active": True, "is_superuser": False, "name": "changed"})
    for changes in tries:
        with pytest.raises(LastSuperuser):
            await administration.change(ada.id, changes)
    with pytest.raises(LastSuperuser):
        await administration.delete(ada.id)
    with pytest.raises(LastSuperuser):
        await services.accounts.delete(ada.id, caller=acting(ada))
    with pytest.raises(LastSuperuser):
        await services.accounts.set_active(ada.id, False)
    assert await services.accounts.find(ada.id) == ada
    assert await last_events(services, ada.id, 9) == [(EventType.ACCOUNT_REGISTERED, None)]
    await administration.change(bob.id, {"is_active": True})
    await administration.change(ada.id, {"is_superuser": False, "is_active": False})
    assert await superusers(services) == {bob.id}


async def test_nobody_acts_on_their_own_account(services: Services) -> None:
    ada, _ = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    administration, me = services.administration, acting(ada)
    tries: list[Changes] = [
        {"is_superuser": False},
        {"is_superuser": True},
        {"is_active": False},
        {"roles": frozenset({"reader"})},
        {"name": "x", "roles": frozenset()},
    ]
    for changes in tries:
        with pytest.raises(OwnAccount):
            await administration.change(ada.id, changes, by=me)
    with pytest.raises(OwnAccount):
        await administration.delete(ada.id, by=me)
    assert await services.accounts.find(ada.id) == ada
    assert (await administration.change(ada.id, {"name": "Ada"}, by=me)).name == "Ada"


async def test_a_rank_that_was_lost_a_moment_ago_gives_nothing(services: Services) -> None:
    """The caller was recognised before; inside the transaction they are asked for it again."""
    ada, bob = [await a_superuser(services, f"{name}@example.com") for name in ("ada", "bob")]
    carol = await services.accounts.create(parse_email("carol@example.com"), None)
    administration, former = services.administration, acting(bob)
    acts: list[Callable[[], Awaitable[object]]] = [
        lambda: administration.change(carol.id, {"name": "x"}, by=former),
        lambda: administration.end_sessions(carol.id, by=former),
        lambda: administration.delete(carol.id, by=former),
        lambda: administration.invite(parse_email("x@example.com"), by=former),
    ]
    await administration.change(bob.id, {"is_superuser": False}, by=acting(ada))
    for act in acts:
        with pytest.raises(SuperuserRequired):
            await act()
    await administration.change(bob.id, {"is_superuser": True, "is_active": False})
    for act in acts:
        with pytest.raises(InvalidCredential):
            await act()
    await administration.delete(bob.id)
    for act in acts:
        with pytest.raises(InvalidCredential):
            await act()
    assert (await services.accounts.find(carol.id)) == carol
    assert len((await administration.page(UserFilter())).items) == 2


async def test_each_change_names_who_made_it(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    administration, me = services.administration, acting(ada)
    carol = await administration.invite(parse_email("carol@example.com"), roles=["reader"], by=me)
    assert carol.roles == {"reader"}
    steps: list[tuple[Changes, EventType]] = [
        ({"name": "Carol"}, EventType.ACCOUNT_RENAMED),
        ({"roles": frozenset()}, EventType.ROLES_CHANGED),
        ({"is_superuser": True}, EventType.SUPERUSER_GRANTED),
        ({"is_superuser": False}, EventType.SUPERUSER_REVOKED),
        ({"is_active": False}, EventType.ACCOUNT_DEACTIVATED),
        ({"is_active": True}, EventType.ACCOUNT_ACTIVATED),
    ]
    assert await last_events(services, carol.id, 9) == [(EventType.ACCOUNT_INVITED, ada.id)]
    for count, (changes, kind) in enumerate(steps):
        for _ in range(2):  # what is so already is no event
            await administration.change(carol.id, changes, by=me)
        assert len(await last_events(services, carol.id, 99)) == count + 2
        assert await last_events(services, carol.id, 1) == [(kind, ada.id)]
    await administration.delete(carol.id, by=me)
    assert await last_events(services, carol.id, 1) == [(EventType.ACCOUNT_DELETED, ada.id)]
    with pytest.raises(NotFound):
        await administration.delete(carol.id, by=me)


async def test_all_of_several_changes_happens_or_nothing(services: Services) -> None:
    ada = await a_superuser(services, "ada@example.com")
    with pytest.raises(InvalidInput):
        await services.administration.change(ada.id, {"name": "x", "roles": frozenset({"nope"})})
    with pytest.raises(LastSuperuser):
        await services.administration.change(
            ada.id, {"name": "x", "roles": frozenset({"reader"}), "is_active": False}
        )
    assert await services.accounts.find(ada.id) == ada


# Invitations.


async def test_an_invitation_is_an_account_a_secret_and_a_mail_or_none_of_them(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = services.settings.resolved_database_url
    carol = await services.administration.invite(parse_email("Carol@example.com"), name="Carol")
    [row] = sql(url, "SELECT purpose, email, email_given, password_version FROM one_time_secrets")
    assert tuple(row) == ("invitation", "carol@example.com", "Carol@example.com", 0)
    assert sql(url, "SELECT kind, purpose FROM outbox") == [("mail", "invitation")]
    assert sql(url, "SELECT password_hash FROM users") == [(None,)]
    with pytest.raises(EmailTaken):
        await services.administration.invite(parse_email("CAROL@example.com"))

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the outbox is full")

    with monkeypatch.context() as patch:
        patch.setattr(services.mail, "queue", fail)
        with pytest.raises(RuntimeError):
            await services.administration.invite(parse_email("dan@example.com"))
    assert len(sql(url, "SELECT id FROM users")) == 1
    assert len(sql(url, "SELECT id FROM one_time_secrets")) == 1
    await services.administration.delete(carol.id)
    assert sql(url, "SELECT id FROM one_time_secrets") == []


async def test_an_address_that_somebody_can_take_back_is_taken(services: Services) -> None:
    bob = await services.accounts.create(parse_email("bob@example.com"), None)
    secret = OneTimeSecret(
        *(new_id(), bob.id, Purpose.UNDO, "old@example.com", "old@example.com", 0, now()),
        now() + timedelta(days=1),
    )
    async with services.database.transaction() as store:
        await store.one_time_secrets.add(secret, hash_secret("x"))
    with pytest.raises(EmailTaken):
        await services.administration.invite(parse_email("old@example.com"))


async def test_who_is_deactivated_has_no_link_that_works(services: Services) -> None:
    bob = await services.accounts.create(parse_email("bob@example.com"), None)
    async with services.database.transaction() as store:
        for purpose in Purpose:
            secret = OneTimeSecret(
                *(new_id(), bob.id, purpose, "bob@example.com", "bob@example.com", 0, now()),
                now() + timedelta(days=1),
            )
            await store.one_time_secrets.add(secret, hash_secret(purpose))
    await services.administration.change(bob.id, {"is_active": False})
    url = services.settings.resolved_database_url
    # An owner from whom the account was stolen can still take it back.
    assert sql(url, "SELECT purpose FROM one_time_secrets") == [("undo",)]


async def test_nobody_is_invited_where_no_mail_is_sent(sqlite_url: str) -> None:
    services = Services.build(Settings(database_url=sqlite_url, mail_url="none:"))  # type: ignore[arg-type]
    await services.start()
    with pytest.raises(MailDisabled):
        await services.administration.invite(parse_email("carol@example.com"))
    assert await services.accounts.page() == []
    await services.stop()


async def test_ending_sessions_ends_all_and_says_how_many(services: Services) -> None:
    await a_superuser(services, "ada@example.com")
    bob = await services.accounts.create(
        parse_email("bob@example.com"), "correct horse battery staple"
    )
    for name in ("session", "token", "jwt"):
        await sign_in(services, bob, name)
    assert await services.administration.end_sessions(bob.id) == 3
    assert await services.administration.end_sessions(bob.id) == 0
    assert await services.sessions.list_of(bob.id) == []
