"""Every service call that writes, as operations on accounts that are created for them.

Tests of lock order, races and conflicts run these operations, alone and in pairs.
"""

import io
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pyotp
import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.refresh_tokens import new_refresh_token, parse_refresh_token
from authapi.crypto.secrets import hash_secret, new_opaque_token, new_secret
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.domain.username import parse_username
from authapi.errors import (
    ConfigurationError,
    DeliveryFailed,
    InvalidCredentials,
    InvalidGrant,
    InvalidOneTimeSecret,
    NotFound,
    WrongCode,
)
from authapi.facade.accounts import open_transaction
from authapi.services import Lifetime, Login, Services
from authapi.services.accounts.email_tokens import IssuedEmailToken
from authapi.services.accounts.importing import AccountImporter
from authapi.services.demo.writer import DemoData
from authapi.services.hooks import Hooks
from authapi.services.identity_cache import announce_changes
from authapi.services.keys import lifecycle
from authapi.services.keys.lifecycle import KeyLifecycle
from authapi.services.keys.secret import read_secret
from authapi.services.logins.complete import Logins, PendingLogin
from authapi.services.logins.enrolment import LoginEnrolment
from authapi.services.passwords import Passwords
from authapi.services.restores import AllSessions, EventReplay, RecordedEvent
from authapi.services.restores.reapplying import REAPPLIED
from authapi.services.tokens import ReportedToken
from authapi.settings import Settings
from authapi.testing import PASSWORD
from authapi.testing.authenticator import Authenticator
from tests.services.authenticators import add_authenticator, proved_password, wrong_code
from tests.services.federated_operations import FEDERATED
from tests.services.passkey_owners import add_passkey, answer, attestation
from tests.soft_authenticator import SoftAuthenticator

DAY = timedelta(days=1)
MAX_SESSIONS = 4


def new_address() -> EmailAddress:
    """An address without an account."""
    return parse_email(f"{secrets.token_hex(8)}@example.com")


@dataclass
class Person:
    """An account, and one credential of each kind."""

    user: User
    stored: PasswordHash
    version: int
    """Of the credentials of the account."""
    caller: Identity
    """Of the cookie session."""
    cookie: str
    opaque: str
    refresh: str
    refreshable: Session
    """The session of `refresh`."""

    @property
    def id(self) -> UUID:
        return self.user.id

    @property
    def session_id(self) -> UUID:
        assert self.caller.session_id is not None
        return self.caller.session_id

    @property
    def login(self) -> Login:
        return Login(
            user=self.user, credentials_version=self.version, auth_time=now(), amr=("pwd",)
        )


@dataclass
class Harness:
    """Services without background tasks, and a superuser."""

    services: Services
    root: Identity

    async def create_session(self, login: Login, kind: SessionKind, **more: Any) -> Session:
        lifetime = Lifetime(DAY, timedelta(hours=1))
        return await self.services.sessions.create(login, kind, lifetime=lifetime, **more)

    async def person(self, *, confirmed: bool = True) -> Person:
        """A new account, with a session of each kind and a personal access token."""
        return await create_person(self.services, confirmed=confirmed)

    async def link(
        self,
        person: Person,
        purpose: Purpose,
        email: EmailAddress | None = None,
        session_id: UUID | None = None,
    ) -> str:
        """A new e-mail token of the account, for the address `email` or its own, or a session."""
        async with self.services.database.transaction() as store:
            if await store.users.lock(person.id) is None:
                raise InvalidOneTimeSecret  # the account is gone: no mail is sent
            issued: IssuedEmailToken = (
                await self.services.accounts.email_changes._email_tokens.issue(
                    store, person.user, purpose, email=email, session_id=session_id
                )
            )
        return issued.text

    async def handle_requests(self) -> None:
        """Handle the queued requests."""
        await self.services.outbox.run_due("request")


class FakeTransport:
    """A mail transport that accepts every message, or refuses every message."""

    accepts = True

    def open(self) -> None:
        return None

    async def send(self, message: EmailMessage) -> None:
        if not self.accepts:
            raise DeliveryFailed("away")

    async def check(self) -> str:
        return "kept"


@asynccontextmanager
async def open_harness(
    url: str, *, hooks: Hooks | None = None, **changes: Any
) -> AsyncIterator[Harness]:
    """Services on the database at `url`, without background tasks."""
    chosen = {"max_sessions": MAX_SESSIONS, "login_identifier": "both", **changes}
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
    services = Services.build(settings, hooks=hooks)
    services.mail.transport = FakeTransport()
    await services.open()
    try:
        root = await services.accounts.registration.create(new_address(), None, is_superuser=True)
        yield Harness(services, Identity(root, "basic", None, frozenset(), now(), ("pwd",), None))
    finally:
        await services.stop()


async def create_person(services: Services, *, confirmed: bool) -> Person:
    email = new_address()
    username = parse_username(f"u{new_id().hex}")
    user = await services.accounts.registration.create(email, PASSWORD, username=username)
    async with services.database.transaction() as store:
        if confirmed:
            await store.users.confirm_email(user.id, at=now())
        found = await store.users.find_credentials(user.id)
    assert found is not None
    assert found[1] is not None
    user, stored = found[0], found[1]
    login = Login(user=user, credentials_version=found.version, auth_time=now(), amr=("pwd",))
    lifetime, cookie, opaque = Lifetime(DAY, timedelta(hours=1)), new_secret(), new_opaque_token()
    refresh = new_refresh_token()
    create = services.sessions.create
    await create(login, SessionKind.SESSION, lifetime=lifetime, secret=hash_secret(cookie))
    await create(login, SessionKind.TOKEN, lifetime=lifetime, secret=hash_secret(opaque))
    refreshable = await create(login, SessionKind.JWT, lifetime=lifetime, refresh=refresh)
    caller = await services.sessions.identify_by_secret(
        hash_secret(cookie), SessionKind.SESSION, strategy="session"
    )
    assert caller is not None
    await services.tokens.personal.create(caller, name="script", scopes=None, lifetime=None)
    return Person(user, stored, found.version, caller, cookie, opaque, refresh.text, refreshable)


Operation = Callable[[Harness, Person, Person], Awaitable[object]]
"""Acts on the first account, and on the second where the operation involves two."""


async def log_in_over_another_account(harness: Harness, one: Person, two: Person) -> None:
    """Log in with the cookie of the second account, at the limit of sessions."""
    for _ in range(2):
        await harness.create_session(one.login, SessionKind.TOKEN, secret=hash_secret(new_secret()))
    cookie = hash_secret(two.cookie)
    kind, secret = SessionKind.SESSION, hash_secret(new_secret())
    await harness.create_session(one.login, kind, secret=secret, replaces=cookie)


async def log_in_again(harness: Harness, one: Person, _: Person) -> None:
    cookie = hash_secret(one.cookie)
    kind, secret = SessionKind.SESSION, hash_secret(new_secret())
    await harness.create_session(one.login, kind, secret=secret, replaces=cookie)


async def log_in_from_a_new_device(harness: Harness, one: Person, _: Person) -> None:
    secret = hash_secret(new_secret())
    stranger = Client(ip="192.0.2.1", user_agent=f"x{new_id().hex}", request_id=new_id().hex)
    with on_behalf_of(lambda: stranger):
        await harness.create_session(one.login, SessionKind.TOKEN, secret=secret)


async def disown(harness: Harness, one: Person, _: Person) -> None:
    session = await harness.create_session(one.login, SessionKind.JWT, refresh=new_refresh_token())
    link = await harness.link(one, Purpose.DISOWN, session_id=session.id)
    await harness.services.accounts.new_devices.disown(link)


async def end_own_login(harness: Harness, one: Person, _: Person) -> None:
    await harness.services.sessions.end_own(one.refreshable.id, one.caller)


async def end_own_token(harness: Harness, one: Person, _: Person) -> None:
    for token in await harness.services.tokens.personal.list_of(one.id):
        await harness.services.tokens.personal.end_own(token.id, one.caller)


async def use_and_flush(harness: Harness, one: Person, two: Person) -> None:
    for person in (two, one):
        for key in (person.session_id, person.refreshable.id):
            harness.services.last_used.record(key, now(), idle=DAY)
    await harness.services.last_used.flush()


async def rehash(harness: Harness, one: Person, _: Person) -> None:
    await harness.services.accounts.authentication._rehash(one.user, PASSWORD, one.stored)


async def change_password(harness: Harness, one: Person, _: Person) -> None:
    secret_hash = hash_secret(new_secret())
    new = PASSWORD + secrets.token_hex(4)
    accounts = harness.services.accounts
    await accounts.passwords.change(
        one.caller, current=PASSWORD, new=new, new_secret_hash=secret_hash
    )


async def rename(harness: Harness, one: Person, _: Person) -> None:
    changes: Mapping[str, str | None] = {"name": new_secret()[:9], "locale": "en"}
    edit = harness.services.accounts.profiles.edit
    await edit(one.id, changes, is_stale=lambda _: False, caller=one.caller)


async def change_username(harness: Harness, one: Person, _: Person) -> None:
    edit = harness.services.accounts.profiles.edit
    for name in (new_secret()[:9].strip("-_") + "x1", new_secret()[:9].strip("-_") + "x2"):
        await edit(one.id, {}, username=parse_username(name), is_stale=lambda _: False)


async def confirm_with_password(harness: Harness, one: Person, _: Person) -> None:
    await harness.services.accounts.email_changes.confirm_email(
        await harness.link(one, Purpose.CONFIRM), password=PASSWORD
    )


async def confirm_and_transfer(harness: Harness, one: Person, _: Person) -> None:
    link = await harness.link(one, Purpose.CONFIRM)
    await harness.services.accounts.email_changes.confirm_email(
        link, entered_email=parse_email(one.user.email)
    )


async def change_email(harness: Harness, one: Person, _: Person) -> None:
    link = await harness.link(one, Purpose.CHANGE, new_address())
    await harness.services.accounts.email_changes.confirm_email(link, caller=one.caller)


async def open_for_application(harness: Harness, one: Person, _: Person) -> None:
    # Its calls join this transaction; each of them is an operation of its own here.
    async with open_transaction(harness.services) as tx:
        await tx.flush()


async def change_email_for_operator(harness: Harness, one: Person, _: Person) -> None:
    email_changes = harness.services.accounts.email_changes
    await email_changes.confirm_for_operator(one.user.id)
    await email_changes.change_for_operator(one.user.id, new_address())


async def revert_email_change(harness: Harness, one: Person, _: Person) -> None:
    old = new_address()
    link = await harness.link(one, Purpose.REVERT_EMAIL_CHANGE, old)
    await harness.services.accounts.email_changes.revert_email_change(link, entered_email=old)


async def request_free_address(harness: Harness, one: Person, _: Person) -> None:
    email_changes = harness.services.accounts.email_changes
    await email_changes.request_email_change(one.caller, new_address(), password=PASSWORD)
    await harness.handle_requests()


async def cancel_change(harness: Harness, one: Person, _: Person) -> None:
    await harness.link(one, Purpose.CHANGE, new_address())
    await harness.services.accounts.email_changes.cancel_change(one.caller)


async def request_taken_address(harness: Harness, one: Person, two: Person) -> None:
    email_changes = harness.services.accounts.email_changes
    await email_changes.request_email_change(one.caller, parse_email(two.user.email), password=None)
    await harness.handle_requests()


async def reset(harness: Harness, one: Person, _: Person) -> None:
    link = await harness.link(one, Purpose.RESET)
    await harness.services.accounts.passwords.reset(link, PASSWORD + secrets.token_hex(4))


async def accept_invitation(harness: Harness, one: Person, _: Person) -> None:
    link = await harness.link(one, Purpose.INVITATION)
    await harness.services.accounts.invitations.accept(
        link, PASSWORD + secrets.token_hex(4), name="x"
    )


def submitting(request: Any) -> Operation:
    async def submit(harness: Harness, one: Person, _: Person) -> None:
        await harness.services.accounts.deferred_requests.submit(
            request, parse_email(one.user.email)
        )
        await harness.handle_requests()

    return submit


async def register_by_mail(harness: Harness, email: EmailAddress, one: Person) -> None:
    details = {"name": "x", "locale": None, "password_hash": one.stored.text}
    username = parse_username(f"u{new_id().hex}")
    deferred_requests = harness.services.accounts.deferred_requests
    await deferred_requests.submit_registration(email, details, username=username)
    await harness.handle_requests()


async def invite(harness: Harness, *_: Person) -> User:
    return await harness.services.accounts.administration.invite(new_address(), actor=harness.root)


async def resend_invitation(harness: Harness, *_: Person) -> None:
    user = await invite(harness)
    await harness.services.accounts.administration.resend_invitation(user.id, actor=harness.root)


async def send_reset_link(harness: Harness, one: Person, _: Person) -> None:
    administration = harness.services.accounts.administration
    await administration.send_reset_link(one.id, actor=harness.root)


def administering(superuser: bool, active: bool) -> Operation:
    async def change(harness: Harness, one: Person, _: Person) -> None:
        changes: Any = {"name": new_secret()[:9], "is_active": active, "is_superuser": superuser}
        await harness.services.accounts.administration.change(one.id, changes, actor=harness.root)

    return change


async def end_login(harness: Harness, one: Person, _: Person) -> None:
    access, sessions = harness.services.accounts.access, harness.services.sessions
    [login, *_others] = await sessions.list_for_user(one.id)
    await access.end_login(one.id, login.id, actor=harness.root)


async def end_token(harness: Harness, one: Person, _: Person) -> None:
    services = harness.services
    token, _secret = await services.tokens.personal.create(
        one.caller, name="x", scopes=None, lifetime=None
    )
    await services.accounts.access.end_token(one.id, token.id, actor=harness.root)


async def administer_one_another(harness: Harness, one: Person, two: Person) -> None:
    administration = harness.services.accounts.administration
    await administration.change(one.id, {"is_superuser": True})
    actor = replace(one.caller, user=replace(one.user, is_superuser=True))
    await administration.end_sessions(two.id, actor=actor)
    await administration.change(two.id, {"is_active": False}, actor=actor)


async def delete_another(harness: Harness, one: Person, two: Person) -> None:
    administration = harness.services.accounts.administration
    await administration.change(one.id, {"is_superuser": True})
    actor = replace(one.caller, user=replace(one.user, is_superuser=True))
    await harness.services.accounts.deletion.delete(two.id, actor=actor)


async def import_accounts(harness: Harness, one: Person, two: Person) -> None:
    emails = [one.user.email, new_address().original, two.user.email, new_address().original]
    text = "".join(
        json.dumps({"email": email, "username": f"u{new_id().hex}"}) + "\n" for email in emails
    )
    services = harness.services
    importing = AccountImporter(services.database, services.audit, services.settings)
    await importing.run(io.BytesIO(text.encode()), lambda *_: None)


async def refresh(harness: Harness, one: Person, _: Person) -> None:
    one.refresh = (await harness.services.tokens.refresh.refresh(one.refresh)).refresh_token


async def use_refresh_token_again(harness: Harness, one: Person, two: Person) -> None:
    used = one.refresh
    await refresh(harness, one, two)
    await refresh(harness, one, two)
    with pytest.raises(InvalidGrant):
        await harness.services.tokens.refresh.refresh(used)


async def report_leaked(harness: Harness, one: Person, _: Person) -> None:
    assert parse_refresh_token(one.refresh)
    await harness.services.tokens.secret_scanning.revoke_leaked(
        [ReportedToken(one.opaque), ReportedToken(one.refresh)]
    )


async def report_exchanged(harness: Harness, one: Person, _: Person) -> None:
    await harness.services.tokens.secret_scanning.revoke_leaked(
        [ReportedToken(await exchanged(harness, one))]
    )


async def revoke_exchanged(harness: Harness, one: Person, _: Person) -> None:
    await harness.services.tokens.revocation.revoke(await exchanged(harness, one), caller=None)


async def exchanged(harness: Harness, one: Person) -> str:
    """A JWT for another service, of the cookie session."""
    return (await harness.services.tokens.exchange.exchange(one.caller, audience="reports")).text


async def deliver(harness: Harness, *_: Person) -> None:
    await harness.services.outbox.run_due("mail")


async def deliver_and_retry(harness: Harness, *_: Person) -> None:
    transport = harness.services.mail.transport
    assert isinstance(transport, FakeTransport)
    transport.accepts = False
    await harness.services.outbox.run_due("mail")
    transport.accepts = True
    await harness.services.queues.retry("mail")


async def retry_as_superuser(harness: Harness, *_: Person) -> None:
    transport, queues = harness.services.mail.transport, harness.services.queues
    assert isinstance(transport, FakeTransport)
    await queues.send_test_mail(actor=harness.root)
    transport.accepts = False
    await harness.services.outbox.run_due("mail")
    transport.accepts = True
    await queues.retry("mail", actor=harness.root)
    for entry in await queues.page("mail", limit=1):
        with suppress(NotFound):  # delivered meanwhile
            await queues.retry_entry("mail", entry.id, actor=harness.root)


async def webhook_test_as_superuser(harness: Harness, *_: Person) -> None:
    # Without the request, which is outside of the transaction.
    await harness.services.queues._record_webhook_test("https://example.com/x", harness.root)


async def tests_of_an_operator(harness: Harness, *_: Person) -> None:
    # Without the mail and the request, which are outside of the transactions.
    await harness.services.queues._record_mail_test()
    await harness.services.queues._record_webhook_test("https://example.com/x", None)


async def bring_forward(harness: Harness, *_: Person) -> None:
    async with harness.services.database.transaction() as store:
        for entry in await store.outbox.page("mail", limit=1):
            await store.outbox.reschedule(entry, until=entry.due_at + timedelta(days=400), error="")
    await harness.services.outbox.bring_forward("mail")


async def add_app(harness: Harness, one: Person, _: Person) -> None:
    await add_authenticator(harness.services, one.caller)


async def remove_app(harness: Harness, one: Person, _: Person) -> None:
    app = await add_authenticator(harness.services, one.caller)
    await harness.services.factors.changes.remove_totp(app.caller)


async def replace_recovery_codes(harness: Harness, one: Person, _: Person) -> None:
    app = await add_authenticator(harness.services, one.caller)
    await harness.services.factors.changes.new_recovery_codes(app.caller)


def stepping_up(*, by: str) -> Operation:
    async def step_up(harness: Harness, one: Person, _: Person) -> None:
        app = await add_authenticator(harness.services, one.caller)
        is_code, secret = by == "code", hash_secret(new_secret())
        await harness.services.factors.step_up.prove(
            app.caller,
            code=app.code() if is_code else None,
            recovery_code=None if is_code else app.recovery_codes[0],
            new_secret_hash=secret,
        )

    return step_up


async def fail_at_step_up(harness: Harness, one: Person, __: Person) -> None:
    app = await add_authenticator(harness.services, one.caller)
    async with harness.services.database.transaction() as store:
        await store.users.lock(one.id)
        factor = await store.totp_factors.find(one.id)
        assert factor is not None
        for _ in range(9):  # the owner is told of the tenth wrong code
            await store.totp_factors.count_attempt(factor.id, limit=100)
    with pytest.raises(WrongCode):
        await harness.services.factors.step_up.prove(
            app.caller, code=wrong_code(app), new_secret_hash=None
        )


async def log_in_with_second_factor(harness: Harness, one: Person, _: Person) -> None:
    app, logins = await add_authenticator(harness.services, one.caller), harness.services.logins
    proved = await proved_password(harness.services, one.user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    if not isinstance(pending, PendingLogin):  # in a race
        raise InvalidCredentials
    done = await logins.prove_second_factor(ticket=pending.ticket, code=app.code())
    secret = hash_secret(new_secret())
    await harness.create_session(done.login, SessionKind.TOKEN, secret=secret)


async def log_in_without_session(harness: Harness, one: Person, _: Person) -> None:
    """Log in in a browser, by a strategy that begins no session of ours, and begin once more."""
    app, logins = await add_authenticator(harness.services, one.caller), harness.services.logins
    proved = await proved_password(harness.services, one.user)
    browser, code = new_secret(), app.recovery_codes[0]
    await logins.complete(proved, strategy="own", remember=False, browser=browser)
    done = await logins.prove_second_factor(browser=browser, recovery_code=code)
    await logins.use_up(done.login)
    await logins.complete(proved, strategy="own", remember=False, browser=browser)
    await logins.abandon(browser)


async def change_passkeys(harness: Harness, one: Person, _: Person) -> None:
    """Add two passkeys, rename one, and remove both."""
    passkeys = harness.services.factors.passkeys
    first, caller = await add_passkey(harness.services, one.caller, SoftAuthenticator())
    second, caller = await add_passkey(harness.services, caller, SoftAuthenticator())
    await passkeys.rename(caller, second.id, "x")
    for passkey in (first, second):
        await passkeys.remove(caller, passkey.id)


async def log_in_by_passkey(harness: Harness, one: Person, _: Person) -> None:
    passkey, browser = SoftAuthenticator(), new_secret()
    await add_passkey(harness.services, one.caller, passkey)
    logins = harness.services.passkey_logins
    assertion = answer(passkey, await logins.options(browser, origin=None))
    proved = await logins.authenticate(assertion, browser)
    login = await harness.services.logins.complete(proved, strategy="token", remember=False)
    if isinstance(login, PendingLogin):  # a passkey is two factors
        raise InvalidCredentials
    await harness.create_session(login, SessionKind.TOKEN, secret=hash_secret(new_secret()))


async def log_in_by_password_and_passkey(harness: Harness, one: Person, _: Person) -> None:
    passkey, logins = SoftAuthenticator(), harness.services.logins
    await add_passkey(harness.services, one.caller, passkey)
    proved = await proved_password(harness.services, one.user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    if not isinstance(pending, PendingLogin):  # in a race
        raise InvalidCredentials
    ticket = pending.ticket
    asked = await logins.passkey_options(ticket=ticket, browser=None, origin=None)
    done = await logins.prove_second_factor(ticket=ticket, passkey=answer(passkey, asked))
    secret = hash_secret(new_secret())
    await harness.create_session(done.login, SessionKind.TOKEN, secret=secret)


async def step_up_by_passkey(harness: Harness, one: Person, _: Person) -> None:
    passkey, step_up = SoftAuthenticator(), harness.services.factors.step_up
    added = await add_passkey(harness.services, one.caller, passkey)
    caller = added[1]
    assertion = answer(passkey, await step_up.passkey_options(caller, origin=None))
    await step_up.prove(caller, passkey=assertion, new_secret_hash=hash_secret(new_secret()))


def login_enrolment(services: Services) -> tuple[Logins, LoginEnrolment]:
    """The services of logins where every account must have a second factor."""
    settings = services.settings.model_copy(update={"mfa": "required"})
    logins = Logins(
        services.database,
        services.factors.proofs,
        services.federation.links.finish,
        services.audit,
        settings,
    )
    factors, limits = services.factors, services.rate_limits
    return logins, LoginEnrolment(services.database, logins, factors, limits)


async def begin_enrolment(harness: Harness, one: Person) -> tuple[LoginEnrolment, str]:
    """A login that must add a second factor, and its ticket."""
    logins, enrolment = login_enrolment(harness.services)
    proved = await proved_password(harness.services, one.user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    assert pending.ticket is not None
    return enrolment, pending.ticket


async def log_in_and_enrol(harness: Harness, one: Person, _: Person) -> None:
    enrolment, ticket = await begin_enrolment(harness, one)
    begun = await enrolment.begin_totp(ticket=ticket)
    code = pyotp.TOTP(begun.secret).at(now())
    done, _enrolled = await enrolment.confirm_totp(code, ticket=ticket)
    secret = hash_secret(new_secret())
    await harness.create_session(done.login, SessionKind.TOKEN, secret=secret)


async def log_in_and_add_passkey(harness: Harness, one: Person, _: Person) -> None:
    enrolment, ticket = await begin_enrolment(harness, one)
    created = attestation(
        SoftAuthenticator(), await enrolment.passkey_options(ticket=ticket, origin=None)
    )
    done, _enrolled = await enrolment.add_passkey(created, "My phone", ticket=ticket)
    secret = hash_secret(new_secret())
    await harness.create_session(done.login, SessionKind.TOKEN, secret=secret)


async def reset_factors(harness: Harness, one: Person, _: Person) -> None:
    await add_authenticator(harness.services, one.caller)
    administration = harness.services.accounts.administration
    await administration.reset_factors(one.id, actor=harness.root)


async def fill_with_examples(harness: Harness, *_: Person) -> None:
    with suppress(ConfigurationError):  # there are accounts
        await DemoData(harness.services).fill(PASSWORD)


async def prune(harness: Harness, *_: Person) -> None:
    await harness.services.cleanup.run_once()


async def end_everything(harness: Harness, *_: Person) -> None:
    services = harness.services
    await AllSessions(services.database, services.audit).end()


async def reapply(harness: Harness, one: Person, two: Person) -> None:
    """Repeat one event of each kind, the deletion last."""
    services = harness.services
    events = [
        RecordedEvent(new_id(), now(), kind, person.id, person.session_id)
        for person in (one, two)
        for kind in sorted(REAPPLIED - {EventType.ACCOUNT_DELETED})
    ]
    events.append(RecordedEvent(new_id(), now(), EventType.ACCOUNT_DELETED, one.id, None))
    await EventReplay(services.database, services.audit, services.hooks, services.settings).run(
        events, since=now()
    )


OPERATIONS: dict[str, Operation] = {
    "end everything": end_everything,
    "reapply": reapply,
    "fill with examples": fill_with_examples,
    "log in over another account": log_in_over_another_account,
    "log in again": log_in_again,
    "log in from a new device": log_in_from_a_new_device,
    "disown": disown,
    "log out": lambda harness, one, _: harness.services.sessions.logout(one.caller),
    "end": lambda harness, one, _: harness.services.sessions.end(one.session_id),
    "end own login": end_own_login,
    "end own token": end_own_token,
    "end others": lambda harness, one, _: harness.services.sessions.end_others(one.caller),
    "end all": lambda harness, one, _: harness.services.sessions.end_all(one.id),
    "merge data": lambda harness, one, _: harness.services.sessions.merge_data(
        one.caller, {"a": 1}
    ),
    "flush": use_and_flush,
    "rehash": rehash,
    "change password": change_password,
    "reauthenticate": lambda harness, one, _: (
        harness.services.accounts.authentication.reauthenticate(
            one.caller, PASSWORD, new_secret_hash=hash_secret(new_secret())
        )
    ),
    "set password": lambda harness, one, _: harness.services.accounts.passwords.set(
        one.id, PASSWORD + secrets.token_hex(4)
    ),
    "rename": rename,
    "change user name": change_username,
    "deactivate": lambda harness, one, _: harness.services.accounts.administration.change(
        one.id, {"is_active": False}
    ),
    "activate": lambda harness, one, _: harness.services.accounts.administration.change(
        one.id, {"is_active": True}
    ),
    "delete": lambda harness, one, _: harness.services.accounts.deletion.delete_own(one.caller),
    "create": lambda harness, *_: harness.services.accounts.registration.create(
        new_address(), None
    ),
    "register": lambda harness, *_: harness.services.accounts.registration.register(
        new_address(), PASSWORD, name="x"
    ),
    "register by mail": lambda harness, one, _: register_by_mail(harness, new_address(), one),
    "register a taken address": lambda harness, one, _: register_by_mail(
        harness, parse_email(one.user.email), one
    ),
    "confirm with password": confirm_with_password,
    "confirm and transfer": confirm_and_transfer,
    "change email": change_email,
    "transaction of an application": open_for_application,
    "change email for an operator": change_email_for_operator,
    "revert email change": revert_email_change,
    "request a free address": request_free_address,
    "request a taken address": request_taken_address,
    "cancel a change of address": cancel_change,
    "reset": reset,
    "accept invitation": accept_invitation,
    "request a reset": submitting("reset"),
    "request a confirmation": submitting("confirm"),
    "invite": invite,
    "resend invitation": resend_invitation,
    "send a reset link": send_reset_link,
    "promote": administering(superuser=True, active=True),
    "demote and deactivate": administering(superuser=False, active=False),
    "end sessions": lambda harness, one, _: harness.services.accounts.administration.end_sessions(
        one.id, actor=harness.root
    ),
    "end a login": end_login,
    "end a token": end_token,
    "administer one another": administer_one_another,
    "delete by a superuser": lambda harness, one, _: harness.services.accounts.deletion.delete(
        one.id, actor=harness.root
    ),
    "delete another": delete_another,
    "import": import_accounts,
    "create token": lambda harness, one, _: harness.services.tokens.personal.create(
        one.caller, name="x", scopes=None, lifetime=None
    ),
    "refresh": refresh,
    "reuse": use_refresh_token_again,
    "revoke": lambda harness, one, _: harness.services.tokens.revocation.revoke(
        one.opaque, caller=one.caller
    ),
    "leak": report_leaked,
    "leak a JWT for another service": report_exchanged,
    "revoke a JWT for another service": revoke_exchanged,
    "record event": lambda harness, one, _: harness.services.audit.record_separately(
        EventType.LOGIN_REFUSED, user_id=one.id
    ),
    "record throttled": lambda harness, one, _: harness.services.audit.record_throttled(
        one.user.email
    ),
    "deliver": deliver,
    "deliver and retry": deliver_and_retry,
    "bring mail forward": bring_forward,
    "announce a change": lambda harness, one, _: announce_changes(
        harness.services.database, [one.id]
    ),
    "add app": add_app,
    "add app of the testing kit": lambda harness, one, _: Authenticator(
        lambda: harness.services
    ).enrol(one.user),
    "remove app": remove_app,
    "replace recovery codes": replace_recovery_codes,
    "step up by code": stepping_up(by="code"),
    "step up by recovery code": stepping_up(by="recovery code"),
    "fail at step-up": fail_at_step_up,
    "log in with second factor": log_in_with_second_factor,
    "log in without session": log_in_without_session,
    "change passkeys": change_passkeys,
    "log in by passkey": log_in_by_passkey,
    "log in by password and passkey": log_in_by_password_and_passkey,
    "step up by passkey": step_up_by_passkey,
    "log in and enrol": log_in_and_enrol,
    "log in and add a passkey": log_in_and_add_passkey,
    "reset factors": reset_factors,
    **FEDERATED,
    "prune": prune,
    "rotate": lambda harness, *_: harness.services.keys.lifecycle.rotate(early=True),
    "rotate as superuser": lambda harness, *_: harness.services.keys.lifecycle.rotate(
        early=True, actor=harness.root
    ),
    "retry as superuser": retry_as_superuser,
    "tests of an operator": tests_of_an_operator,
    "test a webhook as superuser": webhook_test_as_superuser,
    "maintain": lambda harness, *_: harness.services.keys.lifecycle.maintain(),
    "rewrap": lambda harness, *_: harness.services.keys.lifecycle.rewrap(
        read_secret(harness.services.settings)
    ),
}
"""By name. Each can run on any two accounts, at any time."""


async def retire(harness: Harness, *_: Person) -> None:
    keys = await harness.services.keys.lifecycle.check()
    await harness.services.keys.lifecycle.retire(keys[0].kid)


async def discard(harness: Harness, *_: Person) -> None:
    await harness.services.keys.lifecycle.retire_all()
    await harness.services.keys.open()


EXCLUSIVE_OPERATIONS: dict[str, Operation] = {"retire": retire, "discard": discard}
"""Operations after which other operations have no keys for a moment."""


def make_everything_due(patch: pytest.MonkeyPatch) -> None:
    """Make each maintenance rotate the keys, and each login replace its hash."""
    patch.setattr(lifecycle, "_MIN_PUBLICATION", timedelta(0))
    patch.setattr(KeyLifecycle, "_is_due", lambda *_: True)
    patch.setattr(Passwords, "needs_rehash", lambda *_: True)
