"""What an issuer says of a caller, as an `Identity`.

An issuer is trusted to say who somebody is, not to write well: each claim is read as what its
standard says (RFC 7519, RFC 9068, OpenID Connect Core 1.0), and anything else refuses the token.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from authapi.clock import now
from authapi.crypto.ids import read_uuid
from authapi.crypto.jws import TENANT
from authapi.errors import ConfigurationError, TokenError
from authapi.identity import Claims, Identity, User

T = TypeVar("T")

SCOPE_CLAIMS = ("scope", "scp")
"""RFC 9068, section 2.2.3, and what Microsoft Entra writes."""

UNSPECIFIED = "unspecified"
"""The `amr` of a login of which the issuer says when it was and not how."""

_MAX_EMAIL = 320
_MAX_NAME = 1024
_SKEW = timedelta(seconds=30)
_DERIVED = 5
"""The version of the UUIDs that we make of names (RFC 9562, section 5.5)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How the claims of one issuer are read."""

    strategy: str
    issuer: str
    subjects_are_ids: bool
    scope_claims: tuple[str, ...]
    """Names of claims, or dotted paths into them: see `_at`."""

    def identity(self, claims: Mapping[str, object]) -> Identity:
        """Who these verified claims say is calling. Raises TokenError if they say it badly."""
        try:
            return self._identity(claims)
        except (ValueError, OverflowError, OSError):
            # Times beyond every calendar; nothing of it is told.
            raise TokenError("times") from None

    def _identity(self, claims: Mapping[str, object]) -> Identity:
        issued_at = _time(claims, "iat") or now()
        expires_at, logged_in_at = _time(claims, "exp"), _time(claims, "auth_time")
        if logged_in_at is not None and logged_in_at > now() + _SKEW:
            raise TokenError("auth_time")  # it would be fresh for as long as it lies ahead
        email = _text(claims, "email", _MAX_EMAIL)
        if not email.isprintable() or " " in email:
            raise TokenError("email")
        is_confirmed = bool(email) and claims.get("email_verified") is True
        # A template stands for many issuers: the one that signed is in the token.
        issuer = claims.get("iss") if TENANT in self.issuer else self.issuer
        return Identity(
            user=User(
                id=self.user_id(claims.get("sub"), issuer=str(issuer)),
                email=email,
                name=_text(claims, "name", _MAX_NAME) or None,
                is_active=True,
                is_superuser=False,
                email_confirmed_at=issued_at if is_confirmed else None,
                created_at=issued_at,
                updated_at=issued_at,
            ),
            strategy=self.strategy,
            session_id=read_uuid(claims.get("sid")),
            scopes=frozenset(scope for name in self.scope_claims for scope in _words(claims, name)),
            auth_time=logged_in_at or issued_at,
            amr=_methods(claims, has_login=logged_in_at is not None),
            expires_at=expires_at,
            claims=Claims(claims),
        )

    def user_id(self, subject: object, *, issuer: str | None = None) -> UUID:
        """The id of a subject: itself, if subjects are ids, else derived from issuer and subject.

        A derived id is a UUID of version 5, so a subject that is one is derived from as well: no
        issuer can name the user of another. Raises TokenError.
        """
        if not isinstance(subject, str) or not subject or not subject.isprintable():
            raise TokenError("sub")
        found = read_uuid(subject) if self.subjects_are_ids else None
        if found is None or found.version == _DERIVED:
            return uuid5(uuid5(NAMESPACE_URL, issuer or self.issuer), subject)
        return found


def several(values: str | Collection[T], what: str) -> tuple[str | T, ...]:
    """One text or several values as a tuple. Raises ConfigurationError if there are none."""
    found: tuple[str | T, ...] = (values,) if isinstance(values, str) else tuple(values)
    if not found or "" in found:
        raise ConfigurationError(f"{what} names nothing")
    return found


def _time(claims: Mapping[str, object], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    # bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TokenError(name)
    return datetime.fromtimestamp(value, UTC)


def _text(claims: Mapping[str, object], name: str, longest: int) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise TokenError(name)
    return value


def _words(claims: Mapping[str, object], path: str) -> list[str]:
    value = _at(claims, path)
    if value is None:
        return []
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenError(path)
    return [word for word in words if word]


def _at(members: Mapping[str, object], path: str) -> object:
    """The value at a dotted path, None where there is none.

    A member's own name may have dots, as in `https://example.com/roles`: the longest name that is
    there is taken, and the rest of the path is looked for inside of it. Raises TokenError if
    something on the way has no members.
    """
    if path in members:
        return members[path]
    name, _, _ = path.rpartition(".")
    while name:
        inner = members.get(name)
        if isinstance(inner, dict):
            return _at(inner, path[len(name) + 1 :])
        if inner is not None:
            raise TokenError(path)
        name, _, _ = name.rpartition(".")
    return None


def _methods(claims: Mapping[str, object], *, has_login: bool) -> tuple[str, ...]:
    # Without the time of a login, or with a list of methods that is empty, as personal tokens of
    # authapi have it, there was no login for this: it is never fresh.
    methods = claims.get("amr")
    if methods is None:
        return (UNSPECIFIED,) if has_login else ()
    if not isinstance(methods, list):
        raise TokenError("amr")
    named = tuple(_method(method) for method in methods)
    return named if has_login else ()


def _method(value: object) -> str:
    # RFC 8176 has texts. Supabase Auth writes objects with the name in `method`.
    found = value.get("method", UNSPECIFIED) if isinstance(value, dict) else value
    if not isinstance(found, str):
        raise TokenError("amr")
    return found
