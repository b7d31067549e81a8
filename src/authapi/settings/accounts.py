"""Settings of accounts: registration, confirmation, recovery and roles."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from authapi.domain.username import LoginIdentifier
from authapi.settings.field_types import Duration, Names
from authapi.settings.mail import MailSettings
from authapi.settings.values.urls import page_url_parts

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_MAX_ROLES = 20
PLACEHOLDER = "{token}"


def _check_link(value: str | None) -> str | None:
    if value is None:
        return None
    parts = page_url_parts(value)
    if parts is None or value.count(PLACEHOLDER) != 1 or PLACEHOLDER in parts.netloc:
        raise ValueError(
            f"must be an https URL with {PLACEHOLDER} after its host: "
            f"https://app/reset#{PLACEHOLDER}"
        )
    return value


def _check_page(value: str | None) -> str | None:
    if value is not None and page_url_parts(value) is None:
        raise ValueError("must be an https URL: https://app/security")
    return value


def _parse_roles(value: object) -> object:
    if not isinstance(value, str):
        return value
    entries = (entry.partition("=") for entry in value.split(";") if entry.strip())
    return {name.strip(): scopes.replace(",", " ").split() for name, _, scopes in entries}


def _check_role_names(value: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    if len(value) > _MAX_ROLES or not all(_ROLE.fullmatch(name) for name in value):
        raise ValueError(
            f"at most {_MAX_ROLES} roles; a name is a letter and up to 39 of a-z, 0-9, _ and -"
        )
    return value


Link = Annotated[str | None, AfterValidator(_check_link)]
"""A URL that contains `{token}` once, after its host."""
Page = Annotated[str | None, AfterValidator(_check_page)]
"""The URL of a page of the application."""
Roles = Annotated[
    dict[str, frozenset[str]],
    NoDecode,
    BeforeValidator(_parse_roles),
    AfterValidator(_check_role_names),
]
"""Roles with their scopes: `editor=reports:read reports:write; auditor=reports:read`."""


class AccountSettings(MailSettings):
    """Settings of accounts."""

    registration: Literal["open", "confirm", "invite", "closed"] = "open"
    """Who may register. `open`: any client. `confirm`: any client, but the account is usable only
    after its e-mail address is confirmed, and the response does not tell whether an address is in
    use. `invite`: only invited users. `closed`: no client."""
    login_identifier: LoginIdentifier = "email"
    """What a login names an account by. `email`: its e-mail address; there are no user names.
    `username`: its user name, which every new account has. `both`: either; a text with an `@` is an
    address."""
    allow_reserved_addresses: bool = False
    """Accept addresses at `localhost`, `.test`, `.local` and `.localhost`, which no mail reaches.
    For development and tests; refused in production."""
    roles: Roles = Field(default_factory=dict)
    """Named sets of scopes. If there are no roles, a login has all scopes."""
    default_roles: Names = ()
    """Roles that every account has in addition to its own."""
    confirm_lifetime: Duration = timedelta(hours=24)
    """Lifetime of a link that confirms an e-mail address."""
    reset_lifetime: Duration = timedelta(minutes=30)
    """Lifetime of a link that resets a password."""
    undo_lifetime: Duration = timedelta(days=7)
    """Lifetime of the link, sent to the old e-mail address, that reverts a change of address."""
    disown_lifetime: Duration = timedelta(days=7)
    """Lifetime of the link, mailed after a login from a new device and network, that ends it."""
    invitation_lifetime: Duration = timedelta(days=7)
    """Lifetime of an invitation."""
    confirm_link: Link = None
    """Page of your application that confirms an e-mail address. Default: the built-in page."""
    reset_link: Link = None
    """Page of your application that resets a password. Default: the built-in page."""
    undo_link: Link = None
    """Page of your application that reverts a change of address. Default: the built-in page."""
    disown_link: Link = None
    """Page of your application that ends a login from a new device. Default: the built-in page."""
    invitation_link: Link = None
    """Page of your application that accepts an invitation. Default: the built-in page."""
    security_link: Page = None
    """Page of your application where people change their password and passkeys. Password managers
    find it by `/.well-known/change-password` and `/.well-known/passkey-endpoints`. Default: the
    built-in pages of an account; without them, for passwords, the one that mails a link."""
    deleted_events: Literal["anonymise", "erase"] = "anonymise"
    """Events of a deleted account: `anonymise` removes personal data from them, `erase` deletes
    them."""

    def _check_consistency(self) -> None:
        super()._check_consistency()
        if self.registration in {"confirm", "invite"} and not self.sends_mail:
            raise ValueError(f"registration={self.registration} needs AUTHAPI_MAIL_URL")
        for name, scopes in self.roles.items():
            if unknown := scopes.difference({"introspect", *self.scopes}):
                raise ValueError(f"role {name} contains an unknown scope: {min(unknown)}")
        if missing := set(self.default_roles).difference(self.roles):
            raise ValueError(f"default_roles contains an unknown role: {min(missing)}")
