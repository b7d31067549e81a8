"""People at a provider, and the flows that they come back with, without a provider."""

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret, new_opaque_token, new_secret
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import LinkedIdentity, Person
from authapi.domain.identity import Identity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.services import Lifetime, Services
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login, Proved

PROVIDER, ISSUER = "acme", "https://id.acme.example"
PROVIDERS = {
    PROVIDER: {"client_id": "authapi", "issuer": ISSUER},
    "other": {"client_id": "authapi", "issuer": "https://id.other.example"},
}


def a_person(email: str | None = None, **changes: Any) -> Person:
    """A person whom no account is linked to."""
    person = Person(PROVIDER, ISSUER, secrets.token_hex(8), email=email, name="Ada Lovelace")
    return replace(person, **changes)


def a_link(user_id: UUID) -> LinkedIdentity:
    """A person at a provider who is linked to an account, as a row that is not stored yet."""
    return LinkedIdentity(
        id=new_id(),
        user_id=user_id,
        provider=PROVIDER,
        issuer=ISSUER,
        subject=secrets.token_hex(8),
        email=None,
        email_verified=False,
        name=None,
        created_at=now(),
        last_login_at=None,
    )


def a_flow(
    intent: FlowIntent = FlowIntent.LOGIN, caller: Identity | None = None, **changes: Any
) -> Flow:
    """A flow that has led to the provider; that of `caller` for every intent but a login."""
    at = now()
    flow = Flow(
        provider=PROVIDER,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(32),
        intent=intent,
        began_at=at,
        expires_at=at + timedelta(minutes=10),
        strategy="token",
        user_id=None if caller is None else caller.user.id,
        session_id=None if caller is None else caller.session_id,
    )
    return replace(flow, **changes)


async def begin_session(services: Services, login: Login) -> Session:
    """Begins the session of a login, as the strategy `token` does."""
    return await services.sessions.create(
        login,
        SessionKind.TOKEN,
        lifetime=Lifetime(timedelta(days=1), timedelta(hours=1)),
        secret=hash_secret(new_opaque_token()),
    )


async def complete(services: Services, proved: Proved) -> Login | PendingLogin:
    """Completes a login of a client without a cookie."""
    return await services.logins.complete(proved, strategy="token", remember=False)


async def log_in(services: Services, person: Person, flow: Flow | None = None) -> Session:
    """Logs a person in whose account has no second factor."""
    proved = await services.federation.arrivals.arrive(person, flow or a_flow())
    login = await complete(services, proved)
    assert isinstance(login, Login)
    return await begin_session(services, login)


async def caller_of(services: Services, user: User) -> Identity:
    """A caller with a fresh session of the account, begun by a password."""
    async with services.database.read() as store:
        row = await store.users.find_credentials(user.id)
    assert row is not None
    secret = hash_secret(new_secret())
    login = Login(row.user, row.version, now(), ("pwd",))
    lifetime = Lifetime(timedelta(days=1), timedelta(hours=1))
    await services.sessions.create(login, SessionKind.SESSION, lifetime=lifetime, secret=secret)
    caller = await services.sessions.identify_by_secret(
        secret, SessionKind.SESSION, strategy="session"
    )
    assert caller is not None
    return caller


async def session_ids(services: Services, user_id: UUID) -> set[UUID]:
    """The ids of the live logins of an account."""
    return {session.id for session in await services.sessions.list_for_user(user_id)}
