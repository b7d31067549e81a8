"""/console/webhooks shows each receiver, and tests it."""

from collections.abc import AsyncIterator

import pytest

from authapi.clock import now
from authapi.domain.events import EventType
from tests.servers.webhooks import SECRET
from tests.web.routes.pages.console.queues import (
    BAD,
    GOOD,
    HOOKS,
    HOSTILE,
    Desk,
    banner,
    button,
    has_button,
    open_desk,
    rows_of,
)

WEBHOOKS = "/console/webhooks"


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with open_desk(database_url, webhook_events=("account_renamed",), **HOOKS) as found:
        yield found


async def test_without_webhooks_the_page_says_so(database_url: str) -> None:
    async with open_desk(database_url) as desk:
        page = await desk.browser.open(WEBHOOKS)
        assert "No webhooks are configured" in page.text
        assert rows_of(page) == []


async def test_each_receiver_is_shown_without_its_path(desk: Desk) -> None:
    page = await desk.browser.open(WEBHOOKS)
    assert rows_of(page) == [
        ["1. https://hooks.example.org", "None so far", "0", "0", "Test"],
        ["2. https://bad.example.net", "None so far", "0", "0", "Test"],
    ]
    assert "secret" not in page.answer.text
    assert SECRET not in page.answer.text


async def test_waiting_and_failed_events_are_counted_and_listed(desk: Desk) -> None:
    await desk.rename()
    await desk.give_up("webhook", HOSTILE, receiver=desk.receiver_of(BAD))
    async with desk.api.services.database.transaction() as store:
        await store.outbox.record_delivery("webhook", desk.receiver_of(GOOD), at=now())
    page = await desk.browser.open(WEBHOOKS)
    good, bad = rows_of(page)
    assert good[1] != "None so far"
    assert good[2].startswith("1 The oldest is of ")
    assert (bad[1], bad[2]) == ("None so far", "0")
    assert bad[3].startswith("1 The oldest is of ")
    listed = {row[0].split()[-1]: row for row in rows_of(page, 1)}
    assert listed["https://hooks.example.org"][1] == "Waiting"
    assert listed["https://bad.example.net"][1:3] == [f"Given up {HOSTILE}", "1"]
    assert "<script>alert" not in page.answer.text
    assert "secret" not in page.answer.text


async def test_a_receiver_is_tried_again_alone(desk: Desk) -> None:
    await desk.rename()
    for url in (GOOD, BAD):
        await desk.give_up("webhook", "the receiver answered 500", receiver=desk.receiver_of(url))
    shown = await desk.browser.open(WEBHOOKS)
    page = await desk.browser.send(button(shown, "retry", desk.receiver_of(BAD)))
    assert (page.path, banner(page)) == (WEBHOOKS, "1 delivery is tried again now.")
    states = await desk.api.services.queues.states("webhook")
    assert states[desk.receiver_of(BAD)].waiting == 1
    assert states[desk.receiver_of(GOOD)].given_up == 1
    [entry] = await desk.api.services.queues.page("webhook", has_failed=True, limit=2)
    page = await desk.browser.send(button(page, "entry", str(entry.id)))
    assert await desk.waiting("webhook") == 2
    events = await desk.events(EventType.DELIVERIES_RETRIED)
    assert [event.actor_id for event in events] == [desk.user.id] * 2


async def test_a_receiver_is_tested(desk: Desk) -> None:
    shown = await desk.browser.open(WEBHOOKS)
    good, bad = (button(shown, "test", desk.receiver_of(url)) for url in (GOOD, BAD))
    assert banner(await desk.browser.send(good)) == "The receiver accepted the test."
    page = await desk.browser.send(bad)
    assert banner(page) == "The receiver did not accept the test: its answer was 410."
    desk.post.statuses.clear()
    assert banner(await desk.browser.send(good)) == "The receiver did not answer."
    assert [url for url, _ in desk.post.sent] == [GOOD, BAD, GOOD]
    events = await desk.events(EventType.WEBHOOK_TESTED)
    assert {event.actor_id for event in events} == {desk.user.id}
    assert len(events) == 3


async def test_events_for_a_url_of_other_settings_can_be_tried_again(database_url: str) -> None:
    async with open_desk(database_url, webhook_urls=(BAD,), webhook_secret=SECRET) as before:
        receiver = before.receiver_of(BAD)
        await before.rename()
        await before.give_up("webhook", "x", receiver=receiver)
    async with open_desk(database_url, email="second@example.com") as desk:
        page = await desk.browser.open(WEBHOOKS)
        assert rows_of(page)[0][0] == "Configured no longer"
        assert not has_button(page, "test", receiver)
        page = await desk.browser.send(button(page, "retry", receiver))
        assert "tried again now" in banner(page)
        answer = await desk.browser.request("POST", WEBHOOKS, {"test": receiver})
        assert answer.status_code == 303
        assert desk.post.sent == []


@pytest.mark.parametrize(
    "values", [{}, {"action": "x"}, {"test": "a", "retry": "a"}, {"test": "a" * 65}]
)
async def test_other_forms_are_malformed(desk: Desk, values: dict[str, str]) -> None:
    answer = await desk.browser.request("POST", WEBHOOKS, values)
    assert answer.status_code == 400
    assert desk.post.sent == []
