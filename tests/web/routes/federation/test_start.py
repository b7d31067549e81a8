"""GET /login/with and POST /login/with/{provider}."""

import pytest

from authapi.errors import ProviderUnavailable
from tests.web.federation.visits import ORIGIN, Visitor, settings_with_providers, state_of, visiting

FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
LINK = {"sec-fetch-site": "same-origin", "sec-fetch-dest": "document"}


async def test_the_providers_are_listed_in_the_order_of_the_settings(visitor: Visitor) -> None:
    answer = await visitor.api.get("/login/with")
    assert answer.json() == [
        {"name": "acme", "title": "Acme", "start": "/login/with/acme"},
        {"name": "other", "title": "Other", "start": "/login/with/other"},
    ]


async def test_the_path_of_the_public_url_is_in_the_start(sqlite_url: str) -> None:
    settings = settings_with_providers(sqlite_url, public_url=f"{ORIGIN}/auth")
    async with visiting(settings) as visitor:
        listed = (await visitor.api.get("/login/with")).json()
    assert [it["start"] for it in listed] == ["/auth/login/with/acme", "/auth/login/with/other"]


async def test_a_script_gets_the_address(visitor: Visitor) -> None:
    body = {"continue": "/home", "remember": True, "hint": "alice@example.com"}
    answer = await visitor.api.post("/login/with/acme", json=body)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    [(flow, hint)] = visitor.acme.started
    assert answer.json() == {
        "url": f"https://id.acme.example/auth?state={flow.state}"
        f"&redirect_uri={ORIGIN}/login/with/acme/callback"
    }
    assert (flow.continue_to, flow.remember, flow.strategy, hint) == (
        *("/home", True, "session"),
        "alice@example.com",
    )
    [cookie] = answer.headers.get_list("set-cookie")
    assert cookie.startswith(f"authapi-flow-{flow.state[:8]}=")
    assert cookie.endswith("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600")


async def test_every_visit_has_secrets_of_its_own(visitor: Visitor) -> None:
    for _ in range(2):
        await visitor.start()
    first, second = (flow for flow, _ in visitor.acme.started)
    secrets = {
        getattr(flow, it) for flow in (first, second) for it in ("state", "nonce", "verifier")
    }
    assert len(secrets) == 6


async def test_a_form_is_led_to_the_provider(visitor: Visitor) -> None:
    form = {"continue": "/home", "remember": "yes", "hint": "", "strategy": ""}
    answer = await visitor.api.post("/login/with/acme", data=form)
    assert answer.status_code == 303
    assert state_of(answer.headers["location"]) == visitor.acme.started[0][0].state
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert visitor.acme.started[0][0].remember


async def test_a_request_without_a_body_uses_the_defaults(visitor: Visitor) -> None:
    assert (await visitor.api.post("/login/with/acme")).status_code == 200
    assert visitor.acme.started[0][0].continue_to is None


async def test_a_link_of_an_own_page_is_led_to_the_provider(visitor: Visitor) -> None:
    query = {"continue": "/home", "strategy": "session", "remember": "true"}
    for headers in (LINK, {"sec-fetch-site": "none"}, {"referer": f"{ORIGIN}/account/sign-in"}):
        answer = await visitor.api.get("/login/with/acme", params=query, headers=headers)
        assert answer.status_code == 303, answer.text
        flow = visitor.acme.started[-1][0]
        assert state_of(answer.headers["location"]) == flow.state
        assert (flow.continue_to, flow.remember) == ("/home", True)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "referer": ORIGIN},
        {},
        {"referer": "https://evil.example/"},
        {"referer": f"{ORIGIN}.evil.example/"},
        {"referer": "http://[evil"},
        {"referer": ""},
    ],
)
async def test_a_link_of_a_foreign_page_begins_nothing(
    visitor: Visitor, headers: dict[str, str]
) -> None:
    answer = await visitor.api.get("/login/with/acme", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert "set-cookie" not in answer.headers
    assert not visitor.acme.started


async def test_a_form_of_a_foreign_page_begins_nothing(visitor: Visitor) -> None:
    for kind in ("data", "json"):
        answer = await visitor.api.post("/login/with/acme", headers=FOREIGN, **{kind: {}})  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert not visitor.acme.started


async def test_a_form_of_an_allowed_origin_begins_a_visit(sqlite_url: str) -> None:
    settings = settings_with_providers(sqlite_url, allowed_origins=["https://app.example"])
    headers = {"origin": "https://app.example", "sec-fetch-site": "cross-site"}
    async with visiting(settings) as visitor:
        for form in ({"continue": "https://app.example/in?x=1"}, {"continue": "/home"}):
            answer = await visitor.api.post("/login/with/acme", headers=headers, data=form)
            assert answer.status_code == 303
            assert visitor.acme.started[-1][0].continue_to == form["continue"]


@pytest.mark.parametrize(
    "target",
    [
        *(
            "//evil.example",
            "\\\\evil.example",
            "/\\evil.example",
            "https:evil.example",
            "/%2fevil",
        ),
        *("https://evil.example/", f"{ORIGIN}@evil.example/", f"{ORIGIN}.evil.example/", "evil"),
        *("javascript:alert(1)", "https://app.example.evil.example/", "/a\r\nset-cookie:x", "/ä"),
        "https://user@app.example/",
    ],
)
async def test_a_login_leads_to_no_other_host(sqlite_url: str, target: str) -> None:
    settings = settings_with_providers(sqlite_url, return_origins=["https://app.example"])
    async with visiting(settings) as visitor:
        for answer in (
            await visitor.api.post("/login/with/acme", json={"continue": target}),
            await visitor.api.post("/login/with/acme", data={"continue": target}),
            await visitor.api.get("/login/with/acme", params={"continue": target}, headers=LINK),
        ):
            assert answer.status_code == 422, answer.text
            assert answer.json()["errors"][0]["loc"][-1] == "continue"
            assert target not in answer.text or target == "evil"
        assert not visitor.acme.started


async def test_an_unknown_provider_is_refused(visitor: Visitor) -> None:
    for name in ("unlisted", "Acme", "acme ", "%00", "a" * 5000):
        for answer in (
            await visitor.api.post(f"/login/with/{name}", json={}),
            await visitor.api.get(f"/login/with/{name}", headers=LINK),
            await visitor.api.get(f"/login/with/{name}/callback"),
        ):
            assert answer.status_code in {404, 414}, answer.text
    answer = await visitor.api.post("/login/with/unlisted", json={})
    assert answer.json()["code"] == "provider_unknown"
    # The path of another route with another method.
    answer = await visitor.api.get("/login/with/exchange", headers=LINK)
    assert (answer.status_code, answer.json()["code"]) == (404, "provider_unknown")


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"strategy": "basic"}, "strategy"),
        ({"strategy": 1}, "strategy"),
        ({"remember": "yes"}, "remember"),
        ({"hint": "no address"}, "hint"),
        ({"continue": "/" + "a" * 2000}, "continue"),
        ({"continue": "/" + '"' * 1999}, "continue"),  # longer as a cookie
        ({"strategy": "token"}, "continue"),
        ({"next": "/"}, "?"),
        ([], "body"),
    ],
)
async def test_what_is_not_valid_is_refused(visitor: Visitor, body: object, loc: str) -> None:
    answer = await visitor.api.post("/login/with/acme", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["loc"][-1] == loc
    assert not visitor.acme.started


async def test_a_body_of_another_type_is_refused(visitor: Visitor) -> None:
    for content, kind, status in (
        (b"{}", "text/plain", 415),
        (b"{", "application/json", 400),
        (b'{"remember":true,"remember":false}', "application/json", 400),
        (b"continue=/a&continue=/b", "application/x-www-form-urlencoded", 400),
    ):
        answer = await visitor.api.post(
            "/login/with/acme", content=content, headers={"content-type": kind}
        )
        assert answer.status_code == status, answer.text


async def test_a_provider_that_does_not_answer_is_an_outage(visitor: Visitor) -> None:
    visitor.acme.unavailable = ProviderUnavailable(retry_after=7)
    answer = await visitor.api.post("/login/with/acme", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "provider_unavailable")
    assert answer.headers["retry-after"] == "7"
    assert "set-cookie" not in answer.headers


async def test_a_service_without_providers_has_no_route(api: Visitor) -> None:
    for path in ("/login/with", "/login/with/acme", "/login/with/acme/callback"):
        assert (await api.get(path)).status_code == 404  # type: ignore[attr-defined]  # a client
