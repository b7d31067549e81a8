"""Opens the services for one command, and parses the arguments of commands."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import typer

from authapi.cli.application import build_services, settings_of
from authapi.clock import parse_time
from authapi.domain.display_names import is_display_name, is_single_line
from authapi.domain.email_address import stored_email
from authapi.domain.user import User
from authapi.domain.username import parse_username
from authapi.errors import ConfigurationError, InvalidInput, NotFound
from authapi.services import Services
from authapi.services.schema import prepare

T = TypeVar("T")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

UserArgument = Annotated[
    str, typer.Argument(metavar="USER", help="E-mail address, user name or id.")
]


def run_with_services(
    work: Callable[[Services], Awaitable[T]],
    *,
    keys: Literal["open", "unlocked", "locked"] = "open",
) -> T:
    """Runs `work` with open services, closes them, and returns its result.

    `keys` is how far the signing keys are opened: `open` loads them, `unlocked` loads only the
    secret, `locked` loads neither, except for the secret while it is changed. Raises
    ConfigurationError if the configuration or the input is invalid, StorageUnavailable if the
    database does not respond, and the errors of `work`.
    """

    async def run() -> T:
        settings = settings_of()
        services = build_services(settings)
        try:
            if keys == "open":
                await services.open()
            else:
                await asyncio.to_thread(prepare, settings)
            # During a change of the secret, the stored keys tell which one to write with: an event
            # may queue a webhook, also for a command that reads no key.
            if keys == "unlocked" or (keys == "locked" and settings.secret_previous is not None):
                services.keys.load_secret()
                await services.keys.lifecycle.note_stored()
            return await work(services)
        except InvalidInput as error:
            # InvalidInput has its details in members of a JSON response; here they become one line.
            details = "; ".join(f"{item.loc[-1]}: {item.message}" for item in error.errors)
            raise ConfigurationError(details) from None
        finally:
            await services.stop()

    return asyncio.run(run())


async def find_user(services: Services, text: str) -> User:
    """Returns the user with this e-mail address, id or user name.

    A text that is an id is never a user name. Raises ConfigurationError if there is no such user.
    """
    profiles = services.accounts.profiles
    try:
        if "@" in text:
            return await profiles.find_by_email(stored_email(text))
        if (user_id := as_id(text)) is not None:
            return await profiles.find(user_id)
        return await profiles.find_by_username(parse_username(text))
    except NotFound:
        raise ConfigurationError(
            f"user not found: {text}", hint="see `authapi users list`"
        ) from None


def as_id(text: str) -> UUID | None:
    """Returns the UUID that `text` is, or None if it is none."""
    try:
        return UUID(text)
    except ValueError:
        return None


def parse_id(text: str) -> UUID:
    """Parses a UUID. Raises ConfigurationError if `text` is none."""
    found = as_id(text)
    if found is None:
        raise ConfigurationError(f"not an id: {text}")
    return found


def parse_moment(text: str) -> datetime:
    """Parses a time, or a date, which means its midnight in UTC. Raises ConfigurationError."""
    try:
        # A date without a time (`full-date` of RFC 3339) means midnight UTC.
        return parse_time(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)
    except ValueError:
        raise ConfigurationError(
            "times must be like 2026-11-23T08:00:00Z (RFC 3339) or a date like 2026-11-23"
        ) from None


def parse_name(text: str, *, max_length: int) -> str:
    """Checks a name by the rules of the API (`domain/display_names`).

    Raises ConfigurationError if it is empty, too long, invisible or has control characters.
    """
    if not 0 < len(text) <= max_length or not is_single_line(text):
        raise ConfigurationError(f"name: 1 to {max_length} characters, and no control characters")
    if not is_display_name(text):
        raise ConfigurationError("name: must contain a visible character")
    return text
