"""38: PostgreSQL is killed between a page and its form; the form is not lost, and works later."""

import asyncio
import time
from typing import Any, cast

import httpx
import pytest

from tests.faults.conftest import NewService, Report
from tests.faults.harness.actors import new_password
from tests.faults.harness.figures import scaled
from tests.faults.harness.http_client import Client
from tests.faults.harness.polling import until_ready
from tests.servers.postgres import PostgresCluster
from tests.servers.process import free_port
from tests.storage.rows import sql
from tests.web.pages.anatomy import alerts_of
from tests.web.pages.browser import Browser, Form, Page
from tests.web.pages.texts import ENGLISH

pytestmark = pytest.mark.faults


def _form(page: Page, field: str) -> Form:
    """The form with this field, typed or hidden."""
    return next(
        form
        for form in page.forms()
        if form.method == "post"
        and field in {item["name"] for item in form.typed} | form.values.keys()
    )


async def test_38_kill_9_of_postgres_between_a_page_and_its_form(
    cluster: PostgresCluster, postgres_here: str, new_service: NewService, report: Report
) -> None:
    port, rounds, slowest, kept = free_port(), scaled(2, 10), 0.0, 0
    origin = f"http://127.0.0.1:{port}"
    # A browser sends forms to the origin of the page.
    service = new_service(postgres_here, PUBLIC_URL=origin)
    await asyncio.to_thread(service.start, port=port)
    for number in range(rounds):
        email, password = f"person{number}@example.com", new_password()
        async with httpx.AsyncClient(base_url=origin, timeout=60) as client, Client(port) as probe:
            browser = Browser(cast(Any, client))
            # What is typed, beside passwords, in forms of people who are signed out and in.
            sign_up = _form(await browser.open("/account/sign-up"), "email")
            new = {"name": f"Person {number}", "email": email}
            again, seconds = await _while_killed(cluster, browser, probe, sign_up, new, password)
            account = await browser.send(again, password=password)
            assert account.path == "/account"
            rename = _form(await browser.open("/account"), "name")
            typed = {"name": "Another name"}
            again, more = await _while_killed(cluster, browser, probe, rename, typed)
            assert "Another name" in (await browser.send(again)).text
            token = _form(await browser.open("/account/tokens/new"), "form")
            typed = {"name": "deploy"}
            again, most = await _while_killed(cluster, browser, probe, token, typed)
            assert "Copy it now." in (await browser.send(again)).text
            slowest, kept = max(slowest, seconds, more, most), kept + 3
    names = sql(postgres_here, "SELECT name FROM authapi_users ORDER BY email_given")
    assert [name for (name,) in names] == ["Another name"] * rounds
    [[tokens]] = sql(postgres_here, "SELECT count(*) FROM authapi_sessions WHERE name = 'deploy'")
    assert tokens == rounds, "a form makes one token"
    report(
        f"{rounds} rounds: {kept} forms answered 503 with a page that keeps what was typed, after "
        f"max {slowest:.2f} s; each worked after the return of the database, once"
    )


async def _while_killed(
    cluster: PostgresCluster,
    browser: Browser,
    probe: Client,
    form: Form,
    typed: dict[str, str],
    password: str = "",
) -> tuple[Form, float]:
    """Sends a form while the database is away. Returns the form of the answer, and the seconds."""
    await asyncio.to_thread(cluster.kill)
    started_at = time.monotonic()
    refused = await browser.send(form, **typed, **({"password": password} if password else {}))
    seconds = time.monotonic() - started_at
    await asyncio.to_thread(cluster.start)
    assert refused.status == 503
    assert int(refused.answer.headers["retry-after"]) >= 1
    assert alerts_of(refused.root) == [ENGLISH["database_unavailable"]]
    again = _form(refused, next(iter(typed)))
    values = again.values
    assert typed.items() <= values.items()
    assert not password or password not in refused.answer.text
    await until_ready(probe, within=60)
    return again, seconds
