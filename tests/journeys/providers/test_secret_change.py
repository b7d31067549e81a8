"""Logins at providers that are under way while the secret is replaced, process by process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.journeys.providers.service import (
    SECRET,
    People,
    Service,
    Visitor,
    outcome_of,
    serving,
)

pytestmark = pytest.mark.slow

NEW = "n" * 32
FINISHED = ("in", "to /linked", "200", "up")
REFUSED = ("login-flow-invalid", "login-flow-invalid", "200", "expired")
"""A one-time code is not sealed: it is a row of the database."""


@contextmanager
def process(folder: Path, database: str, acme: People, **secrets: str) -> Iterator[Service]:
    """A process of an installation, with these secrets."""
    providers = {"acme": acme.options(trusted_email_domains=["example.com"])}
    public = "http://127.0.0.1:8000"  # of the load balancer
    with serving(folder, database, providers, public_url=public, **secrets) as found:
        yield found


class UnderWay:
    """What browsers have while the secret changes: flows, a one-time code and a ticket."""

    def __init__(self, acme: People, stack: ExitStack, service: Service, name: str) -> None:
        self.name = name
        acme.about[f"{name}-ticket"] = {"email": None}
        browsers = [stack.enter_context(Visitor(service.url)) for _ in range(4)]
        self.flow, self.link, self.ticket, app = browsers
        self.callback = self.flow.at_provider(self.flow.begin(), f"{name}-flow")
        self.link.register(f"{name}@example.org")
        self.link_callback = self.link.at_provider(
            self.link.begin_link(to="/linked"), f"{name}-link"
        )
        answer = app.log_in_at(f"{name}-code", strategy="jwt", to="/in")
        self.code = dict(parse_qsl(urlsplit(answer.headers["location"]).fragment))["code"]
        assert outcome_of(self.ticket.log_in_at(f"{name}-ticket")).endswith("sign-in/address")

    def finish(self, service: Service) -> tuple[str, ...]:
        """Goes on with each at `service`; returns how the flows, the code and the ticket ended."""
        for browser in (self.flow, self.link, self.ticket):
            browser.base_url = service.url
        address = {"email": f"{self.name}@example.net"}
        return (
            outcome_of(self.flow.come_back(self.callback)),
            outcome_of(self.link.come_back(self.link_callback)),
            outcome_of(self.flow.post("/login/with/exchange", json={"code": self.code})),
            outcome_of(self.ticket.post("/account/sign-in/address", data=address)),
        )

    def accounts(self) -> tuple[str | None, ...]:
        """Who is logged in by the flow and by the ticket, and who is linked."""
        linked = [it["subject"] for it in self.link.identities()]
        return (self.flow.me(), self.ticket.me(), *linked)


def test_what_began_under_the_old_secret_ends_under_the_new_one(
    database_url: str, tmp_path: Path, acme: People, stack: ExitStack
) -> None:
    run, started = partial(process, tmp_path, database_url, acme), partial(UnderWay, acme, stack)
    with run(secret=SECRET) as old, run(secret=NEW, secret_previous=SECRET) as both:
        for name, writer, reader in (("one", old, both), ("two", both, old)):
            begun = started(writer, name)
            assert begun.finish(reader) == FINISHED
            assert begun.accounts() == (
                f"{name}-flow@example.com",
                f"{name}@example.net",
                f"{name}-link",
            )
        assert started(old, "three").finish(old) == FINISHED
        first, second, third = (started(both, name) for name in ("four", "five", "six"))
        rewrapped = both.command("keys", "rewrap")
        assert rewrapped.returncode == 0, rewrapped.stderr
        assert first.finish(both) == FINISHED
    with run(secret=NEW, secret_previous=SECRET) as both:  # writes under the new secret
        assert second.finish(both) == FINISHED
        fourth = started(both, "seven")
    with run(secret=NEW) as new:
        assert third.finish(new) == REFUSED
        assert third.accounts() == (None, None)
        assert fourth.finish(new) == FINISHED
