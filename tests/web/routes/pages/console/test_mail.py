"""/console/mail shows the mail that waits or was given up, and tries it again."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.web.pages.anatomy import alerts_of
from tests.web.routes.pages.console.queues import (
    HOSTILE,
    ROOT,
    Desk,
    banner,
    button,
    has_button,
    open_desk,
    rows_of,
)
from tests.web.routes.pages.people import STALE

MAIL = "/console/mail"
ERROR = "the mail server refused the mail (550)"


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with travel_to(now()) as found:
        yield found


def states(rows: list[list[str]]) -> list[str]:
    """The words about the state of each entry, without its error."""
    return [next(word for word in ("Given up", "Waiting") if word in row[1]) for row in rows]


@pytest.fixture
async def desk(clock: time_machine.Traveller, database_url: str) -> AsyncIterator[Desk]:
    async with open_desk(database_url) as found:
        yield found


async def test_an_empty_queue_says_so(desk: Desk) -> None:
    page = await desk.browser.open(MAIL)
    assert page.status == 200
    assert "Nothing is waiting here." in page.text
    assert "None so far" in page.text
    assert rows_of(page) == []
    assert has_button(page, "action", "test")
    assert not has_button(page, "action", "retry")


async def test_waiting_and_failed_mail_is_listed_without_its_content(
    desk: Desk, clock: time_machine.Traveller
) -> None:
    await desk.queue_mail()
    await desk.give_up("mail", ERROR)
    clock.shift(1)  # ids sort by time
    await desk.queue_mail(2)
    async with desk.api.services.database.transaction() as store:
        await store.outbox.record_delivery("mail", "", at=now())
    page = await desk.browser.open(MAIL)
    rows = rows_of(page)
    assert states(rows) == ["Given up", "Waiting", "Waiting"]
    assert [row[0] for row in rows] == ["reset"] * 3
    assert rows[0][2] == "1"
    assert rows[0][1] == f"Given up {ERROR}"
    assert ["Next attempt:" in row[3] for row in rows] == [False, True, True]
    assert "None so far" not in page.text
    assert "the-secret-of-the-link" not in page.answer.text
    assert ROOT not in page.text


async def test_all_mail_is_tried_again(desk: Desk) -> None:
    await desk.queue_mail(2)
    await desk.give_up("mail", ERROR)
    page = await desk.browser.send(button(await desk.browser.open(MAIL), "action", "retry"))
    assert (page.path, banner(page)) == (MAIL, "2 deliveries are tried again now.")
    assert states(rows_of(page)) == ["Waiting"] * 2
    [event] = await desk.events(EventType.DELIVERIES_RETRIED)
    assert (event.actor_id, event.detail["count"]) == (desk.user.id, 2)


async def test_one_mail_is_tried_again(desk: Desk) -> None:
    await desk.queue_mail(2)
    one, _ = await desk.give_up("mail", ERROR)
    shown = await desk.browser.open(MAIL)
    form = button(shown, "entry", str(one))
    page = await desk.browser.send(form)
    assert banner(page) == "1 delivery is tried again now."
    assert states(rows_of(page)) == ["Waiting", "Given up"]
    async with desk.api.services.database.transaction() as store:
        [claimed] = await store.outbox.claim(
            "mail", now=now(), until=now() + timedelta(seconds=9), limit=1
        )
    page = await desk.browser.send(form)
    assert banner(page) == "That is being delivered at this moment."
    async with desk.api.services.database.transaction() as store:
        await store.outbox.complete(claimed.id)
    page = await desk.browser.send(form)
    assert banner(page) == "That was delivered already."
    assert len(await desk.events(EventType.DELIVERIES_RETRIED)) == 1


async def test_a_test_mail_is_queued_for_the_superuser(desk: Desk) -> None:
    page = await desk.browser.send(button(await desk.browser.open(MAIL), "action", "test"))
    assert banner(page).startswith("A test e-mail to you is on its way.")
    assert [row[0] for row in rows_of(page)] == ["test"]
    [event] = await desk.events(EventType.MAIL_TESTED)
    assert event.actor_id == desk.user.id


async def test_test_mails_are_limited(desk: Desk) -> None:
    form = button(await desk.browser.open(MAIL), "action", "test")
    for _ in range(5):
        await desk.browser.send(form)
    page = await desk.browser.send(form)
    assert page.status == 429
    assert int(page.answer.headers["retry-after"]) > 0
    assert len(await desk.events(EventType.MAIL_TESTED)) == 5


async def test_long_queues_have_pages_and_a_filter(
    desk: Desk, clock: time_machine.Traveller
) -> None:
    await desk.queue_mail(12)
    await desk.give_up("mail", ERROR)
    clock.shift(1)  # ids sort by time
    await desk.queue_mail(1)
    page = await desk.browser.open(MAIL)
    assert len(rows_of(page)) == 10
    [link] = [it for it in page.main.all("a") if it.text == "Next"]
    second = await desk.browser.open(f"{MAIL[:9]}{link['href']}")
    assert states(rows_of(second)) == ["Given up"] * 2 + ["Waiting"]
    assert [it.text for it in second.main.all("a") if it.text == "First page"]
    waiting = await desk.browser.open(f"{MAIL}?show=waiting")
    assert states(rows_of(waiting)) == ["Waiting"]
    await desk.browser.send(button(page, "action", "retry"))
    empty = await desk.browser.open(f"{MAIL}?show=given-up")
    assert rows_of(empty) == []
    assert "Clear filters" in empty.text
    for query in ("show=nothing", "after=x", "show=", "after=", f"after={HOSTILE}"):
        assert len(rows_of(await desk.browser.open(f"{MAIL}?{query}"))) == 10


async def test_hostile_errors_are_texts(desk: Desk) -> None:
    await desk.queue_mail()
    await desk.give_up("mail", HOSTILE)
    page = await desk.browser.open(MAIL)
    assert rows_of(page)[0][1] == f"Given up {HOSTILE}"
    assert "<script>alert" not in page.answer.text


async def test_a_stale_login_gives_its_password(desk: Desk, clock: time_machine.Traveller) -> None:
    await desk.queue_mail()
    await desk.give_up("mail", ERROR)
    clock.shift(STALE)
    shown = await desk.browser.open(MAIL)
    form = button(shown, "action", "retry")
    assert "password" in {item["name"] for item in form.typed}
    for password in ("", "wrong password of mine"):
        refused = await desk.browser.send(form, password=password)
        assert refused.status in {403, 422}
        assert await desk.waiting("mail") == 0
    page = await desk.browser.send(form, password=PASSWORD)
    assert banner(page) == "1 delivery is tried again now."
    again = await desk.browser.open(MAIL)
    assert button(again, "action", "test").typed == []


@pytest.mark.parametrize("values", [{}, {"action": "delete"}, {"action": ""}])
async def test_other_forms_are_malformed(desk: Desk, values: dict[str, str]) -> None:
    answer = await desk.browser.request("POST", MAIL, values)
    assert answer.status_code == 400
    assert alerts_of(desk.browser.show(answer).root)


@pytest.mark.parametrize("entry", ["", "x", "01", HOSTILE])
async def test_an_entry_that_is_no_id_does_not_exist(desk: Desk, entry: str) -> None:
    answer = await desk.browser.request("POST", MAIL, {"entry": entry})
    assert answer.status_code == 404


async def test_a_service_without_mail_says_so(database_url: str) -> None:
    async with open_desk(database_url, mail_url="none:") as desk:
        page = await desk.browser.open(MAIL)
        assert "AUTHAPI_MAIL_URL is not set" in page.text
        assert not has_button(page, "action", "test")
        answer = await desk.browser.request("POST", MAIL, {"action": "test"})
        assert answer.status_code == 403
        assert await desk.events(EventType.MAIL_TESTED) == []
