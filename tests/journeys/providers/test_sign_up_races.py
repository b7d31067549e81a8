"""Sign-ups by password and at a provider with one address at the same moment, over sockets."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

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

ENDS = {
    "open": {"201", "email_taken", "in", "link-required"},
    "confirm": {"202", "in", "link-required"},
    "invite": {"registration_closed", "registration-closed", "link-required"},
    "closed": {"registration_closed", "registration-closed", "link-required"},
}


def register(visitor: Visitor, email: str) -> httpx.Response:
    return visitor.post("/register", json={"email": email, "password": PASSWORD})


def owner_of(service: Service, email: str) -> dict[str, Any] | None:
    """The account with an address, as the command line shows it."""
    shown = service.command("users", "show", email, "--json")
    if shown.returncode == 1 and "user not found" in shown.stderr:
        return None
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


@pytest.mark.parametrize(
    ("registration", "linking"),
    [
        ("open", "ask"),
        ("open", "verified"),
        ("confirm", "ask"),
        ("confirm", "verified"),
        ("invite", "verified"),
        ("closed", "ask"),
    ],
)
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
        person = new_name()
        email = f"{person}@example.com"
        people, strangers = ([service.visitor() for _ in range(25)] for _ in range(2))
        callbacks = [(it, it.at_provider(it.begin(), person)) for it in people]
        ends = at_once(
            *(partial(it.come_back, callback) for it, callback in callbacks),
            *(partial(register, it, email) for it in strangers),
        )
        assert ends.keys() <= ENDS[registration], ends
        assert ends["201"] <= 1
        owner = owner_of(service, email)
        later = service.visitor()
        at_provider = outcome_of(later.log_in_at(person))
        body = {"email": email, "password": PASSWORD}
        by_password = outcome_of(later.post("/login", json=body))
        who = {it.me() for it in people}
        if registration in {"invite", "closed"}:
            assert owner is None
            assert (at_provider, by_password) == ("registration-closed", "invalid_credentials")
            assert who == {None}
        elif owner is not None and owner["identities"]:
            # The person has it alone: no password of another person logs in.
            assert (at_provider, by_password) == ("in", "invalid_credentials")
            assert owner["email_confirmed_at"] is not None
            assert who <= {None, email}
            assert later.me() == email
        else:
            # The password was first: nothing is linked to its account, and nothing is told.
            assert linking == "ask"
            assert at_provider == "link-required"
            assert by_password == ("200" if registration == "open" else "invalid_credentials")
            assert who == {None}
