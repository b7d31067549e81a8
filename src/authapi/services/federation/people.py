"""What is kept of a person: texts of a provider, which may hold anything."""

from dataclasses import replace
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.domain.display_names import is_display_name, is_single_line
from authapi.domain.email_address import EmailAddress, parse_email
from authapi.domain.federation.person import Person
from authapi.errors import InvalidInput, ProviderAnswerRefused
from authapi.settings import Settings

_MAX_NAME = 200
_MAX_EMAIL = 254
_MAX_MFA_AGE = timedelta(hours=12)
"""How long ago a second factor at a provider may be."""
_LEEWAY = timedelta(seconds=60)
"""How much the clock of a provider may be ahead."""


def checked(person: Person) -> Person:
    """Returns `person` with a second factor only if it was proved within the last 12 hours.

    The name and the address are those to show, so that all of it can be kept. Raises
    ProviderAnswerRefused if the issuer or the subject is no single line of text, which databases
    may compare in different ways.
    """
    for text in (person.issuer, person.subject):
        if not is_single_line(text):
            raise ProviderAnswerRefused("identifier")
    email = told_email(person)
    return replace(
        person,
        email=email,
        email_verified=person.email_verified and email is not None,
        is_authoritative=person.is_authoritative and email is not None,
        name=shown_name(person),
        has_proved_mfa=person.has_proved_mfa and is_recent(person, _MAX_MFA_AGE),
    )


def is_recent(person: Person, max_age: timedelta) -> bool:
    """Whether the provider says that a person has authenticated within the last `max_age`."""
    return person.auth_time is not None and -_LEEWAY <= now() - person.auth_time <= max_age


def auth_time_of(person: Person) -> datetime:
    """Returns when a person authenticated: at the latest now, and now if the provider is silent."""
    return now() if person.auth_time is None else min(person.auth_time, now())


def address_of(person: Person, settings: Settings) -> EmailAddress | None:
    """Returns the address that the provider sent; None if no account can have it."""
    if person.email is None:
        return None
    try:
        return parse_email(person.email, allow_reserved=settings.allow_reserved_addresses)
    except InvalidInput:
        return None


def told_email(person: Person) -> str | None:
    """Returns the address to show; None if it is no single line, or too long."""
    email = person.email
    return email if email and len(email) <= _MAX_EMAIL and is_single_line(email) else None


def shown_name(person: Person) -> str | None:
    """Returns the name to show, of at most 200 characters; None if it is no name."""
    if person.name is None:
        return None
    name = person.name[:_MAX_NAME].strip()
    return name if name and is_display_name(name) else None
