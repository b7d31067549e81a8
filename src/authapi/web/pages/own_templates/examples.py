"""Values for each template as its page gives them, to find a template that cannot be rendered.

Each template is rendered twice: with every value that is optional, and without. The tests compare
the names with those that the pages use.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import Client
from authapi.domain.factors.passkeys import Passkey
from authapi.domain.factors.values import RecoveryCodesLeft, TOTPFactor
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.services.accounts.email_change import PendingEmailChange
from authapi.services.accounts.passwords import PasswordState
from authapi.services.factors.changes import AccountFactors
from authapi.web.pages.account.event_texts import EventLine
from authapi.web.pages.rendering import Form
from authapi.web.pages.site import Site

Values = Mapping[str, Any]

_EMAIL = "user@example.com"
_TEXT = "Something is not right."
_FIELDS = ("email", "name", "username", "password", "new_password", "code", "expires_in", "scopes")
_LINKS = ("confirm", "reset", "undo", "disown", "invitation")
"""The pages that links in mails lead to."""


def examples(site: Site, name: str, language: str) -> Iterator[Values]:
    """Yields values for the template `name`, in an offered language: all, then the fewest."""
    for is_full in (True, False):
        for values in _values(name, is_full=is_full):
            yield {**_common(site, language, name, is_full=is_full), **values}


def _common(site: Site, language: str, name: str, *, is_full: bool) -> dict[str, Any]:
    is_signed_in = is_full or name in _OF_ACCOUNT
    return {
        "language": language,
        "languages": site.languages.names if is_full else {language: language},
        "kept": {"next": "/"} if is_full else {},
        "lang_query": f"?lang={language}" if is_full else "",
        "base": "account/",
        "root": "account",
        "versions": {file: asset.version for file, asset in site.assets.items()},
        "brand": site.name,
        "home": "account",
        "sign_in": "sign-in" if is_full or name in _OF_SIGN_IN else None,
        "user": _user(is_full=is_full) if is_signed_in else None,
        "has_sign_out": is_full,
        "has_tokens": is_full,
        "passkey_origins": site.passkey_origins,
        "min_length": 15,
        "terms_url": "https://example.com/terms" if is_full else None,
        "privacy_url": "https://example.com/privacy" if is_full else None,
        "support_url": "https://example.com/help" if is_full else None,
        "form": _form(is_full=is_full),
        "outcome": {"text": _TEXT, "is_problem": False} if is_full else None,
        "token": "x" * 43 if is_full else "",
    }


def _form(*, is_full: bool, **values: str) -> Form:
    if not is_full:
        return Form(values)
    return Form({"email": _EMAIL, "next": "/", **values}, dict.fromkeys(_FIELDS, _TEXT), _TEXT)


def _user(*, is_full: bool) -> User:
    at = now()
    return User(
        id=new_id(),
        email=_EMAIL,
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


def _session(kind: SessionKind, *, is_full: bool) -> Session:
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


def _passkey(*, is_full: bool) -> Passkey:
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


def _factors(*, is_full: bool) -> AccountFactors:
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
        passkeys=(_passkey(is_full=True), _passkey(is_full=False)),
    )


def _events(*, is_full: bool) -> list[EventLine]:
    if not is_full:
        return []
    place = "Chrome on Windows, 192.0.2.1"
    return [
        EventLine(new_id(), now(), "Signed in", place, is_refused=True, asks_owner=True),
        EventLine(new_id(), now(), "Signed in", "", is_refused=False, asks_owner=False),
    ]


def _needs(*, is_full: bool, password: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        password=is_full or password,
        code=is_full,
        other_way="prove" if is_full else None,
        is_any=is_full or password,
    )


def _device(kind: SessionKind, *, is_full: bool) -> SimpleNamespace:
    session = _session(kind, is_full=is_full)
    return SimpleNamespace(
        session=session, name="Chrome on Windows", is_current=is_full, is_active=is_full
    )


def _token(*, is_full: bool) -> SimpleNamespace:
    return SimpleNamespace(
        session=_session(SessionKind.TOKEN, is_full=is_full),
        last_used_at=now() if is_full else None,
        is_forgotten=True,
        ends_soon=is_full,
    )


def _filters() -> Values:
    return dict.fromkeys(("all", "sign-ins", "changes", "refused"), "activity")


def _only_needs(full: bool) -> Values:  # as the other entries of the tables
    return {"needs": _needs(is_full=full)}


_CODES = {"codes": ["7K2M-Q4XP"], "download": "data:text/plain,x", "file_name": "codes.txt"}
_KEY = {"qr": Markup("<svg></svg>"), "key": "ABCD EFGH"}

_OF_ACCOUNT: Mapping[str, Callable[[bool], Values]] = {
    "account": lambda full: {
        "changing": "name" if full else "",
        "version": "x",
        "needs": _needs(is_full=full),
        "pending": PendingEmailChange("new@example.com", now()) if full else None,
        "sends_mail": full,
        "identifier": "both" if full else "email",
        "since": "1 January 2026",
        "locales": {"en": "English", "ko": "한국어"} if full else {},
    },
    "security": lambda full: {
        "password": PasswordState(full, now() if full else None),
        "factors": _factors(is_full=full),
        "can_add": full,
        "needs_confirmation": full,
        "offers_passkeys": full,
        "events": _events(is_full=full),
    },
    "password": lambda full: {
        "needs": _needs(is_full=full),
        "has_password": full,
        "sends_mail": not full,
        "email": _EMAIL,
    },
    "app-start": _only_needs,
    "app": lambda full: _KEY if full else {**_KEY, "qr": None},
    "app-confirm": lambda _: {},
    "app-remove": lambda full: {
        "needs": _needs(is_full=full),
        "is_last": full,
        "is_required": not full,
    },
    "codes-new": _only_needs,
    "codes": lambda _: _CODES,
    "passkey-new": lambda full: {"needs": _needs(is_full=full), "prove": "prove"},
    "passkey": lambda full: {
        "passkey": _passkey(is_full=full),
        "needs": _needs(is_full=full),
        "is_removal": full,
    },
    "devices": lambda full: {
        "devices": [_device(kind, is_full=full) for kind in SessionKind],
        "others": 2 if full else 0,
        "newer": 1 if full else 0,
        "older": 3 if full else 0,
    },
    "tokens": lambda full: {
        "tokens": [_token(is_full=True), _token(is_full=False)] if full else [],
        "newer": 1 if full else 0,
        "older": 3 if full else 0,
    },
    "token-new": lambda full: {
        "form": _form(is_full=full, expires="30", date="2026-12-31"),
        "form_id": "x",
        "presets": [7, 30] if full else [],
        "first_day": "2026-01-01",
        "last_day": "2026-12-31",
        "scopes": {"reports:read": "Read reports", "reports:write": ""} if full else {},
        "scope_name": "scope ",
        "needs": _needs(is_full=full),
    },
    "token-made": lambda full: {
        "token": _session(SessionKind.TOKEN, is_full=full),
        "secret": "x",
        "issuer": "https://example.com",
    },
    "activity": lambda full: {
        "shown": "all" if full else "refused",
        "filters": _filters(),
        "events": _events(is_full=full),
        "newest": "activity" if full else None,
        "older": "activity" if full else None,
    },
    "data": lambda _: {},
    "delete": lambda full: {
        "has_password": full,
        "needs": _needs(is_full=full),
        "keeps_events": full,
    },
    "frame": lambda _: {"here": ""},
    "task": lambda _: {"here": ""},
}
"""The pages of a person who is signed in."""

_OF_SIGN_IN: Mapping[str, Callable[[bool], Values]] = {
    "sign-in": lambda full: {
        "identifier": "both" if full else "email",
        "offers_reset": True,
        "offers_sign_up": full,
        "is_stuck": full,
        "forgot": "forgot",
        "sign_up": "sign-up",
        "focus": "password" if full else "email",
        "has_passkeys": full,
        "unknown": [{"id": "x", "rp": "example.com"}] if full else [],
    },
    "signed-in": lambda full: {"email": _EMAIL, "next": "/" if full else None},
    "second-step": lambda full: {"has_app": full, "has_codes": True, "has_passkey": full},
    "enrol": lambda full: {"has_passkey": full},
    "enrol-app": lambda full: _KEY if full else {**_KEY, "qr": None},
    "enrol-confirm": lambda _: {},
    "enrol-codes": lambda _: {"go_on": "sign-in", **_CODES},
    "sign-up": lambda full: {"identifier": "both" if full else "email"},
    "sign-up-closed": lambda _: {},
    "check-mail": lambda full: {
        "sent_to": "u***@example.com" if full else None,
        "address": _EMAIL if full else "",
        "sign_up": "sign-up",
    },
    "sign-out": lambda _: {"email": _EMAIL},
    "prove": lambda full: {
        "account": _EMAIL,
        "needs": _needs(is_full=full, password=True),
        "has_password": full,
        "has_passkey": True,
    },
}
"""The pages that an installation has only together with the page to sign in."""

_OTHERS: Mapping[str, Callable[[bool], Values]] = {
    "try-again": lambda full: {
        "problem": _TEXT,
        "values": {"email": _EMAIL} if full else {},
        "secrets": ["password", "new_password", "current_password", "code"] if full else [],
    },
    "forgot": lambda _: {},
    "done": lambda full: {
        "is_mailed": full,
        "offers_reset": not full,
        "sent_to": "u***@example.com" if full else None,
        "send_again": _EMAIL if full else None,
    },
    "confirm": lambda full: {
        "account": _EMAIL,
        "is_owner": not full,
        "email": _EMAIL,
        "can_take_over": full,
    },
    **dict.fromkeys(("reset", "undo", "disown", "invitation"), lambda _: {"account": _EMAIL}),
}


def _values(name: str, *, is_full: bool) -> Iterator[Values]:
    if name == "dead-link":
        yield from ({"kind": kind, "problem": _TEXT} for kind in _LINKS)
    elif name == "error":
        for kind in ("again", "forgot", "sign_in"):
            link = {"href": "sign-in", "kind": kind}
            yield {"is_missing": is_full, "problem": _TEXT, "link": link, "reference": "x"}
    else:
        values = {**_OF_ACCOUNT, **_OF_SIGN_IN, **_OTHERS}.get(name)
        yield {} if values is None else values(is_full)
