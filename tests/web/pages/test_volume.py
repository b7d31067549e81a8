"""The pages of the console with 10^5 accounts and 10^6 events: their time on the server.

The pages are those of the routes, so a new one is measured as well. With PostgreSQL, the time is
that until the response. SQLite works in this process, so its time is that of the processor, which
does not depend on what else the machine does.
"""

import re
from collections.abc import AsyncIterator
from time import perf_counter, process_time

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from authapi import Settings, create_app
from authapi.testing import Client, client
from tests.volumes import ACCOUNTS, fill
from tests.web.routes.pages.people import sign_in_by_page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LIMIT = 150
"""Milliseconds for 95 of 100 requests."""
_REQUESTS = 20
_ROUNDS = 5
"""The best of so many rounds counts, because other processes share the machine."""
_ROOT = "root@example.com"
QUERIES = {
    "/console/people": ("", "?email=user5", "?active=false", "?superuser=true&sort=email"),
    "/console/events": ("", "?type=login_refused", "?ip=203.0.113.7", "?since=2020-01-01"),
}
"""Further addresses of a page: its filters."""


def console_pages(app: FastAPI) -> list[str]:
    """The paths of the pages of the console, without those of a single thing."""
    found = {
        str(route.path)
        for route in iter_route_contexts(app.routes)
        if str(route.path).startswith("/console/") and "GET" in (route.methods or ())
    }
    return sorted(found)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    fill(database_url)
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # pydantic parses it
    async with client(create_app(settings)) as found:
        await found.create_user(_ROOT, is_superuser=True)
        await sign_in_by_page(found, _ROOT)
        yield found


async def p95(api: Client, path: str) -> float:
    """Returns the time of 95 of 100 requests, in milliseconds, in the best round."""
    clock = process_time if api.services.database.is_sqlite else perf_counter
    rounds = []
    for _ in range(_ROUNDS):
        times = []
        for _ in range(_REQUESTS):
            begin = clock()
            answer = await api.get(path)
            times.append((clock() - begin) * 1000)
            assert answer.status_code == 200, (path, answer.status_code)
        rounds.append(sorted(times)[int(_REQUESTS * 0.95) - 1])
        if rounds[-1] <= LIMIT:
            break
    return min(rounds)


async def test_every_page_of_the_console_is_fast(api: Client) -> None:
    found = (await api.get("/console/people")).text
    [person, *_] = re.findall(r"people/([0-9a-f-]{36})", found)
    counted = await api.services.statistics.counts()
    assert counted.accounts.total == ACCOUNTS + 1
    times = {}
    for template in console_pages(api._transport.app):  # type: ignore[attr-defined]  # that of ASGI
        path = re.sub(r"\{[^}]*\}", person, template)
        if (await api.get(path)).status_code in (303, 404) or path.endswith(("/csv", "/jsonl")):
            continue  # leads on, or is a file
        for query in QUERIES.get(path, ("",)):
            times[path.replace(person, "{id}") + query] = round(await p95(api, path + query))
    assert {"/console/people", "/console/status"} <= times.keys()
    slow = {path: time for path, time in times.items() if time > LIMIT}
    assert slow == {}, times
