"""Runs services for the length of one command, and prints what they give."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Literal, TypeVar
from uuid import UUID

import typer

from authapi.errors import ConfigurationError, InvalidInput, NotFound
from authapi.identity import User
from authapi.services import Services, prepare
from authapi.services.addresses import parse_email
from authapi.services.names import is_name, is_printable
from authapi.settings import load_settings
from authapi.web.outgoing.breaches import range_check
from authapi.web.outgoing.webhooks import webhook_post

T = TypeVar("T")

JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="E-mail address or id.")]


def with_services(
    work: Callable[[Services], Awaitable[T]],
    *,
    keys: Literal["open", "unlocked", "locked"] = "open",
) -> T:
    """What `work` gives, with services that are open while it runs.

    Signing keys are read, or only the secret is, or not even that.
    """

    async def run() -> T:
        settings = load_settings()
        services = Services.build(
            settings, breached=range_check(settings), post=webhook_post(settings)
        )
        try:
            if keys == "open":
                await services.open()
            else:
                await asyncio.to_thread(prepare, settings)
            if keys == "unlocked":
                services.keys.unlock()
            return await work(services)
        except InvalidInput as refusal:
            # The command line has no document to put the details into.
            details = "; ".join(f"{item.loc[-1]}: {item.message}" for item in refusal.errors)
            raise ConfigurationError(details) from None
        finally:
            await services.stop()

    return asyncio.run(run())


async def find_user(services: Services, text: str) -> User:
    """The user with this address or id. Raises ConfigurationError, which becomes the error line."""
    try:
        if "@" in text:
            return await services.accounts.find_by_email(parse_email(text))
        return await services.accounts.find(parse_id(text))
    except NotFound:
        raise ConfigurationError(f"there is no user {text}") from None


def parse_id(text: str) -> UUID:
    """`text` as an id."""
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(f"{text} is neither an e-mail address nor an id") from None


def parse_name(text: str, *, longest: int) -> str:
    """`text` as a name: what its column holds, by the rules of the API (`services/names`)."""
    if not 0 < len(text) <= longest or not is_printable(text):
        raise ConfigurationError(f"name: 1 to {longest} characters, and no control characters")
    if not is_name(text):
        raise ConfigurationError("name: must have a character that can be seen")
    return text


def printable(text: str) -> str:
    """`text` without the control characters that a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def print_rows(rows: Sequence[dict[str, object]], *, as_json: bool) -> None:
    """A table for people, or a list of objects for programs."""
    if as_json:
        print(json.dumps(rows, default=str, indent=2))
        return
    if not rows:
        return
    texts = [[str(name) for name in rows[0]], *([_text(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(texts[0]))]
    for line in texts:
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def print_one(row: dict[str, object], *, as_json: bool) -> None:
    """One thing: `name  value` lines for people, or an object for programs."""
    if as_json:
        print(json.dumps(row, default=str, indent=2))
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        print(f"{name.ljust(width)}  {_text(value)}".rstrip())


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(value, list | tuple | frozenset):
        return " ".join(sorted(map(str, value))) or "-"
    return printable(str(value))
