"""Example values that several templates have: with all members, or the fewest."""

from datetime import timedelta
from types import SimpleNamespace

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import Client
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.factors.values import RecoveryCodesLeft, TOTPFactor
from authapi.domain.federation.person import LinkedIdentity
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.services.factors.changes import AccountFactors
from authapi.web.pages.account.event_texts import EventLine
from authapi.web.pages.account.providers import ConnectedAccount, ProviderButton
from authapi.web.pages.rendering import Form

EMAIL = "user@example.com"
TEXT = "Something is not right."
FIELDS = ("email", "name", "username", "password", "new_password", "code", "expires_in", "scopes")


def form_example(*, is_full: bool, **values: str) -> Form:
    """Returns a form, with a message for each field."""
    if not is_full:
        return Form(values)
    return Form({"email": EMAIL, "next": "/", **values}, dict.fromkeys(FIELDS, TEXT), TEXT)


def user_example(*, is_full: bool) -> User:
    """Returns an account."""
    at = now()
    return User(
        id=new_id(),
        email=EMAIL,
        name="Example User" if is_full else None,
        is_active=True,
        is_superuser=False,
        email_confirmed_at=at if is_full else None,
        created_at=at,
        updated_at=at,
        locale="en" if is_full else None,
        roles=frozenset({"editor", "reader"} if is_full else ()),
        username="example" if is_full else None,
        mfa_since=at if is_full else None,
    )


def session_example(kind: SessionKind, *, is_full: bool) -> Session:
    """Returns a login, or an access token."""
    at = now()
    return Session(
        id=new_id(),
        user_id=new_id(),
        kind=kind,
        name="backup" if kind is SessionKind.TOKEN else None,
        scopes=frozenset({"reports:read"} if is_full else ()),
        created_at=at,
        last_seen_at=at,
        idle_expires_at=at + timedelta(days=1) if is_full else None,
        expires_at=at + timedelta(days=30),
        auth_time=at,
        amr=("pwd",),
        client=Client("192.0.2.1", "Mozilla/5.0", "x") if is_full else Client(),
        data={},
    )


def passkey_example(*, is_full: bool) -> Passkey:
    """Returns a passkey."""
    return Passkey(
        id=new_id(),
        user_id=new_id(),
        credential_id=b"x",
        public_key=b"x",
        algorithm=-7,
        sign_count=0,
        transports=("internal",),
        aaguid=new_id(),
        backup_eligible=is_full,
        backed_up=is_full,
        name="Laptop",
        created_at=now(),
        last_used_at=now() if is_full else None,
    )


def factors_example(*, is_full: bool) -> AccountFactors:
    """Returns the second factors of an account; without any in the fewest."""
    if not is_full:
        return AccountFactors(required=True, totp=None, recovery_codes=None)
    at = now()
    return AccountFactors(
        required=True,
        totp=TOTPFactor(
            id=new_id(),
            user_id=new_id(),
            secret=b"x",
            last_step=-1,
            session_id=None,
            credentials_version=1,
            failures=0,
            owner_told_at=None,
            created_at=at,
            confirmed_at=at,
            last_used_at=at,
            expires_at=None,
        ),
        recovery_codes=RecoveryCodesLeft(1, at),
        passkeys=(passkey_example(is_full=True), passkey_example(is_full=False)),
    )


def events_example(*, is_full: bool) -> list[EventLine]:
    """Returns events of an account; none in the fewest."""
    if not is_full:
        return []
    place = "Chrome on Windows, 192.0.2.1"
    return [
        EventLine(new_id(), now(), "Signed in", place, is_refused=True, asks_owner=True),
        EventLine(new_id(), now(), "Signed in", "", is_refused=False, asks_owner=False),
    ]


def providers_example(*, is_full: bool) -> list[ProviderButton]:
    """Returns the buttons of other providers; none in the fewest."""
    return [ProviderButton("google", "Google", "login/with/google")] if is_full else []


def identity_example(*, is_full: bool) -> LinkedIdentity:
    """Returns an account at a provider."""
    return LinkedIdentity(
        id=new_id(),
        user_id=new_id(),
        provider="google",
        issuer="https://accounts.google.com",
        subject="1",
        email=EMAIL if is_full else None,
        email_verified=is_full,
        name="Example User" if is_full else None,
        created_at=now(),
        last_login_at=now() if is_full else None,
    )


def connected_example(*, is_full: bool) -> list[ConnectedAccount]:
    """Returns the connected accounts; none in the fewest."""
    if not is_full:
        return []
    return [ConnectedAccount(identity_example(is_full=it), "Google") for it in (True, False)]


def needs_example(*, is_full: bool, password: bool = False) -> SimpleNamespace:
    """Returns what a form asks for to prove who sends it."""
    return SimpleNamespace(
        password=is_full or password,
        code=is_full,
        other_way="prove" if is_full else None,
        is_any=is_full or password,
    )


def device_example(kind: SessionKind, *, is_full: bool) -> SimpleNamespace:
    """Returns a login as a page shows it."""
    session = session_example(kind, is_full=is_full)
    return SimpleNamespace(
        session=session, name="Chrome on Windows", is_current=is_full, is_active=is_full
    )


def token_example(*, is_full: bool) -> SimpleNamespace:
    """Returns an access token as a page shows it."""
    return SimpleNamespace(
        session=session_example(SessionKind.TOKEN, is_full=is_full),
        last_used_at=now() if is_full else None,
        is_forgotten=True,
        ends_soon=is_full,
    )
