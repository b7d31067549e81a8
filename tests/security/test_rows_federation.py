"""Known vulnerabilities of other products: logins at other providers."""

from datetime import timedelta

from authapi.clock import now
from authapi.web.federation.flows import LIFETIME
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.web.federation.visits import Visitor, person, settings_with_providers, visiting

REFUSED = "../../../account/sign-in?done=login-flow-invalid"


async def test_row_21_an_answer_belongs_to_its_browser_once_and_for_ten_minutes(
    database_url: str,
) -> None:
    async with visiting(settings_with_providers(database_url, registration="open")) as visitor:
        state = await visitor.start()
        kept = dict(visitor.api.cookies)
        visitor.api.cookies.clear()
        await visitor.start()  # the victim has a login of their own under way
        assert (await visitor.come_back(state, person())).headers["location"] == REFUSED
        assert (await visitor.api.get("/me")).status_code == 401
        visitor.api.cookies.update(kept)
        assert (await visitor.come_back(state)).status_code == 303
        assert (await visitor.api.get("/me")).status_code == 200
        visitor.api.cookies.clear()
        visitor.api.cookies.update(kept)
        again = await visitor.come_back(state, person(), code="another")
        assert again.headers["location"] == REFUSED
        assert (await visitor.api.get("/me")).status_code == 401
        with travel_to(now()) as clock:
            state = await visitor.start()
            clock.shift(LIFETIME + timedelta(seconds=1))
            assert (await visitor.come_back(state, person())).headers["location"] == REFUSED
        assert (await visitor.api.get("/me")).status_code == 401


async def test_row_22_an_answer_belongs_to_its_provider(database_url: str) -> None:
    async with visiting(settings_with_providers(database_url, registration="open")) as visitor:
        for began, answers in (("acme", "other"), ("other", "acme")):
            state = await visitor.start(began)
            back = await visitor.come_back(state, person(provider=answers), name=answers)
            assert back.headers["location"] == REFUSED
            assert not visitor.upstreams[answers].callbacks  # no code was exchanged
        # A program gets the code of the error.
        state = await visitor.start("acme")
        url = f"/login/with/other/callback?state={state}&code=a"
        back = await visitor.api.get(url, headers={"accept": "application/json"})
        assert (back.status_code, back.json()["code"]) == (400, "login_flow_invalid")
        assert (await visitor.api.get("/me")).status_code == 401


async def test_row_41_a_provider_does_not_stand_for_the_second_factor(database_url: str) -> None:
    async with visiting(settings_with_providers(database_url, registration="open")) as visitor:
        await visitor.log_in(person())
        await add_second_factors(visitor.api.services, await visitor.account())
        visitor.api.cookies.clear()
        back = await visitor.log_in(person())
        assert back.headers["location"].endswith("sign-in/second")
        assert (await visitor.api.get("/me")).status_code == 401
        for strategy in ("token", "jwt"):
            code = await _code(visitor, strategy)
            answer = await visitor.api.post("/login/with/exchange", json={"code": code})
            assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
            assert "access_token" not in answer.json()


async def _code(visitor: Visitor, strategy: str) -> str:
    back = await visitor.log_in(person(), strategy=strategy, **{"continue": "/in"})
    return back.headers["location"].partition("#code=")[2]
