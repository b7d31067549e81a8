"""The buttons and cards of other providers on pages."""

import re
from collections.abc import AsyncIterator
from html import unescape

import pytest

from authapi.domain.federation.person import Person
from authapi.errors import ProviderUnavailable
from authapi.testing import PASSWORD
from tests.web.federation.visits import (
    Visitor,
    person,
    settings_with_providers,
    state_of,
    visiting,
)
from tests.web.pages.checks import check_page, main_of

LINK = {"sec-fetch-site": "same-origin", "sec-fetch-dest": "document"}


@pytest.fixture
async def visitor(sqlite_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(sqlite_url, registration="open")) as found:
        yield found


SIGN_IN = "/account/sign-in"


async def led_to(visitor: Visitor, **fields: str) -> str:
    """Returns `state` of a visit that a button of the page to sign in begins."""
    shown = await visitor.api.post(SIGN_IN, data={"provider": "acme", **fields})
    assert shown.status_code == 200, shown.text
    assert "You are led to Acme now." in shown.text
    [url] = re.findall(r'http-equiv="refresh" content="0; url=([^"]*)"', shown.text)
    return state_of(unescape(url))


async def test_the_buttons_of_the_page_to_sign_in(visitor: Visitor) -> None:
    shown = await visitor.api.get(f"{SIGN_IN}?next=/orders%3Fid=1")
    check_page(shown, 200, "Continue with Acme")
    names = re.findall(r'name="provider" value="([^"]*)" formnovalidate', shown.text)
    assert names == ["acme", "other"]
    assert shown.text.count(">or<") == 1
    fields = {"email": "Ada@example.com", "password": "typed", "next": "/orders?id=1"}
    answer = await visitor.come_back(await led_to(visitor, **fields), person())
    assert answer.headers["location"] == "/orders?id=1"
    assert visitor.acme.started[0][1] == "Ada@example.com"
    assert (await visitor.api.get("/me")).status_code == 200


@pytest.mark.parametrize("remember", [True, False])
async def test_a_button_keeps_a_person_signed_in(visitor: Visitor, remember: bool) -> None:
    fields = {"email": "", "password": "", "next": "", **({"remember": "yes"} if remember else {})}
    answer = await visitor.come_back(await led_to(visitor, **fields), person())
    cookies = [it for it in answer.headers.get_list("set-cookie") if it.startswith("authapi=")]
    assert ["Max-Age" in it for it in cookies] == [remember]
    assert visitor.acme.started[0][1] is None


async def test_a_button_that_is_refused(visitor: Visitor) -> None:
    fields = {"provider": "acme", "email": "ada@example.com"}
    foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    sent = await visitor.api.post(SIGN_IN, data=fields, headers=foreign)
    assert sent.status_code == 403
    sent = await visitor.api.post(SIGN_IN, data={**fields, "provider": "nope"})
    assert sent.status_code == 404
    sent = await visitor.api.post(SIGN_IN, data={**fields, "next": "//evil.example"})
    assert visitor.acme.started[-1][0].continue_to is None
    visitor.acme.unavailable = ProviderUnavailable()
    sent = await visitor.api.post(SIGN_IN, data=fields)
    check_page(sent, 503, "Continue with Acme", is_error=True)
    assert 'value="ada@example.com"' in sent.text


async def test_the_links_of_the_page_to_sign_up_lead_to_the_providers_and_on(
    visitor: Visitor,
) -> None:
    shown = await visitor.api.get("/account/sign-up?next=/orders%3Fid=1")
    check_page(shown, 200, "Continue with Acme")
    hrefs = [unescape(it) for it in re.findall(r'href="([^"]*login/with/[^"]*)"', shown.text)]
    assert [it.split("?")[0] for it in hrefs] == ["../login/with/acme", "../login/with/other"]
    begun = await visitor.api.get(f"/account/{hrefs[0]}", headers=LINK)
    assert begun.status_code == 303, begun.text
    answer = await visitor.come_back(state_of(begun.headers["location"]), person())
    assert answer.headers["location"] == "/orders?id=1"
    assert (await visitor.api.get("/me")).status_code == 200


async def test_a_page_without_a_target_leads_home(visitor: Visitor) -> None:
    shown = await visitor.api.get("/account/sign-up?next=//evil.example")
    [href, _] = re.findall(r'href="([^"]*login/with/[^"]*)"', shown.text)
    assert href == "../login/with/acme?strategy=session"


async def test_a_service_without_providers_has_no_button(make_settings: object) -> None:
    from authapi import create_app
    from authapi.testing import client

    async with client(create_app(make_settings())) as api:  # type: ignore[operator]  # a factory
        for page in ("sign-in", "sign-up"):
            assert "Continue with" not in (await api.get(f"/account/{page}")).text


async def sign_in(visitor: Visitor, email: str = "alice@example.com") -> None:
    """Signs in to a new account."""
    await visitor.api.login(await visitor.api.create_user(email))


async def test_an_account_is_connected_and_disconnected(visitor: Visitor) -> None:
    await sign_in(visitor)
    security = await visitor.api.get("/account/security")
    check_page(security, 200, "Connect Acme")
    shown = await visitor.api.get("/account/security/providers/acme")
    check_page(shown, 200, "You sign in at Acme.")
    going = await visitor.api.post("/account/security/providers/acme", data={"go": "1"})
    assert going.status_code == 200
    assert going.headers["content-security-policy"].count("form-action 'self';") == 1
    assert going.headers["cache-control"] == "no-store"
    found = re.search(r'<meta http-equiv="refresh" content="0; url=([^"]*)">', going.text)
    assert found is not None
    url = unescape(found[1])
    assert f'href="{found[1]}"' in going.text
    back = await visitor.come_back(state_of(url), person())
    assert back.headers["location"] == "/account/security?done=connected"
    security = await visitor.api.get("/account/security?done=connected")
    check_page(security, 200, "That account signs you in from now on.")
    assert "Connect Acme" not in security.text
    assert "Connect Other" in security.text
    [path] = re.findall(r'href="(security/identities/[0-9a-f-]+)"', security.text)
    shown = await visitor.api.get(f"/account/{path}")
    check_page(shown, 200, "It signs you in no longer")
    gone = await visitor.api.post(f"/account/{path}", data={"go": "1"})
    assert gone.headers["location"].endswith("security?done=now")
    security = await visitor.api.get("/account/security?done=now")
    check_page(security, 200, "That account is disconnected")
    again = await visitor.api.post(f"/account/{path}", data={"go": "1"})
    assert again.headers["location"].endswith("security?done=now")
    assert (await visitor.api.get(f"/account/{path}")).headers["location"].endswith("security")


async def test_the_last_way_in_stays(visitor: Visitor) -> None:
    await visitor.log_in(person(), **{"continue": "/home"})
    security = await visitor.api.get("/account/security")
    [path] = re.findall(r'href="(security/identities/[0-9a-f-]+)"', security.text)
    refused = await visitor.api.post(f"/account/{path}", data={"go": "1"})
    check_page(refused, 409, "It is your only way to sign in.", is_error=True)


async def test_a_connection_asks_for_the_password_after_a_while(visitor: Visitor) -> None:
    from datetime import timedelta

    from authapi.clock import now
    from tests.clocks import travel_to

    await sign_in(visitor)
    with travel_to(now() + timedelta(hours=1)):
        shown = await visitor.api.get("/account/security/providers/acme")
        assert "Your password" in shown.text
        refused = await visitor.api.post("/account/security/providers/acme", data={"password": ""})
        assert refused.status_code == 422
        wrong = await visitor.api.post("/account/security/providers/acme", data={"password": "x"})
        assert wrong.status_code == 403
        assert not visitor.acme.started
        going = await visitor.api.post(
            "/account/security/providers/acme", data={"password": PASSWORD}
        )
        assert going.status_code == 200
        assert visitor.acme.started


async def test_an_unknown_provider_is_a_missing_page(visitor: Visitor) -> None:
    await sign_in(visitor)
    for answer in (
        await visitor.api.get("/account/security/providers/unlisted"),
        await visitor.api.post("/account/security/providers/unlisted", data={"go": "1"}),
    ):
        assert answer.status_code == 404


async def test_a_provider_proves_again_who_is_signed_in(visitor: Visitor) -> None:
    from datetime import timedelta

    from authapi.clock import now
    from tests.clocks import travel_to

    await visitor.log_in(person(), **{"continue": "/home"})
    later = now() + timedelta(hours=1)
    with travel_to(later):
        assert (await visitor.api.delete("/me")).status_code == 401
        shown = await visitor.api.get("/account/prove?next=/account/data")
        check_page(shown, 200, "Prove it at Acme")
        assert "Prove it at Other" not in shown.text
        form = {"provider": "acme", "next": "/account/data"}
        going = await visitor.api.post("/account/prove", data=form)
        assert going.status_code == 200
        flow = visitor.acme.started[-1][0]
        assert flow.intent == "step_up"

        async def come_back(who: Person, code: str) -> str:
            answer = await visitor.come_back(flow.state, who, code=code)
            return answer.headers["location"]

        refused = "../../../account/prove?done=provider-answer-refused&next=%2Faccount%2Fdata"
        assert await come_back(person(), "a") == refused
        again = await visitor.api.post("/account/prove", data=form)
        assert again.status_code == 200
        flow = visitor.acme.started[-1][0]
        assert await come_back(person(auth_time=later), "b") == "/account/data"
        shown = await visitor.api.get("/account/prove?next=/account/data")
        assert shown.headers["location"] == "/account/data"


async def test_a_disabled_provider_stays_in_the_list(visitor: Visitor) -> None:
    await visitor.log_in(person(), **{"continue": "/home"})
    visitor.upstreams._by_name.pop("acme")
    security = await visitor.api.get("/account/security")
    check_page(security, 200, "acme")
    assert "Connect Acme" not in main_of(security)
