"""/account/sign-out and /account/prove."""

from datetime import timedelta

from authapi.clock import now
from authapi.testing import PASSWORD, Client
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page
from tests.web.pages.texts import ENGLISH

ALICE = "alice@example.com"
FORM = {"email": ALICE, "password": PASSWORD}


async def test_signing_out_ends_the_session(api_on_each: Client) -> None:
    api = api_on_each
    await api.create_user(ALICE)
    await api.post("/account/sign-in", data=FORM)
    stolen = {"cookie": f"authapi={api.cookies['authapi']}"}
    for method in ("GET", "HEAD"):
        assert (await api.request(method, "/account/sign-out")).status_code == 200
    shown = await api.get("/account/sign-out")
    check_page(shown, 200, f"You are signed in as {ALICE}.")
    sent = await api.post("/account/sign-out", data={"x": "y"})
    assert (sent.status_code, sent.headers["location"]) == (303, "sign-in?done=signed-out")
    assert sent.headers["clear-site-data"] == '"cache", "cookies", "storage"'
    api.cookies.clear()
    assert (await api.get("/me", headers=stolen)).status_code == 401
    check_page(await api.get("/account/sign-in?done=signed-out"), 200, "You are signed out.")


async def test_signing_out_keeps_the_language(api: Client) -> None:
    await api.create_user(ALICE)
    await api.post("/account/sign-in", data=FORM)
    await api.get("/account/sign-in?lang=ko")
    sent = await api.post("/account/sign-out", data={"x": "y"})
    assert sent.headers["location"] == "sign-in?done=signed-out&lang=ko"


async def test_signing_out_ends_a_login_that_waits(api: Client) -> None:
    alice = await add_second_factors(api.services, await api.create_user(ALICE))
    await api.post("/account/sign-in", data=FORM)
    waiting = {"cookie": f"authapi-login={api.cookies['authapi-login']}"}
    sent = await api.post("/account/sign-out", data={"x": "y"})
    assert any(it.startswith("authapi-login=;") for it in sent.headers.get_list("set-cookie"))
    api.cookies.clear()
    data = {"code": alice.code()}
    late = await api.post("/account/sign-in/second", data=data, headers=waiting)
    assert late.headers["location"] == "../sign-in?done=expired"


async def test_signing_out_twice_is_no_error(api: Client) -> None:
    assert (await api.get("/account/sign-out")).headers["location"] == "sign-in"
    sent = await api.post("/account/sign-out", data={"x": "y"})
    assert sent.headers["location"] == "sign-in?done=signed-out"


async def test_the_password_makes_a_session_recent(api_on_each: Client) -> None:
    api = api_on_each
    await api.create_user(ALICE)
    with travel_to(now()) as clock:
        await api.post("/account/sign-in", data=FORM)
        clock.shift(timedelta(minutes=6))
        assert (await api.delete("/me")).status_code == 401
        shown = await api.get("/account/prove?next=/reports")
        check_page(shown, 200, "Prove that it is you")
        wrong = await api.post("/account/prove", data={"password": "wrong", "next": "/reports"})
        check_page(wrong, 403, ENGLISH["wrong_password"], is_error=True)
        assert 'name="next" value="/reports"' in wrong.text
        old = api.cookies["authapi"]
        sent = await api.post("/account/prove", data={"password": PASSWORD, "next": "/reports"})
        assert (sent.status_code, sent.headers["location"]) == (303, "/reports")
        assert api.cookies["authapi"] != old
        assert (await api.delete("/me")).status_code == 204


async def test_attempts_to_prove_are_limited(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    answers = [
        await api.post("/account/prove", data={"password": f"guess {number}"}, headers=headers)
        for number in range(11)
    ]
    assert [it.status_code for it in answers] == [403] * 10 + [429]


async def test_a_person_who_is_signed_out_signs_in_first(api: Client) -> None:
    shown = await api.get("/account/prove?next=/x")
    assert shown.headers["location"] == "sign-in?next=%2Fx"
    sent = await api.post("/account/prove", data={"password": PASSWORD, "next": "/x"})
    assert sent.headers["location"] == "sign-in?done=ended&next=%2Fx"
