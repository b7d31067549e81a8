"""/console/keys shows the signing keys, rotates and retires them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest
import time_machine

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.signing_key import KeyState
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.storage.rows import sql
from tests.web.pages.anatomy import alerts_of
from tests.web.routes.pages.console.queues import (
    HOSTILE,
    ROOT,
    Desk,
    banner,
    button,
    open_desk,
    rows_of,
)
from tests.web.routes.pages.people import STALE, sign_in_by_page

KEYS = "/console/keys"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with travel_to(now()) as found:
        yield found


@pytest.fixture
async def desk(clock: time_machine.Traveller, database_url: str) -> AsyncIterator[Desk]:
    async with open_desk(database_url) as found:
        yield found


async def kid_of(desk: Desk, state: KeyState) -> str:
    [kid] = [it.kid for it in await desk.api.services.keys.list_stored() if it.state is state]
    return kid


async def ripen(desk: Desk, clock: time_machine.Traveller) -> None:
    """Waits until verifiers have read the next key, and signs in again."""
    clock.shift(7 * MINUTE)
    await sign_in_by_page(desk.api, ROOT)


def states(rows: list[list[str]]) -> list[str]:
    return [row[1] for row in rows]


async def test_keys_are_listed_by_state(desk: Desk, clock: time_machine.Traveller) -> None:
    page = await desk.browser.open(KEYS)
    assert states(rows_of(page)) == ["Next", "Active"]
    assert set(rows_of(page)[0][0].split()) == {await kid_of(desk, KeyState.NEXT), "ES256"}
    [link] = [it["href"] for it in page.main.all("a") if "JWKS" in it.text]
    assert link == f"{desk.api.services.settings.issuer}/.well-known/jwks.json"
    await ripen(desk, clock)
    await desk.api.services.keys.rotate()
    page = await desk.browser.open(KEYS)
    assert states(rows_of(page)) == ["Next", "Active", "Retiring"]
    clock.shift(timedelta(minutes=50))
    page = await desk.browser.open(KEYS)
    assert states(rows_of(page)) == ["Next", "Active", "Retired"]
    assert "PRIVATE" not in page.answer.text


async def test_the_next_key_is_made_to_sign(desk: Desk, clock: time_machine.Traveller) -> None:
    upcoming = await kid_of(desk, KeyState.NEXT)
    await ripen(desk, clock)
    form = button(await desk.browser.open(KEYS), "action", "rotate")
    page = await desk.browser.send(form)
    assert banner(page).startswith("The next key signs now.")
    assert await kid_of(desk, KeyState.ACTIVE) == upcoming
    [event] = await desk.events(EventType.KEY_ROTATED)
    assert (event.actor_id, event.detail) == (desk.user.id, {"kid": upcoming})
    refused = await desk.browser.send(form)
    assert refused.status == 409
    [alert] = alerts_of(refused.root)
    assert "Verifiers may not have read the next key yet." in alert
    assert await kid_of(desk, KeyState.ACTIVE) == upcoming


async def test_of_two_rotations_at_once_one_makes_a_key(
    desk: Desk, clock: time_machine.Traveller
) -> None:
    await ripen(desk, clock)
    form = button(await desk.browser.open(KEYS), "action", "rotate")
    answers = await asyncio.gather(
        *(desk.browser.request("POST", form.url, form.values) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in answers) == [303, 409]
    assert len(await desk.api.services.keys.list_stored()) == 3
    assert len(await desk.events(EventType.KEY_ROTATED)) == 1


async def test_a_key_is_retired_by_typing_it(desk: Desk) -> None:
    active, upcoming = await kid_of(desk, KeyState.ACTIVE), await kid_of(desk, KeyState.NEXT)
    form = button(await desk.browser.open(KEYS), "action", "retire")
    for kid in ("", active[:-1], HOSTILE, "x" * 500):
        refused = await desk.browser.send(form, kid=kid)
        assert (refused.status, alerts_of(refused.root)) == (
            422,
            ["Type the key as the table shows it."],
        )
    assert len(await desk.events(EventType.KEY_RETIRED)) == 0
    page = await desk.browser.send(form, kid=f" {active} ")
    assert banner(page).startswith("That key is retired.")
    assert await kid_of(desk, KeyState.ACTIVE) == upcoming
    assert active not in page.text
    [event] = await desk.events(EventType.KEY_RETIRED)
    assert (event.actor_id, event.detail) == (desk.user.id, {"kid": active})


async def test_a_stale_login_proves_itself_first(desk: Desk, clock: time_machine.Traveller) -> None:
    active = await kid_of(desk, KeyState.ACTIVE)
    clock.shift(STALE)
    shown = await desk.browser.open(KEYS)
    assert not [it for it in shown.forms() if it.button["value"] == "retire"]
    [link] = [it["href"] for it in shown.main.all("a") if it.text == "Prove that it is you"]
    assert link == "../account/prove?next=%2Fconsole%2Fkeys"
    answer = await desk.browser.request("POST", KEYS, {"action": "retire", "kid": active})
    assert answer.status_code == 401
    form = button(shown, "action", "rotate")
    refused = await desk.browser.send(form, password="wrong password of mine")
    assert refused.status == 403
    page = await desk.browser.send(form, password=PASSWORD)
    assert banner(page).startswith("The next key signs now.")


async def test_a_service_that_signs_nothing_says_so(database_url: str) -> None:
    async with open_desk(database_url, strategies=("session", "token")) as desk:
        page = await desk.browser.open(KEYS)
        assert "This service signs no JWTs" in page.text
        assert rows_of(page) == []
        answer = await desk.browser.request("POST", KEYS, {"action": "rotate"})
        assert answer.status_code == 404


async def test_keys_of_another_secret_are_no_server_error(
    desk: Desk, clock: time_machine.Traveller
) -> None:
    await ripen(desk, clock)
    form = button(await desk.browser.open(KEYS), "action", "rotate")
    url = desk.api.services.settings.resolved_database_url
    sql(url, "UPDATE authapi_signing_keys SET private_key = NULL WHERE state = 'next'")
    async with desk.api.services.database.transaction() as store:
        await store.signing_keys.reencrypt(await kid_of(desk, KeyState.NEXT), b"x" * 60)
    page = await desk.browser.send(form)
    assert page.status == 503
    assert alerts_of(page.root)
    assert await desk.events(EventType.KEY_ROTATED) == []


@pytest.mark.parametrize("values", [{}, {"action": "delete"}])
async def test_other_forms_are_malformed(desk: Desk, values: dict[str, str]) -> None:
    answer = await desk.browser.request("POST", KEYS, values)
    assert answer.status_code == 400
