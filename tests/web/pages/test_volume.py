"""The pages of the console with 10^5 accounts and 10^6 events.

The pages are those of the routes, so that a new one is covered as well. Their times are those of
the benchmark `console`.
"""

import re
from collections.abc import AsyncIterator

import pytest

from authapi import Settings, create_app
from authapi.testing import Client, client
from tests.storage.rows import sql
from tests.volumes import ACCOUNTS, CONSOLE_QUERIES, EVENTS, console_pages, fill
from tests.web.pages.statements import counting
from tests.web.routes.pages.people import sign_in_by_page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
_ROOT = "root@example.com"
_MAX_BYTES = 12 * 1024
_FEW = 100
"""The accounts of the small database: enough for several pages of a list."""
EMPTY = (
    "DELETE FROM authapi_events",
    "DELETE FROM authapi_outbox",
    f"DELETE FROM authapi_users WHERE email <> '{_ROOT}'",
    "DELETE FROM authapi_sessions WHERE user_id NOT IN (SELECT id FROM authapi_users)",
)


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # pydantic parses it
    async with client(create_app(settings)) as found:
        await found.create_user(_ROOT, is_superuser=True)
        await sign_in_by_page(found, _ROOT)
        yield found


async def statements(api: Client, addresses: list[str]) -> dict[str, int]:
    """Returns how many statements each page sends."""
    found, people = {}, (await api.get("/console/people")).text
    person = re.findall(r"people/([0-9a-f-]{36})", people)[-1]
    for address in addresses:
        path = re.sub(r"\{[^}]*\}", person, address)
        with counting(api.services.database) as sent:
            answer = await api.get(path)
        assert answer.status_code == 200, path
        assert len(answer.content) <= _MAX_BYTES, path
        found[address] = len(sent)
    return found


async def test_a_page_needs_no_more_statements_in_a_large_database(
    api: Client, database_url: str
) -> None:
    pages = [path + query for path in console_pages() for query in CONSOLE_QUERIES.get(path, ("",))]
    assert {"/console/people", "/console/people/{user_id}", "/console/status"} <= set(pages)
    fill(database_url, accounts=_FEW, events=10 * _FEW)
    small = await statements(api, pages)
    for statement in EMPTY:
        sql(database_url, statement)
    fill(database_url, accounts=ACCOUNTS, events=EVENTS)
    counted = await api.services.statistics.counts()
    assert counted.accounts.total == ACCOUNTS + 1
    large = await statements(api, pages)
    # The second half of a search and of a count asks whether there is more than was looked at.
    more = {path: (small[path], large[path]) for path in pages if large[path] > small[path]}
    assert more == {}
