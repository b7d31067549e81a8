"""`authapi mail`: sends a test mail, and manages undelivered mail."""

from typing import Annotated

import typer

from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import Continuation, print_list, print_one
from authapi.domain.email_address import parse_email
from authapi.domain.outbox import OutboxEntry
from authapi.errors import ConfigurationError, DeliveryFailed, MailDisabled
from authapi.services import Services
from authapi.services.accounts.deferred import KIND as REQUEST_KIND
from authapi.services.mail import OUTBOX_KIND

app = typer.Typer(help="Test mail, and manage undelivered mail.", no_args_is_help=True)

RequestsOption = Annotated[
    bool, typer.Option("--requests", help="Requests that a job answers, such as registrations.")
]
_MAX_LIMIT = 10_000
LimitOption = Annotated[int, typer.Option(min=1, max=_MAX_LIMIT, help="Maximum number of entries.")]


@app.command("test")
def send_test(
    address: Annotated[str, typer.Argument(help="Recipient.")],
    locale: Annotated[
        str | None, typer.Option(help="Language; by default the first of AUTHAPI_LOCALES.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Send a test mail now, and print the transport. Exit with 1 if it fails."""

    async def work(services: Services) -> str:
        allow_reserved = services.settings.allow_reserved_addresses
        recipient = parse_email(address, allow_reserved=allow_reserved)
        try:
            return await services.queues.send_test_mail_to(recipient, locale=locale)
        except MailDisabled:
            raise ConfigurationError("mail is disabled", hint="set AUTHAPI_MAIL_URL") from None
        except DeliveryFailed as failure:
            raise ConfigurationError(f"not sent: {failure}") from None

    transport = run_with_services(work, keys="locked")
    print_one({"to": address, "sent": True, "transport": transport}, as_json=as_json)


@app.command("list")
def list_mail(
    limit: LimitOption = 100,
    requests: RequestsOption = False,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """List undelivered mail, oldest first, with its state and last error."""
    list_entries(REQUEST_KIND if requests else OUTBOX_KIND, limit, plain=plain, as_json=as_json)


@app.command()
def retry(requests: RequestsOption = False, as_json: JSONOption = False) -> None:
    """Retry all undelivered mail now, also if its delivery has failed for good."""
    retry_entries(REQUEST_KIND if requests else OUTBOX_KIND, as_json=as_json)


def list_entries(kind: str, limit: int, *, plain: bool, as_json: bool) -> None:
    """Prints the undelivered outbox entries of one kind."""
    entries = run_with_services(
        lambda services: services.outbox.list_undelivered(kind, limit=limit + 1), keys="locked"
    )
    goes_on = len(entries) > limit and limit < _MAX_LIMIT
    print_list(
        [_row(entry) for entry in entries[:limit]],
        empty="Nothing is undelivered.",
        as_json=as_json,
        plain=plain,
        more=Continuation("--limit", str(min(10 * limit, _MAX_LIMIT))) if goes_on else None,
    )


def retry_entries(kind: str, *, as_json: bool) -> None:
    """Makes all entries of one kind due now. A running service delivers them, or the next one."""
    count = run_with_services(lambda services: services.queues.retry(kind), keys="locked")
    print_one({"retried": count}, as_json=as_json)


def _row(entry: OutboxEntry) -> dict[str, object]:
    return {
        "id": entry.id,
        "purpose": entry.purpose,
        "state": "failed" if entry.failed_at else "pending",
        "attempts": entry.attempts,
        "created_at": entry.created_at,
        "due_at": None if entry.failed_at else entry.due_at,
        "error": entry.error,
    }
