"""The settings of accounts: how they begin, are confirmed and recovered, and what they may do."""

import re
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from authapi.settings.fields import Lifetime, Names
from authapi.settings.mail import MailSettings

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_MAX_ROLES = 20
PLACEHOLDER = "{token}"


def _link(value: str | None) -> str | None:
    if value is None:
        return None
    error = ValueError(
        f"must be an https URL with {PLACEHOLDER} behind its host: https://app/reset#{PLACEHOLDER}"
    )
    try:
        parts = urlsplit(value)
    except ValueError:
        raise error from None
    local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not (local or parts.scheme == "https") or not parts.hostname or "@" in parts.netloc:
        raise error
    if not value.isascii() or not value.isprintable() or " " in value:
        raise error
    if value.count(PLACEHOLDER) != 1 or PLACEHOLDER in parts.netloc:
        raise error
    return value


def _role_catalogue(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = (entry.partition("=") for entry in value.split(";") if entry.strip())
    return {name.strip(): scopes.replace(",", " ").split() for name, _, scopes in entries}


def _role_names(value: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    if len(value) > _MAX_ROLES or not all(_ROLE.fullmatch(name) for name in value):
        raise ValueError(
            f"at most {_MAX_ROLES} roles; a name is a letter and up to 39 of a-z, 0-9, _ and -"
        )
    return value


Link = Annotated[str | None, AfterValidator(_link)]
"""A URL with `{token}` in it."""
Roles = Annotated[
    dict[str, frozenset[str]],
    NoDecode,
    BeforeValidator(_role_catalogue),
    AfterValidator(_role_names),
]
"""`editor=reports:read reports:write; auditor=reports:read`."""


class AccountSettings(MailSettings):
    """How accounts live."""

    registration: Literal["open", "confirm", "invite", "closed"] = "open"
    """Who may register: everybody; everybody, and the account works once its address is confirmed,
    with the same answer for taken addresses; who was invited; nobody."""
    roles: Roles = Field(default_factory=dict)
    """Named sets of scopes. Without any, everybody's login holds all scopes."""
    default_roles: Names = ()
    """Roles that every account has besides its own."""
    confirm_lifetime: Lifetime = timedelta(hours=24)
    """How long a link that confirms an address works."""
    reset_lifetime: Lifetime = timedelta(minutes=30)
    """How long a link that chooses another password works."""
    undo_lifetime: Lifetime = timedelta(days=7)
    """How long the old address can take an account back."""
    invitation_lifetime: Lifetime = timedelta(days=7)
    """How long an invitation works."""
    confirm_link: Link = None
    """The page of your application that confirms an address; by default one of ours."""
    reset_link: Link = None
    """The page of your application that chooses another password; by default one of ours."""
    undo_link: Link = None
    """The page of your application that undoes a change of address; by default one of ours."""
    invitation_link: Link = None
    """The page of your application that accepts an invitation; by default one of ours."""
    deleted_events: Literal["anonymise", "erase"] = "anonymise"
    """What becomes of the events of an account that is deleted: they lose what tells of a person,
    or they go."""

    def _fit_together(self) -> None:
        super()._fit_together()
        if self.registration in {"confirm", "invite"} and not self.sends_mail:
            raise ValueError(f"registration={self.registration} needs AUTHAPI_MAIL_URL")
        for name, scopes in self.roles.items():
            if unknown := scopes.difference({"introspect", *self.scopes}):
                raise ValueError(f"role {name} names a scope that there is not: {min(unknown)}")
        if nameless := set(self.default_roles).difference(self.roles):
            raise ValueError(f"default_roles names a role that there is not: {min(nameless)}")
