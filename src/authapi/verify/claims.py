"""Maps the verified claims of a token to an `Identity`.

Each claim must have the type and form that its standard defines (RFC 7519, RFC 9068, OpenID Connect
Core 1.0). A malformed claim rejects the token, although its signature is valid.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from authapi.clock import now
from authapi.crypto.ids import read_uuid
from authapi.crypto.jws import TENANT
from authapi.domain.identity import Claims, Identity
from authapi.domain.user import User
from authapi.errors import ConfigurationError, TokenError

T = TypeVar("T")

SCOPE_CLAIMS = ("scope", "scp")
"""`scope` is RFC 9068, section 2.2.3; Microsoft Entra writes `scp`."""

UNSPECIFIED_METHOD = "unspecified"
"""The `amr` of a login for which the token has `auth_time` and no `amr`."""

_MAX_EMAIL = 320
_MAX_NAME = 1024
_CLOCK_SKEW = timedelta(seconds=30)
_DERIVED_VERSION = 5
"""The version of name-based UUIDs (RFC 9562, section 5.5)."""


@dataclass(frozen=True, slots=True)
class ClaimsReader:
    """Reads the claims of one issuer."""

    strategy: str
    issuer: str
    subjects_are_ids: bool
    scope_claims: tuple[str, ...]
    """Names of claims, or dotted paths: see `_value_at`."""

    def read_identity(self, claims: Mapping[str, object]) -> Identity:
        """Returns the caller that these verified claims describe.

        Raises TokenError, with the name of the claim, if a claim is malformed.
        """
        try:
            return self._read_identity(claims)
        except (ValueError, OverflowError, OSError):
            # A time outside the range of datetime. Its text would repeat the value.
            raise TokenError("times") from None

    def _read_identity(self, claims: Mapping[str, object]) -> Identity:
        issued_at = _read_time(claims, "iat") or now()
        expires_at, logged_in_at = _read_time(claims, "exp"), _read_time(claims, "auth_time")
        if logged_in_at is not None and logged_in_at > now() + _CLOCK_SKEW:
            raise TokenError("auth_time")  # a login in the future would stay fresh until then
        if not isinstance(claims.get("acr"), str | None):
            raise TokenError("acr")
        email = _read_text(claims, "email", _MAX_EMAIL)
        if not email.isprintable() or " " in email:
            raise TokenError("email")
        is_confirmed = bool(email) and claims.get("email_verified") is True
        # The issuer template matches many issuers; `iss` names the one that signed.
        issuer = claims.get("iss") if TENANT in self.issuer else self.issuer
        return Identity(
            user=User(
                id=self.user_id(claims.get("sub"), issuer=str(issuer)),
                email=email,
                name=_read_text(claims, "name", _MAX_NAME) or None,
                is_active=True,
                is_superuser=False,
                email_confirmed_at=issued_at if is_confirmed else None,
                created_at=issued_at,
                updated_at=issued_at,
            ),
            strategy=self.strategy,
            session_id=read_uuid(claims.get("sid")),
            scopes=frozenset(
                scope for name in self.scope_claims for scope in _read_words(claims, name)
            ),
            auth_time=logged_in_at or issued_at,
            amr=_read_methods(claims, has_login=logged_in_at is not None),
            expires_at=expires_at,
            claims=Claims(claims),
        )

    def user_id(self, subject: object, *, issuer: str | None = None) -> UUID:
        """Returns the user id for a `sub`: the `sub` itself if it is a UUID, else a derived UUID.

        A derived id is the UUID version 5 of issuer and `sub`. A `sub` that is itself a UUID
        version 5 is derived from too: otherwise one issuer could write the derived id of a user
        of another issuer. With `subjects_are_ids` False, every id is derived.

        Raises TokenError if `sub` is missing, empty or not printable text.
        """
        if not isinstance(subject, str) or not subject or not subject.isprintable():
            raise TokenError("sub")
        user_id = read_uuid(subject) if self.subjects_are_ids else None
        if user_id is None or user_id.version == _DERIVED_VERSION:
            return uuid5(uuid5(NAMESPACE_URL, issuer or self.issuer), subject)
        return user_id


def nonempty_tuple(values: str | Collection[T], what: str) -> tuple[str | T, ...]:
    """Returns one string or a collection of values as a tuple.

    Raises ConfigurationError, with `what` as the name of the parameter, if the collection is empty
    or contains an empty string.
    """
    items: tuple[str | T, ...] = (values,) if isinstance(values, str) else tuple(values)
    if not items or "" in items:
        raise ConfigurationError(f"{what} must not be empty")
    return items


def _read_time(claims: Mapping[str, object], name: str) -> datetime | None:
    value = claims.get(name)
    if value is None:
        return None
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise TokenError(name)
    return datetime.fromtimestamp(value, UTC)


def _read_text(claims: Mapping[str, object], name: str, longest: int) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > longest:
        raise TokenError(name)
    return value


def _read_words(claims: Mapping[str, object], path: str) -> list[str]:
    value = _value_at(claims, path)
    if value is None:
        return []
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise TokenError(path)
    return [word for word in words if word]


def _value_at(members: Mapping[str, object], path: str) -> object:
    """Returns the value at a dotted path, or None if the path does not exist.

    The name of a member may contain dots, as in `https://example.com/roles`. The longest existing
    name is taken first, and the rest of the path is resolved inside its value. Raises TokenError
    if a value on the path is not an object.
    """
    if path in members:
        return members[path]
    name, _, _ = path.rpartition(".")
    while name:
        inner = members.get(name)
        if isinstance(inner, dict):
            return _value_at(inner, path[len(name) + 1 :])
        if inner is not None:
            raise TokenError(path)
        name, _, _ = name.rpartition(".")
    return None


def _read_methods(claims: Mapping[str, object], *, has_login: bool) -> tuple[str, ...]:
    # A token without `auth_time`, or with an empty `amr` as personal access tokens of authapi
    # have it, does not result from a login. Without methods it never counts as fresh.
    methods = claims.get("amr")
    if methods is None:
        return (UNSPECIFIED_METHOD,) if has_login else ()
    if not isinstance(methods, list):
        raise TokenError("amr")
    names = tuple(_method_name(method) for method in methods)
    return names if has_login else ()


def _method_name(value: object) -> str:
    # RFC 8176 defines strings. Supabase Auth writes objects with the name in `method`.
    name = value.get("method", UNSPECIFIED_METHOD) if isinstance(value, dict) else value
    if not isinstance(name, str):
        raise TokenError("amr")
    return name
