"""/console/events: the events of all accounts, searched, by day, and as a file."""

import csv
import json
from datetime import UTC, datetime, timedelta

import pytest

from authapi.clock import now
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.events import EventType
from authapi.services.audit import search
from tests.clocks import travel_to
from tests.web.pages.browser import Page
from tests.web.routes.pages.account.history import PEER, add
from tests.web.routes.pages.console.scene import ROOT, Scene, console, console_settings
from tests.web.routes.pages.people import ALICE, STALE

PATH = "/console/events"
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def rows_of(page: Page) -> list[list[str]]:
    """The cells of the events on a page."""
    rows = [row for row in page.root.all("tr") if row.all("td")]
    return [[cell.text for cell in row.children] for row in rows]


async def fill(scene: Scene, count: int = 3) -> None:
    """Events of the other account, one a day."""
    for number in range(count):
        at = NOON - timedelta(days=number)
        await add(scene.api, scene.alice.id, EventType.LOGIN_REFUSED, at)
    await add(scene.api, scene.alice.id, EventType.ACCOUNT_DEACTIVATED, NOON, actor=scene.root.id)


async def test_events_tell_who_did_what_to_whom(scene: Scene) -> None:
    await fill(scene)
    page = await scene.browser.open(f"{PATH}?type=account_deactivated")
    [row] = rows_of(page)
    assert row[0] == "Account deactivated"
    assert row[1] == f"{ALICE} by {ROOT}"
    assert row[2] == "Chrome on Windows, 203.0.113.7"
    links = [link["href"] for link in page.root.all("a") if link["href"].startswith("people/0")]
    assert links == [f"people/{scene.alice.id}", f"people/{scene.root.id}"]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        (f"user={ALICE}&type=refused", 3),
        ("user=ALICE@example.com&type=login_refused", 3),
        (f"actor={ROOT}", 1),
        ("type=login_refused&since=2026-11-27", 2),
        ("type=login_refused&until=2026-11-27", 2),
        ("type=login_refused&since=2026-11-27&until=2026-11-27", 1),
        (f"ip=203.0.113.7&user={ALICE}", 4),
        ("ip=::ffff:203.0.113.7", 4),
        ("ip=203.0.113.8", 0),
        ("type=sign-ins&ip=203.0.113.7", 0),
        ("type=login_refused&since=2027-01-01", 0),
        ("type=login_refused&since=2026-11-28&until=2026-11-26", 0),
    ],
)
async def test_filters(scene: Scene, query: str, count: int) -> None:
    await fill(scene)
    page = await scene.browser.open(f"{PATH}?{query}")
    assert len(rows_of(page)) == count
    assert ("No event matches." in page.text) is (count == 0)
    by_id = query.replace(ALICE, str(scene.alice.id)).replace(ROOT, str(scene.root.id))
    assert len(rows_of(await scene.browser.open(f"{PATH}?{by_id}"))) == count


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("user=nobody@example.com", "No account has this address or id."),
        ("actor=x", "No account has this address or id."),
        ("ip=1.2.3", "This is no IP address."),
        ("since=yesterday", "Enter a day, such as 2026-11-28."),
        ("until=9999-12-31", "Enter a day, such as 2026-11-28."),
        ("since=0001-01-01", "Enter a day, such as 2026-11-28."),
        ("since=2026-02-30", "Enter a day, such as 2026-11-28."),
        (f"until={'1' * 5000}", "Enter a day, such as 2026-11-28."),
        (f"ip={'1' * 5000}", "This is no IP address."),
        (f"ip={'::1'.zfill(300)}", "This is no IP address."),
        ("ip=127.0.0.1%250", "This is no IP address."),
        (f"user={'a' * 5000}@example.com", "No account has this address or id."),
        ("actor=%ED%A0%80", "No account has this address or id."),
    ],
)
async def test_a_filter_that_is_not_valid_finds_nothing(
    scene: Scene, query: str, problem: str
) -> None:
    page = await scene.browser.open(f"{PATH}?{query}")
    assert problem in page.text
    assert rows_of(page) == []
    assert (await scene.browser.open(f"{PATH}/days?{query}")).status == 200
    answer = await scene.browser.request("GET", f"{PATH}/export?format=csv&{query}")
    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["before=x", "before=%00", "type=x", "type=%00", "x=y"])
async def test_malformed_values_show_the_first_page(scene: Scene, query: str) -> None:
    assert len(rows_of(await scene.browser.open(f"{PATH}?{query}"))) >= 2


async def test_pages_lead_through_all_events(scene: Scene) -> None:
    await fill(scene, 44)
    page, seen = await scene.browser.open(f"{PATH}?user={scene.alice.id}&type=refused"), 0
    following = [""]
    for _ in range(3):
        seen += len(rows_of(page))
        following = [link["href"] for link in page.root.all("a") if link.text == "Next"]
        if following:
            page = await scene.browser.open(f"/console/{following[0]}")
    assert seen == 44
    assert following == []


async def test_a_search_that_looks_at_many_events_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_EXAMINED", 3)
    await fill(scene, 6)
    found, page = 0, await scene.browser.open(f"{PATH}?ip=203.0.113.7&type=login_refused")
    following = [""]
    for _ in range(9):
        found += len(rows_of(page))
        following = [link["href"] for link in page.root.all("a") if link.text == "Next"]
        if not following:
            break
        page = await scene.browser.open(f"/console/{following[0]}")
    assert (found, following) == (6, [])


async def test_days_are_bars_and_a_table(scene: Scene) -> None:
    await fill(scene)
    with travel_to(NOON + timedelta(hours=1)):
        page = await scene.browser.open(f"{PATH}?user={scene.alice.id}&type=refused")
        assert "3 events in the last 30 days of this search" in page.text
        [bars] = [path["d"] for path in page.root.all("path") if path["d"].endswith("z")]
        assert bars == "M271 60v-60h8v60zM281 60v-60h8v60zM291 60v-60h8v60z"
        [link] = [link["href"] for link in page.root.all("a") if link.text == "By day"]
        days = await scene.browser.open(f"/console/{link}")
        assert rows_of(days) == [["2026-11-28", "1"], ["2026-11-27", "1"], ["2026-11-26", "1"]]
    until = await scene.browser.open(f"{PATH}/days?until=2026-11-27&type=refused")
    assert [row[0] for row in rows_of(until)] == ["2026-11-27", "2026-11-26"]


async def test_files_have_the_events_of_the_filter(scene: Scene) -> None:
    await fill(scene)
    page = await scene.browser.open(f"{PATH}?user={scene.alice.id}&type=refused")
    links = {link.text: link["href"] for link in page.root.all("a") if "download" in link}
    text = await scene.browser.request("GET", f"/console/{links['CSV']}")
    assert text.headers["content-disposition"].startswith("attachment")
    assert [row["type"] for row in csv.DictReader(text.text.splitlines())] == ["login_refused"] * 3
    lines = await scene.browser.request("GET", f"/console/{links['JSON Lines']}")
    assert {json.loads(line)["user_id"] for line in lines.text.splitlines()} == {
        str(scene.alice.id)
    }
    for name in ("", "xml"):
        answer = await scene.browser.request("GET", f"{PATH}/export?format={name}")
        assert answer.status_code == 404


async def test_a_cell_of_a_file_is_no_formula(scene: Scene) -> None:
    agent = "=HYPERLINK(1)"
    with on_behalf_of(lambda: Client(ip="203.0.113.7", user_agent=agent)):
        await scene.api.services.audit.record_separately(
            EventType.LOGIN_REFUSED, user_id=scene.alice.id
        )
    query = f"format=csv&user={scene.alice.id}&type=login_refused"
    text = (await scene.browser.request("GET", f"{PATH}/export?{query}")).text
    [row] = csv.DictReader(text.splitlines())
    assert row["user_agent"] == f"'{agent}"


async def test_a_file_needs_a_recent_login(scene: Scene) -> None:
    with travel_to(now() + STALE):
        answer = await scene.browser.request("GET", f"{PATH}/export?format=csv&type=refused")
        assert answer.status_code == 303
        assert answer.headers["location"] == (
            "../../account/prove?next=%2Fconsole%2Fevents%2Fexport%3Fformat%3Dcsv%26type%3Drefused"
        )
        assert (await scene.browser.open(f"{PATH}/export?format=csv")).path == "/account/prove"


async def test_the_page_is_light(database_url: str) -> None:
    settings = console_settings(database_url, terms_url="https://acme.example/terms")
    async with console(settings, language="ko") as scene:
        with travel_to(NOON):
            await fill(scene, 40)
            page = await scene.browser.open(f"{PATH}?user={ALICE}")
            assert len(rows_of(page)) == 15
            assert len(rows_of(await scene.browser.open(f"{PATH}/days"))) >= 29


async def test_events_of_a_deleted_account_have_no_link(scene: Scene) -> None:
    await fill(scene)
    await scene.api.services.accounts.deletion.delete(scene.alice.id)
    page = await scene.browser.open(f"{PATH}?user={scene.alice.id}")
    assert rows_of(page)[0][1].startswith(str(scene.alice.id))
    assert not [
        link for link in page.root.all("a") if link["href"].startswith(f"people/{scene.alice.id}")
    ]
    assert str(PEER.ip) not in page.text
