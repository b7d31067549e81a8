"""Sign-ups by password and at a provider with one address at the same moment, over sockets."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.journeys.providers.service import (
    PASSWORD,
    People,
    Service,
    Visitor,
    at_once,
    new_name,
    outcome_of,
    serving,
)

pytestmark = pytest.mark.slow

ROUNDS = 3
ENDS = {
    "open": {"201", "email_taken", "in", "link-required"},
    "confirm": {"202", "in", "link-required"},
    "invite": {"registration_closed", "registration-closed", "link-required"},
    "closed": {"registration_closed", "registration-closed", "link-required"},
}


def register(visitor: Visitor, email: str) -> httpx.Response:
    return visitor.post("/register", json={"email": email, "password": PASSWORD})


def accounts(service: Service, email: str) -> list[dict[str, object]]:
    """The accounts with an address."""
    shown = service.command("users", "list", "--email", email, "--json")
    assert shown.returncode == 0, shown.stderr
    return [json.loads(line) for line in shown.stdout.splitlines()]


@pytest.mark.parametrize("linking", ["ask", "verified", "never"])
@pytest.mark.parametrize("registration", list(ENDS))
def test_one_account_is_made_at_most(
    new_database: Callable[[], str],
    tmp_path: Path,
    acme: People,
    registration: str,
    linking: str,
) -> None:
    providers = {"acme": acme.options(trusted_email_domains=["example.com"])}
    with serving(
        tmp_path,
        new_database(),
        providers,
        registration=registration,
        federation_linking=linking,
    ) as service:
        for _ in range(ROUNDS):
            person = new_name()
            email = f"{person}@example.com"
            people = [service.visitor() for _ in range(25)]
            callbacks = [(it, it.at_provider(it.begin(), person)) for it in people]
            strangers = [service.visitor() for _ in range(25)]
            ends = at_once(
                *(partial(it.come_back, callback) for it, callback in callbacks),
                *(partial(register, it, email) for it in strangers),
            )
            print(registration, linking, ends)
            print(accounts(service, email))
