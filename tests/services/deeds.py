"""Every call of the services that changes something, on accounts that are made for it."""

import io
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.refresh import new_refresh_token, parse_refresh_token
from authapi.crypto.secrets import hash_secret, new_opaque_token, new_secret
from authapi.errors import DeliveryFailed, InvalidGrant, InvalidOneTimeSecret
from authapi.identity import EventType, Identity, Session, SessionKind, User
from authapi.services import Lifetime, Login, Services
from authapi.services.accounts.importing import Importing
from authapi.services.accounts.one_time import Made
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.keys import lifecycle
from authapi.services.keys.lifecycle import KeyLifecycle
from authapi.services.keys.secret import secret_of
from authapi.services.passwords import Passwords
from authapi.services.tokens import Leak
from authapi.settings import Settings
from authapi.storage.tables.one_time_secrets import Purpose
from authapi.testing import PASSWORD

DAY = timedelta(days=1)
MAX_SESSIONS = 4


def fresh_address() -> EmailAddress:
    """An address that no account has."""
    return parse_email(f"{secrets.token_hex(8)}@example.com")


@dataclass
class Person:
    """An account with a confirmed address, and each kind of credential of it."""

    user: User
    stored: PasswordHash
    caller: Identity
    """Of the cookie session."""
    cookie: str
    opaque: str
    refresh: str
    renewed: Session
    """That `refresh` renews."""

    @property
    def id(self) -> UUID:
        return self.user.id

    @property
    def session_id(self) -> UUID:
        assert self.caller.session_id is not None
        return self.caller.session_id

    @property
    def login(self) -> Login:
        return Login(user=self.user, proved=self.stored, auth_time=now())


@dataclass
class House:
    """Services, and a superuser who acts on the accounts of others."""

    services: Services
    root: Identity

    async def begin(self, login: Login, kind: SessionKind, **more: Any) -> Session:
        life = Lifetime(DAY, timedelta(hours=1))
        return await self.services.sessions.begin(login, kind, lifetime=life, **more)

    async def person(self, *, confirmed: bool = True) -> Person:
        """A new one, with a session of each kind and a personal access token."""
        return await person_in(self.services, confirmed=confirmed)

    async def link(
        self, person: Person, purpose: Purpose, email: EmailAddress | None = None
    ) -> str:
        """The secret of a mail to them."""
        async with self.services.database.transaction() as store:
            if await store.users.lock(person.id) is None:
                raise InvalidOneTimeSecret  # the account is gone: no mail is sent
            made: Made = await self.services.emails._one_time.make(
                store, person.user, purpose, email=email
            )
        return made.text

    async def handle(self) -> None:
        """Do what strangers asked for."""
        await self.services.outbox.work("request")


class Posted:
    """A mail server that takes everything, or nothing."""

    takes = True

    def open(self) -> None:
        return None

    async def send(self, message: EmailMessage) -> None:
        if not self.takes:
            raise DeliveryFailed("away")

    async def check(self) -> str:
        return "kept"


@asynccontextmanager
async def house_at(url: str, **changes: Any) -> AsyncIterator[House]:
    """Services on the database at `url` that do nothing by themselves."""
    chosen = {"max_sessions": MAX_SESSIONS, **changes}
    settings = Settings(
        database_url=url,  # type: ignore[arg-type]  # pydantic converts
        limit_mails="100000/hour",
        limit_network="100000/minute",
        limit_total="100000/minute",
        limit_registrations="100000/minute",
        scopes={"a": "A"},
        jwt_audiences=("reports",),
        refresh_grace=timedelta(0),
        **chosen,
    )
    services = Services.build(settings)
    services.mail.transport = Posted()
    await services.open()
    try:
        root = await services.accounts.create(fresh_address(), None, is_superuser=True)
        yield House(services, Identity(root, "basic", None, frozenset(), now(), ("pwd",), None))
    finally:
        await services.stop()


async def person_in(services: Services, *, confirmed: bool) -> Person:
    email = fresh_address()
    user = await services.accounts.create(email, PASSWORD)
    async with services.database.transaction() as store:
        if confirmed:
            await store.users.confirm_email(user.id, at=now())
        found = await store.users.find_credentials(user.id)
    assert found is not None
    assert found[1] is not None
    user, stored = found[0], found[1]
    login = Login(user=user, proved=stored, auth_time=now())
    life, cookie, opaque = Lifetime(DAY, timedelta(hours=1)), new_secret(), new_opaque_token()
    refresh = new_refresh_token()
    begin = services.sessions.begin
    await begin(login, SessionKind.SESSION, lifetime=life, secret=hash_secret(cookie))
    await begin(login, SessionKind.TOKEN, lifetime=life, secret=hash_secret(opaque))
    renewed = await begin(login, SessionKind.JWT, lifetime=life, refresh=refresh)
    caller = await services.sessions.identify_secret(
        hash_secret(cookie), SessionKind.SESSION, strategy="session"
    )
    assert caller is not None
    await services.tokens.create(caller, name="script", scopes=None, lifetime=None)
    return Person(user, stored, caller, cookie, opaque, refresh.text, renewed)


Deed = Callable[[House, Person, Person], Awaitable[object]]
"""Does something to the first person; the second one is involved where two are."""


async def log_in_over(house: House, one: Person, two: Person) -> None:
    """In a browser where the other one was logged in, with too many sessions."""
    for _ in range(2):
        await house.begin(one.login, SessionKind.TOKEN, secret=hash_secret(new_secret()))
    cookie = hash_secret(two.cookie)
    kind, secret = SessionKind.SESSION, hash_secret(new_secret())
    await house.begin(one.login, kind, secret=secret, replaces=cookie)


async def log_in_again(house: House, one: Person, _: Person) -> None:
    cookie = hash_secret(one.cookie)
    kind, secret = SessionKind.SESSION, hash_secret(new_secret())
    await house.begin(one.login, kind, secret=secret, replaces=cookie)


async def end_own_login(house: House, one: Person, _: Person) -> None:
    await house.services.sessions.end_own(one.renewed.id, one.caller)


async def end_own_token(house: House, one: Person, _: Person) -> None:
    for token in await house.services.tokens.list_of(one.id):
        await house.services.tokens.end_own(token.id, one.caller)


async def use_and_flush(house: House, one: Person, two: Person) -> None:
    for person in (two, one):
        for key in (person.session_id, person.renewed.id):
            house.services.activity.saw(key, now(), idle=DAY)
    await house.services.activity.flush()


async def strengthen(house: House, one: Person, _: Person) -> None:
    await house.services.accounts._strengthen(one.user, PASSWORD, one.stored)


async def change_password(house: House, one: Person, _: Person) -> None:
    renewed = hash_secret(new_secret())
    new = PASSWORD + secrets.token_hex(4)
    accounts = house.services.accounts
    await accounts.change_password(one.caller, current=PASSWORD, new=new, renewed=renewed)


async def rename(house: House, one: Person, _: Person) -> None:
    changes: Mapping[str, str | None] = {"name": new_secret()[:9], "locale": None}
    edit = house.services.accounts.edit
    await edit(one.id, changes, unless=lambda _: False, caller=one.caller)


async def confirm_with_password(house: House, one: Person, _: Person) -> None:
    await house.services.emails.confirm(await house.link(one, Purpose.CONFIRM), password=PASSWORD)


async def confirm_unproved(house: House, one: Person, _: Person) -> None:
    link = await house.link(one, Purpose.CONFIRM)
    await house.services.emails.confirm(link, typed=parse_email(one.user.email))


async def change_address(house: House, one: Person, _: Person) -> None:
    link = await house.link(one, Purpose.CHANGE, fresh_address())
    await house.services.emails.confirm(link, caller=one.caller)


async def undo_change(house: House, one: Person, _: Person) -> None:
    old = fresh_address()
    link = await house.link(one, Purpose.UNDO, old)
    await house.services.emails.undo(link, typed=old)


async def ask_for_free_address(house: House, one: Person, _: Person) -> None:
    emails = house.services.emails
    await emails.request_change(one.caller, fresh_address(), password=PASSWORD)
    await house.handle()


async def ask_for_taken_address(house: House, one: Person, two: Person) -> None:
    emails = house.services.emails
    await emails.request_change(one.caller, parse_email(two.user.email), password=None)
    await house.handle()


async def reset(house: House, one: Person, _: Person) -> None:
    link = await house.link(one, Purpose.RESET)
    await house.services.recovery.reset(link, PASSWORD + secrets.token_hex(4))


async def accept(house: House, one: Person, _: Person) -> None:
    link = await house.link(one, Purpose.INVITATION)
    await house.services.recovery.accept(link, PASSWORD + secrets.token_hex(4), name="x")


def asking(what: Any) -> Deed:
    async def ask(house: House, one: Person, _: Person) -> None:
        await house.services.requests.ask(what, parse_email(one.user.email))
        await house.handle()

    return ask


async def sign_up_by_mail(house: House, email: EmailAddress, one: Person) -> None:
    more = {"name": "x", "locale": None, "password_hash": one.stored.text}
    await house.services.requests.put("register", email, more)
    await house.handle()


async def invite(house: House, *_: Person) -> User:
    return await house.services.administration.invite(fresh_address(), by=house.root)


async def invite_again(house: House, *_: Person) -> None:
    user = await invite(house)
    await house.services.administration.invite_again(user.id, by=house.root)


def administering(superuser: bool, active: bool) -> Deed:
    async def change(house: House, one: Person, _: Person) -> None:
        changes: Any = {"name": new_secret()[:9], "is_active": active, "is_superuser": superuser}
        await house.services.administration.change(one.id, changes, by=house.root)

    return change


async def administer_one_another(house: House, one: Person, two: Person) -> None:
    administration = house.services.administration
    await administration.change(one.id, {"is_superuser": True})
    by = replace(one.caller, user=replace(one.user, is_superuser=True))
    await administration.end_sessions(two.id, by=by)
    await administration.change(two.id, {"is_active": False}, by=by)


async def delete_another(house: House, one: Person, two: Person) -> None:
    administration = house.services.administration
    await administration.change(one.id, {"is_superuser": True})
    by = replace(one.caller, user=replace(one.user, is_superuser=True))
    await administration.delete(two.id, by=by)


async def bring_in(house: House, one: Person, two: Person) -> None:
    emails = [one.user.email, fresh_address().given, two.user.email, fresh_address().given]
    text = "".join(json.dumps({"email": email}) + "\n" for email in emails)
    services = house.services
    importing = Importing(services.database, services.audit, services.settings)
    await importing.run(io.BytesIO(text.encode()), lambda *_: None)


async def refresh(house: House, one: Person, _: Person) -> None:
    one.refresh = (await house.services.refresh_tokens.exchange(one.refresh)).refresh_token


async def use_refresh_token_again(house: House, one: Person, two: Person) -> None:
    used = one.refresh
    await refresh(house, one, two)
    await refresh(house, one, two)
    with pytest.raises(InvalidGrant):
        await house.services.refresh_tokens.exchange(used)


async def leak(house: House, one: Person, _: Person) -> None:
    assert parse_refresh_token(one.refresh)
    await house.services.leaks.end([Leak(one.opaque), Leak(one.refresh)])


async def leak_exchanged(house: House, one: Person, _: Person) -> None:
    await house.services.leaks.end([Leak(await exchanged(house, one))])


async def revoke_exchanged(house: House, one: Person, _: Person) -> None:
    await house.services.token_states.revoke(await exchanged(house, one), caller=None)


async def exchanged(house: House, one: Person) -> str:
    """A JWT for another service, of the cookie session."""
    return (await house.services.exchange.mint(one.caller, audience="reports")).text


async def deliver(house: House, *_: Person) -> None:
    await house.services.outbox.work("mail")


async def deliver_in_vain(house: House, *_: Person) -> None:
    transport = house.services.mail.transport
    assert isinstance(transport, Posted)
    transport.takes = False
    await house.services.outbox.work("mail")
    transport.takes = True
    await house.services.outbox.retry("mail")


async def recall(house: House, *_: Person) -> None:
    async with house.services.database.transaction() as store:
        for entry in await store.outbox.page("mail", limit=1):
            await store.outbox.put_off(entry, until=entry.due_at + timedelta(days=400), error="")
    await house.services.outbox.recall("mail")


async def prune(house: House, *_: Person) -> None:
    await house.services.housekeeping.work()


DEEDS: dict[str, Deed] = {
    "log in over": log_in_over,
    "log in again": log_in_again,
    "log out": lambda house, one, _: house.services.sessions.logout(one.caller),
    "end": lambda house, one, _: house.services.sessions.end(one.session_id),
    "end own login": end_own_login,
    "end own token": end_own_token,
    "end others": lambda house, one, _: house.services.sessions.end_others(one.caller),
    "end all": lambda house, one, _: house.services.sessions.end_all(one.id),
    "merge data": lambda house, one, _: house.services.sessions.merge_data(one.caller, {"a": 1}),
    "flush": use_and_flush,
    "strengthen": strengthen,
    "change password": change_password,
    "reauthenticate": lambda house, one, _: house.services.accounts.reauthenticate(
        one.caller, PASSWORD, renewed=hash_secret(new_secret())
    ),
    "set password": lambda house, one, _: house.services.accounts.set_password(
        one.id, PASSWORD + secrets.token_hex(4)
    ),
    "rename": rename,
    "deactivate": lambda house, one, _: house.services.accounts.set_active(one.id, False),
    "activate": lambda house, one, _: house.services.accounts.set_active(one.id, True),
    "delete": lambda house, one, _: house.services.accounts.delete(one.id, caller=one.caller),
    "create": lambda house, *_: house.services.accounts.create(fresh_address(), None),
    "register": lambda house, *_: house.services.registration.register(
        fresh_address(), PASSWORD, name="x"
    ),
    "register by mail": lambda house, one, _: sign_up_by_mail(house, fresh_address(), one),
    "register what is taken": lambda house, one, _: sign_up_by_mail(
        house, parse_email(one.user.email), one
    ),
    "confirm with password": confirm_with_password,
    "confirm unproved": confirm_unproved,
    "change address": change_address,
    "undo": undo_change,
    "ask for a free address": ask_for_free_address,
    "ask for a taken address": ask_for_taken_address,
    "reset": reset,
    "accept": accept,
    "ask for a reset": asking("reset"),
    "ask for a confirmation": asking("confirm"),
    "invite": invite,
    "invite again": invite_again,
    "promote": administering(superuser=True, active=True),
    "demote and deactivate": administering(superuser=False, active=False),
    "end sessions": lambda house, one, _: house.services.administration.end_sessions(
        one.id, by=house.root
    ),
    "administer one another": administer_one_another,
    "delete by a superuser": lambda house, one, _: house.services.administration.delete(
        one.id, by=house.root
    ),
    "delete another": delete_another,
    "import": bring_in,
    "create token": lambda house, one, _: house.services.tokens.create(
        one.caller, name="x", scopes=None, lifetime=None
    ),
    "refresh": refresh,
    "reuse": use_refresh_token_again,
    "revoke": lambda house, one, _: house.services.token_states.revoke(
        one.opaque, caller=one.caller
    ),
    "leak": leak,
    "leak a JWT for another service": leak_exchanged,
    "revoke a JWT for another service": revoke_exchanged,
    "note": lambda house, one, _: house.services.audit.record_alone(
        EventType.LOGIN_REFUSED, user_id=one.id
    ),
    "throttled": lambda house, one, _: house.services.audit.throttled(one.user.email),
    "deliver": deliver,
    "deliver in vain": deliver_in_vain,
    "recall": recall,
    "prune": prune,
    "rotate": lambda house, *_: house.services.keys.lifecycle.rotate(early=True),
    "maintain": lambda house, *_: house.services.keys.lifecycle.maintain(),
    "rewrap": lambda house, *_: house.services.keys.lifecycle.rewrap(
        secret_of(house.services.settings)
    ),
}
"""By name. Each can be done to any two people, at any time."""


async def retire(house: House, *_: Person) -> None:
    keys = await house.services.keys.lifecycle.check()
    await house.services.keys.lifecycle.retire(keys[0].kid)


async def discard(house: House, *_: Person) -> None:
    await house.services.keys.lifecycle.discard()
    await house.services.keys.open()


ALONE: dict[str, Deed] = {"retire": retire, "discard": discard}
"""Those after which others have no keys for a moment."""


def make_everything_due(patch: pytest.MonkeyPatch) -> None:
    """Let keys rotate whenever they are maintained, and every hash be outdated."""
    patch.setattr(lifecycle, "_NOTICE", timedelta(0))
    patch.setattr(KeyLifecycle, "_is_due", lambda *_: True)
    patch.setattr(Passwords, "is_outdated", lambda *_: True)
