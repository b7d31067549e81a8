"""`authapi mail`: whether mail leaves, and what still waits."""

from typing import Annotated

import typer

from authapi.cli.running import JSONOption, print_one, print_rows, with_services
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services import Services
from authapi.services.addresses import parse_email
from authapi.services.mail import KIND
from authapi.storage.tables.outbox import Entry

app = typer.Typer(help="Mail, and what of it has not left yet.", no_args_is_help=True)

LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")]


@app.command("test")
def try_out(
    address: Annotated[str, typer.Argument(help="Who is written to.")],
    locale: Annotated[str | None, typer.Option(help="The language; by default the first.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Send a mail now, and say where it went or what went wrong."""

    async def work(services: Services) -> str:
        try:
            told = await services.mail.check()
            await services.mail.test(parse_email(address).given, locale=locale)
        except DeliveryFailed as failure:
            raise ConfigurationError(f"not sent: {failure}") from None
        return told

    transport = with_services(work, keys="locked")
    print_one({"to": address, "sent": True, "transport": transport}, as_json=as_json)


@app.command("list")
def list_mail(limit: LimitOption = 100, as_json: JSONOption = False) -> None:
    """List what has not left yet, the oldest first: it waits, or it was given up, and why."""
    list_entries(KIND, limit, as_json=as_json)


@app.command()
def retry(as_json: JSONOption = False) -> None:
    """Try again now whatever was given up, or waits for its next attempt."""
    retry_entries(KIND, as_json=as_json)


def list_entries(kind: str, limit: int, *, as_json: bool) -> None:
    """Print the entries of the outbox of one kind."""

    async def work(services: Services) -> list[Entry]:
        async with services.database.read() as store:
            return list(await store.outbox.page(kind, limit=limit))

    entries = with_services(work, keys="locked")
    print_rows([_row(entry) for entry in entries], as_json=as_json)


def retry_entries(kind: str, *, as_json: bool) -> None:
    """Let the entries of one kind be tried again by a service that runs, or the next that does."""
    count = with_services(lambda services: services.outbox.retry(kind), keys="locked")
    print_one({"retried": count}, as_json=as_json)


def _row(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.id,
        "purpose": entry.purpose,
        "state": "given up" if entry.failed_at else "waiting",
        "attempts": entry.attempts,
        "created_at": entry.created_at,
        "due_at": None if entry.failed_at else entry.due_at,
        "error": entry.error,
    }
