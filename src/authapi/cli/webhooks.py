"""`authapi webhooks`: whether other services hear of events, and what they have not heard yet."""

import typer

from authapi.cli.mail import LimitOption, list_entries, retry_entries
from authapi.cli.running import JSONOption, print_rows, with_services
from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.services import Services
from authapi.services.webhooks import KIND

app = typer.Typer(help="Events that are sent to other services.", no_args_is_help=True)


@app.command("test")
def try_out(as_json: JSONOption = False) -> None:
    """Send a test event to each URL now. Exits with 1 unless all of them answer 2xx."""

    async def work(services: Services) -> list[dict[str, object]]:
        if not services.webhooks.urls:
            raise ConfigurationError("there are no webhooks: set AUTHAPI_WEBHOOK_URLS")
        return [await _tried(services, url) for url in services.webhooks.urls]

    rows = with_services(work, keys="locked")
    print_rows(rows, as_json=as_json)
    if not all(row["delivered"] for row in rows):
        raise typer.Exit(1)


@app.command("list")
def list_webhooks(limit: LimitOption = 100, as_json: JSONOption = False) -> None:
    """List what was not delivered yet, the oldest first: it waits, or was given up, and why."""
    list_entries(KIND, limit, as_json=as_json)


@app.command()
def retry(as_json: JSONOption = False) -> None:
    """Try again now whatever was given up, or waits for its next attempt."""
    retry_entries(KIND, as_json=as_json)


async def _tried(services: Services, url: str) -> dict[str, object]:
    try:
        status = await services.webhooks.test(url)
    except DeliveryFailed as failure:
        return {"url": url, "delivered": False, "answer": str(failure)}
    return {"url": url, "delivered": 200 <= status < 300, "answer": status}
