"""`authapi users factors` and `users reset-factors` as an operator runs them."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from authapi import Settings
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.services import Services
from tests.cli.conftest import Run, failed_with_one_line
from tests.second_factors import add_second_factors, insert_passkey
from tests.soft_authenticator import SoftAuthenticator

PASSWORD = "correct horse battery staple"


def create(run: Run) -> None:
    done = run("users", "create", "alice@example.com", text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr


def enrol(data_dir: Path) -> None:
    """Give Alice an authenticator app, recovery codes and a passkey."""

    async def work() -> None:
        services = Services.build(Settings(data_dir=data_dir))
        try:
            await services.open()
            find = services.accounts.profiles.find_by_email
            alice = await find(parse_email("alice@example.com"))
            await add_second_factors(services, alice)
            await insert_passkey(services, alice, SoftAuthenticator())
        finally:
            await services.stop()

    asyncio.run(work())
    with closing(sqlite3.connect(data_dir / "authapi.db")) as database:
        # Its confirmation is the first use.
        database.execute("UPDATE authapi_totp_factors SET last_used_at = confirmed_at")
        database.commit()


def test_an_operator_shows_and_resets_factors(run: Run, tmp_path: Path) -> None:
    create(run)
    shown = json.loads(run("users", "factors", "alice@example.com", "--json").stdout)
    nothing: dict[str, object] = {"totp": None, "passkeys": [], "recovery_codes": None}
    assert shown == {"mfa": False, "required": False, **nothing}
    enrol(tmp_path / "data")
    shown = json.loads(
        run("users", "factors", "alice@example.com", "--json", mfa="required").stdout
    )
    assert (shown["mfa"], shown["required"], shown["recovery_codes"]["left"]) == (True, True, 10)
    assert shown["totp"]["confirmed_at"] is not None
    assert [passkey["name"] for passkey in shown["passkeys"]] == ["My phone"]
    text = run("users", "factors", "alice@example.com").stdout
    assert "secret" not in text
    assert "My phone" in text

    refused = failed_with_one_line(run("users", "reset-factors", "alice@example.com"))
    assert "the second factors of alice@example.com and ends 0 logins: add --yes" in refused
    done = run("users", "reset-factors", "ALICE@example.com", "--yes")
    assert done.stdout == "Reset. All logins have ended.\n"
    shown = json.loads(run("users", "factors", "alice@example.com", "--json").stdout)
    assert (shown["mfa"], shown["recovery_codes"]) == (False, None)
    events = json.loads(run("events", "list", "--user", "alice@example.com", "--json").stdout)[
        "items"
    ]
    [event] = [item for item in events if item["type"] == EventType.FACTORS_RESET.value]
    assert event["actor_id"] is None
    waiting = json.loads(run("mail", "list", "--json").stdout)["items"]
    assert waiting[-1]["purpose"] == "factors_reset"
    done = run("users", "reset-factors", "alice@example.com", "--yes")
    assert done.stdout == "The account has no second factor.\n"


def test_unknown_accounts_are_named(run: Run) -> None:
    create(run)
    for command in (("factors",), ("reset-factors", "--yes")):
        done = run("users", *command, "bob@example.com")
        assert "user not found: bob@example.com" in failed_with_one_line(done)
