"""/account/sign-in/second: codes and recovery codes."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import SecondFactors, add_second_factors
from tests.web.pages.checks import check_page, main_of

ALICE = "alice@example.com"
SECOND = "/account/sign-in/second"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


@pytest.fixture
async def alice(api: Client) -> SecondFactors:
    return await add_second_factors(api.services, await api.create_user(ALICE))


async def first_step(api: Client, **fields: str) -> None:
    """Send the password, and check that the second step is asked for."""
    form = {"email": ALICE, "password": PASSWORD, **fields}
    sent = await api.post("/account/sign-in", data=form)
    assert sent.status_code == 303
    assert sent.headers["location"].startswith("sign-in/second")
    assert (await api.get("/me")).status_code == 401


@pytest.mark.parametrize("kind", ["code", "recovery_code"])
async def test_the_second_step_signs_in(api: Client, alice: SecondFactors, kind: str) -> None:
    await first_step(api, next="/x", remember="yes")
    shown = await api.get(f"{SECOND}?next=/x")
    check_page(shown, 200, "Six digits")
    assert 'href="../page.css' in shown.text
    code = alice.code()
    typed = {"code": f" {code[:3]} {code[3:]} ", "recovery_code": alice.codes[0]}
    sent = await api.post(SECOND, data={kind: typed[kind], "next": "/x"})
    assert (sent.status_code, sent.headers["location"]) == (303, "../sign-in?done=in&next=%2Fx")
    cookies = sent.headers.get_list("set-cookie")
    assert any(it.startswith("authapi=") and "Max-Age=" in it for it in cookies)
    assert any(it.startswith("authapi-login=;") for it in cookies)
    arrived = await api.get("/account/sign-in?done=in&next=/x")
    assert arrived.headers["location"] == "/x"
    identity = (await api.get("/me/identity")).json()
    assert "mfa" in identity["amr"]


async def test_a_wrong_code_tells_the_attempts_that_are_left(
    api: Client, alice: SecondFactors
) -> None:
    await first_step(api)
    for left in ("4 attempts are left", "3 attempts are left"):
        wrong = await api.post(SECOND, data={"code": alice.wrong_code()})
        check_page(wrong, 401, f"That code is not right. {left}.", is_error=True)
        assert re.search(r'id="code"[^>]*aria-invalid="true"[^>]*autofocus', wrong.text)
    recovery = await api.post(SECOND, data={"recovery_code": "7K2M-Q4XP-9RTD-3WHN"})
    check_page(recovery, 401, "That code is not right. 2 attempts are left.", is_error=True)
    assert "<details open>" in recovery.text
    # A text that is no code costs no attempt.
    for code in ("", "12345", "１２３４５６", "abcdef"):
        assert (await api.post(SECOND, data={"code": code})).status_code == 422
    last = await api.post(SECOND, data={"code": alice.wrong_code()})
    assert "1 attempt is left." in last.text
    await api.post(SECOND, data={"code": alice.wrong_code()})
    over = await api.post(SECOND, data={"code": alice.code(), "next": "/x"})
    assert (over.status_code, over.headers["location"]) == (
        303,
        "../sign-in?done=expired&next=%2Fx",
    )
    begun_again = await api.get("/account/sign-in?done=expired&next=/x")
    check_page(begun_again, 200, "The sign-in took too long. Begin again.")
    assert f'value="{ALICE}"' in main_of(begun_again)


async def test_a_login_that_waits_too_long_begins_again(api: Client, alice: SecondFactors) -> None:
    with travel_to(now()) as clock:
        await first_step(api)
        clock.shift(timedelta(minutes=6))
        sent = await api.post(SECOND, data={"code": alice.code()})
        assert sent.headers["location"] == "../sign-in?done=expired"


async def test_without_a_login_there_is_no_second_step(api: Client) -> None:
    shown = await api.get(f"{SECOND}?next=/x")
    assert (shown.status_code, shown.headers["location"]) == (
        303,
        "../sign-in?done=expired&next=%2Fx",
    )
