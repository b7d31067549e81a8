"""`authapi webhooks`: sends a test event, and manages undelivered events."""

import typer

from authapi.cli.mail import LimitOption, list_entries, retry_entries
from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption
from authapi.cli.terminal.tables import print_list
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services import Services
from authapi.services.webhooks import KIND

app = typer.Typer(help="Test webhooks, and manage undelivered events.", no_args_is_help=True)


@app.command("test")
def send_test(as_json: JSONOption = False) -> None:
    """Send a test event to each URL now. Exit with 1 unless all of them respond with 2xx."""

    async def work(services: Services) -> list[dict[str, object]]:
        if not services.webhooks.urls:
            raise ConfigurationError("no webhooks configured", hint="set AUTHAPI_WEBHOOK_URLS")
        receivers = services.webhooks.receivers
        return [await _send_test(services, name, url) for name, url in receivers.items()]

    rows = run_with_services(work, keys="locked")
    print_list(rows, empty="No webhooks.", as_json=as_json)
    if not all(row["delivered"] for row in rows):
        raise typer.Exit(1)


@app.command("list")
def list_webhooks(
    limit: LimitOption = 100, plain: PlainOption = False, as_json: JSONOption = False
) -> None:
    """List undelivered events, oldest first, with their state and last error."""
    list_entries(KIND, limit, plain=plain, as_json=as_json)


@app.command()
def retry(as_json: JSONOption = False) -> None:
    """Retry all undelivered events now, also if their delivery has failed for good."""
    retry_entries(KIND, as_json=as_json)


async def _send_test(services: Services, receiver: str, url: str) -> dict[str, object]:
    try:
        status = await services.queues.test_webhook(receiver)
    except DeliveryFailed as failure:
        return {"url": url, "delivered": False, "answer": str(failure)}
    return {"url": url, "delivered": 200 <= status < 300, "answer": status}
