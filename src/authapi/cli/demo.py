"""`authapi demo`: fills a development database with example accounts."""

from collections.abc import Sequence
from typing import Annotated

import typer

from authapi.cli.application import settings_of
from authapi.cli.services import run_with_services
from authapi.cli.terminal.options import JSONOption
from authapi.cli.terminal.tables import print_rows
from authapi.cli.terminal.texts import as_json as as_json_text
from authapi.crypto.secrets import new_secret
from authapi.services import Services
from authapi.services.demo.writer import DemoAccount, DemoData, refuse_production

_PASSWORD_LENGTH = 16
"""Characters of base64url."""


def demo(
    password: Annotated[
        str | None, typer.Option(help="Password of all accounts. Default: a random one.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Fill an empty development database with ten people, their devices, tokens and events.

    Refused in production, and if the database has an account. No mail is sent.
    """
    refuse_production(settings_of())
    chosen = password or new_secret()[:_PASSWORD_LENGTH]

    async def work(services: Services) -> Sequence[DemoAccount]:
        return await DemoData(services).fill(chosen)

    added = run_with_services(work)
    if as_json:
        rows = [_as_json(account) for account in added]
        print(as_json_text({"password": chosen, "accounts": rows}))
        return
    print_rows([_row(account) for account in added])
    print(f"\nThe password of all accounts: {chosen}")


def _as_json(account: DemoAccount) -> dict[str, object]:
    user = account.user
    return {
        "email": user.email,
        "name": user.name,
        "is_superuser": user.is_superuser,
        "is_active": user.is_active,
        "email_confirmed_at": user.email_confirmed_at,
        "password": account.has_password,
        "app_secret": account.app_secret,
    }


def _row(account: DemoAccount) -> dict[str, object]:
    user = account.user
    return {
        "email": user.email,
        "name": user.name,
        "superuser": user.is_superuser,
        "active": user.is_active,
        "confirmed": user.email_confirmed_at is not None,
        "password": account.has_password,
        "app_secret": account.app_secret,
    }
