"""/login/with/{provider}/callback."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from authapi.clock import now
from authapi.domain.events import EventFilter, EventType
from authapi.errors import ProviderAnswerRefused, ProviderRefused, ProviderUnavailable
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.second_factors import add_second_factors
from tests.web.federation.visits import (
    NAVIGATION,
    ORIGIN,
    Visitor,
    person,
    settings_with_providers,
    state_of,
    visiting,
)

SIGN_IN = "../../../account/sign-in"


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Returns the status and the code of a problem document."""
    return answer.status_code, answer.json()["code"]


async def test_a_visit_logs_in_with_a_cookie(visitor_on_each: Visitor) -> None:
    visitor = visitor_on_each
    answer = await visitor.log_in(person(), **{"continue": "/home?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/home?x=1")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    identity = (await visitor.api.get("/me/identity")).json()
    assert (identity["strategy"], identity["amr"]) == ("session", ["fed"])
    me = (await visitor.api.get("/me")).json()
    assert (me["email"], me["name"]) == ("person1@example.com", "A Person")
    [(callback, flow, uri)] = visitor.acme.callbacks
    assert (callback.code, callback.issuer, callback.user) == ("a-code", None, None)
    assert uri == f"{ORIGIN}/login/with/acme/callback"
    assert flow == visitor.acme.started[0][0]


async def test_a_login_without_a_target_leads_to_the_page_that_leads_home(visitor: Visitor) -> None:
    answer = await visitor.log_in(person())
    assert answer.headers["location"] == f"{SIGN_IN}?done=in"
    arrived = await visitor.api.get("/account/sign-in?done=in")
    assert arrived.headers["location"] == "../account"


async def test_a_remembered_login_keeps_its_cookie(visitor: Visitor) -> None:
    for remember in (True, False):
        answer = await visitor.log_in(person(), remember=remember)
        [cookie] = [it for it in answer.headers.get_list("set-cookie") if it.startswith("authapi=")]
        assert ("Max-Age=" in cookie) is remember


async def test_the_next_login_of_a_person_is_to_the_same_account(visitor: Visitor) -> None:
    ids = set()
    for name in ("A Person", "Another Name"):
        await visitor.log_in(person(name=name, email="changed@example.com"))
        ids.add((await visitor.api.get("/me")).json()["id"])
    assert len(ids) == 1


async def test_a_callback_without_the_cookie_is_refused(visitor: Visitor) -> None:
    state = await visitor.start()
    cookies = dict(visitor.api.cookies)
    visitor.api.cookies.clear()
    query = {"state": state, "code": "a-code"}
    for accept in ("text/html", "application/json"):
        answer = await visitor.api.get(
            "/login/with/acme/callback", params=query, headers={**NAVIGATION, "accept": accept}
        )
        if accept == "text/html":
            assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"
        else:
            assert problem_of(answer) == (400, "login_flow_invalid")
    assert not visitor.acme.callbacks
    visitor.api.cookies.update(cookies)
    assert (await visitor.come_back(state, person())).status_code == 303
    assert (await visitor.api.get("/me")).status_code == 200


async def test_a_stolen_callback_does_not_log_another_browser_in(visitor: Visitor) -> None:
    state = await visitor.start()
    visitor.api.cookies.clear()
    await visitor.start()  # the other browser has a flow of its own
    answer = await visitor.come_back(state, person())
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"
    assert (await visitor.api.get("/me")).status_code == 401
    shown = await visitor.api.get("/account/sign-in?done=login-flow-invalid")
    assert "was not begun in this browser" in shown.text


async def test_a_cookie_of_another_flow_does_not_count(visitor: Visitor) -> None:
    first, second = await visitor.start(), await visitor.start()
    values = dict(visitor.api.cookies.items())
    visitor.api.cookies.clear()
    visitor.api.cookies.set(f"authapi-flow-{first[:8]}", values[f"authapi-flow-{second[:8]}"])
    answer = await visitor.come_back(first, person())
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"


async def test_a_flow_belongs_to_its_provider(visitor: Visitor) -> None:
    state = await visitor.start("acme")
    answer = await visitor.come_back(state, person(), name="other")
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"
    assert not visitor.upstreams["other"].callbacks


@pytest.mark.parametrize("state", ["", "x", "a" * 43, "a" * 5000, "ä", "__proto__"])
async def test_another_state_is_refused(visitor: Visitor, state: str) -> None:
    await visitor.start()
    answer = await visitor.come_back(state)
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"


async def test_a_parameter_that_occurs_twice_is_refused(visitor: Visitor) -> None:
    state = await visitor.start()
    visitor.acme.codes["b"] = person()
    for query in (
        f"state={state}&code=a&code=b",
        f"state={state}&code=b&state={state}",
        f"state={state}&code=&code=b",
        f"state=&state={state}&code=b",
    ):
        answer = await visitor.api.get(f"/login/with/acme/callback?{query}", headers=NAVIGATION)
        assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"
    assert not visitor.acme.callbacks


async def test_a_flow_ends_after_ten_minutes(visitor: Visitor) -> None:
    started = now()
    with travel_to(started):
        state = await visitor.start()
    with travel_to(started + timedelta(minutes=10)):
        answer = await visitor.come_back(state, person())
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"


async def test_a_page_that_is_loaded_again_leads_on(visitor_on_each: Visitor) -> None:
    visitor = visitor_on_each
    state = await visitor.start(**{"continue": "/home"})
    answer = await visitor.come_back(state, person())
    for _ in range(3):
        assert answer.headers["location"] == "/home"
        answer = await visitor.come_back(state)
    assert len(visitor.acme.callbacks) == 1


async def test_a_used_callback_does_not_log_in_again(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": "/home"})
    await visitor.come_back(state, person())
    await visitor.api.post("/logout")
    visitor.acme.codes["b-code"] = person()
    answer = await visitor.come_back(state, code="b-code")
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid&next=%2Fhome"
    assert len(visitor.acme.callbacks) == 1
    assert (await visitor.api.get("/me")).status_code == 401


async def test_two_tabs_log_in_at_once(visitor: Visitor) -> None:
    first = await visitor.start(**{"continue": "/one"})
    second = await visitor.start("other", **{"continue": "/two"})
    other = person(provider="other", issuer="https://id.other.example", email="other@example.com")
    answer = await visitor.come_back(second, other, name="other")
    assert answer.headers["location"] == "/two"
    assert (await visitor.come_back(first, person())).headers["location"] == "/one"
    assert (await visitor.api.get("/me")).json()["email"] == "person1@example.com"


async def test_a_browser_keeps_five_flows(visitor: Visitor) -> None:
    at = now()
    states = []
    for number in range(7):
        with travel_to(at + timedelta(seconds=number)):
            states.append(await visitor.start())
    kept = [name for name in visitor.api.cookies if name.startswith("authapi-flow-")]
    assert sorted(kept) == sorted(f"authapi-flow-{state[:8]}" for state in states[2:])


async def test_of_many_requests_with_one_callback_one_logs_in(visitor_on_each: Visitor) -> None:
    visitor = visitor_on_each
    state = await visitor.start(**{"continue": "/home"})
    who = person()

    class EveryTime(dict[str, object]):
        """A provider that accepts a code as often as it comes."""

        def pop(self, *_: object) -> object:
            return who

    visitor.acme.codes = EveryTime()  # type: ignore[assignment]  # as a provider without limits
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.api.cookies.items())
    visitor.api.cookies.clear()

    async def once() -> httpx.Response:
        return await visitor.api.get(
            "/login/with/acme/callback",
            params={"state": state, "code": "a-code"},
            headers={**NAVIGATION, "cookie": cookie},
        )

    answers = await asyncio.gather(*(once() for _ in range(50)))
    assert all(answer.status_code == 303 for answer in answers)
    sessions = [
        answer
        for answer in answers
        if any(it.startswith("authapi=") for it in answer.headers.get_list("set-cookie"))
    ]
    assert len(sessions) == 1
    assert sessions[0].headers["location"] == "/home"


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ("access_denied", "provider-refused"),
        ("login_required", "provider-refused"),
        ("<script>alert(1)</script>", "provider-refused"),
        ("server_error", "provider-unavailable"),
        ("temporarily_unavailable", "provider-unavailable"),
    ],
)
async def test_an_error_of_the_provider_leads_to_our_page(
    visitor: Visitor, said: str, outcome: str
) -> None:
    state = await visitor.start(**{"continue": "/home"})
    answer = await visitor.come_back(
        state, code="", error=said, error_description="Ünser Text \u2603"
    )
    assert answer.headers["location"] == f"{SIGN_IN}?done={outcome}&next=%2Fhome"
    assert not visitor.acme.callbacks
    shown = await visitor.api.get(f"/account/sign-in?done={outcome}&next=%2Fhome")
    assert "The other website" in shown.text
    assert "nser Text" not in shown.text


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderUnavailable(), "provider-unavailable"),
        (ProviderRefused(), "provider-refused"),
        (ProviderAnswerRefused("nonce"), "provider-answer-refused"),
    ],
)
async def test_a_refused_answer_leads_to_our_page(
    visitor: Visitor, error: Exception, outcome: str
) -> None:
    answer = await visitor.come_back(await visitor.start(), error)
    assert answer.headers["location"] == f"{SIGN_IN}?done={outcome}"
    assert "nonce" not in str(answer.headers)
    assert (await visitor.api.get("/me")).status_code == 401


async def test_an_outage_leaves_the_callback_usable(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": "/home"})
    await visitor.come_back(state, ProviderUnavailable())
    assert (await visitor.come_back(state, person())).headers["location"] == "/home"


async def test_a_refusal_ends_the_flow(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": "/home"})
    await visitor.come_back(state, ProviderAnswerRefused("nonce"))
    answer = await visitor.come_back(state, person())
    assert answer.headers["location"] == f"{SIGN_IN}?done=login-flow-invalid"


async def test_an_answer_without_a_code_is_refused(visitor: Visitor) -> None:
    answer = await visitor.come_back(await visitor.start(), code="")
    assert answer.headers["location"] == f"{SIGN_IN}?done=provider-refused"


async def test_the_issuer_and_the_code_are_passed_on(visitor: Visitor) -> None:
    state = await visitor.start()
    await visitor.come_back(state, person(), iss="https://id.acme.example")
    assert visitor.acme.callbacks[0][0].issuer == "https://id.acme.example"


async def test_a_frame_is_refused(visitor: Visitor) -> None:
    state = await visitor.start()
    for dest in ("iframe", "empty", "image", "script"):
        answer = await visitor.api.get(
            "/login/with/acme/callback",
            params={"state": state, "code": "a"},
            headers={"sec-fetch-dest": dest},
        )
        assert problem_of(answer) == (403, "wrong_destination")
    assert not visitor.acme.callbacks


async def test_an_error_leads_to_the_page_of_another_origin(sqlite_url: str) -> None:
    target = "https://app.example/in?x=1#old"
    settings = settings_with_providers(sqlite_url, return_origins=["https://app.example"])
    async with visiting(settings) as visitor:
        state = await visitor.start(**{"continue": target})
        answer = await visitor.come_back(state, code="", error="access_denied")
        assert answer.headers["location"] == "https://app.example/in?x=1#error=provider_refused"


async def test_without_pages_errors_are_for_the_application(sqlite_url: str) -> None:
    settings = settings_with_providers(sqlite_url, pages="none", registration="open")
    async with visiting(settings) as visitor:
        state = await visitor.start(**{"continue": "/in"})
        answer = await visitor.come_back(state, ProviderRefused())
        assert answer.headers["location"] == "/in#error=provider_refused"
        answer = await visitor.come_back(await visitor.start(), ProviderRefused())
        assert problem_of(answer) == (403, "provider_refused")
        answer = await visitor.come_back("a" * 43)
        assert problem_of(answer) == (400, "login_flow_invalid")
        assert (await visitor.log_in(person())).headers["location"] == "../../../"


async def test_an_answer_by_post_is_handed_on(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": "/home"})
    cookies = dict(visitor.api.cookies)
    visitor.api.cookies.clear()  # a browser sends none with a form of a foreign page
    user = '{"name":{"firstName":"Ada"}}'
    form = {"state": state, "code": "a-code", "user": user, "id_token": "x.y.z", "other": "x"}
    headers = {"origin": "https://id.acme.example", "sec-fetch-site": "cross-site"}
    handed = await visitor.api.post("/login/with/acme/callback", data=form, headers=headers)
    assert handed.status_code == 303
    assert handed.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in handed.headers
    location = handed.headers["location"]
    assert location.startswith(f"callback?code=a-code&state={state}&user=")
    assert "Ada" not in location
    assert "x.y.z" not in location
    visitor.api.cookies.update(cookies)
    visitor.acme.codes["a-code"] = person()
    answer = await visitor.api.get(f"/login/with/acme/{location}", headers=NAVIGATION)
    assert answer.headers["location"] == "/home"
    assert visitor.acme.callbacks[0][0].user == user


async def test_a_name_that_we_have_not_sealed_does_not_count(visitor: Visitor) -> None:
    state = await visitor.start()
    await visitor.come_back(state, person(), user='{"name":"Eve"}')
    assert visitor.acme.callbacks[0][0].user is None


async def test_an_answer_by_post_that_is_too_long_is_refused(visitor: Visitor) -> None:
    form = {"state": "a" * 43, "code": "a" * 4001}
    answer = await visitor.api.post("/login/with/acme/callback", data=form)
    assert problem_of(answer) == (400, "login_flow_invalid")
    form = {"state": "a" * 43, "code": "a", "user": "a" * 1001}
    answer = await visitor.api.post("/login/with/acme/callback", data=form)
    assert "user=" not in answer.headers["location"]


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\ud55c", "\U0001f600"])
@pytest.mark.parametrize("length", [500, 501, 666, 667, 1000, 1001])
async def test_a_long_name_does_not_cost_the_login(
    visitor: Visitor, letter: str, length: int
) -> None:
    user = letter * length
    state = await visitor.start(**{"continue": "/home"})
    form = {"state": state, "code": "a-code", "user": user}
    handed = await visitor.api.post("/login/with/acme/callback", data=form)
    visitor.acme.codes["a-code"] = person()
    answer = await visitor.api.get(
        f"/login/with/acme/{handed.headers['location']}", headers=NAVIGATION
    )
    assert answer.headers["location"] == "/home"
    kept = user if length <= 1000 and len(user.encode()) <= 2000 else None
    assert visitor.acme.callbacks[0][0].user == kept


async def test_a_second_factor_is_asked_for(visitor_on_each: Visitor) -> None:
    visitor = visitor_on_each
    await visitor.log_in(person())
    factors = await add_second_factors(visitor.api.services, await visitor.account())
    visitor.api.cookies.clear()
    answer = await visitor.log_in(person(), **{"continue": "/home"})
    assert answer.headers["location"] == "../../../account/sign-in/second?next=%2Fhome"
    assert (await visitor.api.get("/me")).status_code == 401
    sent = await visitor.api.post(
        "/account/sign-in/second", data={"code": factors.code(), "next": "/home"}
    )
    assert sent.status_code == 303
    assert (await visitor.api.get("/me/identity")).json()["amr"][0] == "fed"


async def test_an_address_of_another_account_asks_for_a_login(visitor: Visitor) -> None:
    await visitor.api.create_user("person1@example.com")
    answer = await visitor.log_in(person())
    assert answer.headers["location"] == (
        f"{SIGN_IN}?done=link-required&next=%2Faccount%2Fsecurity"
    )
    assert (await visitor.api.get("/me")).status_code == 401
    shown = await visitor.api.get("/account/sign-in?done=link-required")
    assert "There is an account with the e-mail address of that account." in shown.text


async def test_the_code_is_in_no_log_and_no_trace(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    state = await visitor.start()
    caplog.set_level("DEBUG", logger="authapi")
    await visitor.come_back(state, ProviderAnswerRefused("nonce"), code="the-secret-code")
    # The log of the client of the test has the address.
    logged = [vars(record) for record in caplog.records if record.name != "httpx"]
    assert logged
    assert "the-secret-code" not in str(logged)
    assert state not in str(logged)


async def test_visits_are_limited_by_network(sqlite_url: str) -> None:
    settings = settings_with_providers(sqlite_url, limit_network="3/minute")
    async with visiting(settings) as visitor:
        for _ in range(3):
            await visitor.start()
        answer = await visitor.api.post("/login/with/acme", json={})
        assert problem_of(answer) == (429, "too_many_attempts")
        assert int(answer.headers["retry-after"]) > 0
        login = {"email": "alice@example.com", "password": PASSWORD}
        assert (await visitor.api.post("/login", json=login)).status_code == 401


async def test_an_answer_that_fails_a_check_is_an_event(visitor: Visitor) -> None:
    await visitor.come_back(await visitor.start(), ProviderAnswerRefused("id_token nonce"))
    wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
    [event] = await visitor.api.services.audit.search(wanted)
    # The check is in the log only.
    assert event.detail == {"provider": "acme", "reason": "provider_answer_refused"}
    assert (event.outcome, event.strategy, event.user_id) == ("refused", "session", None)


@pytest.mark.parametrize(
    ("said", "outcome", "status"),
    [
        ("access_denied", "provider-refused", 403),
        ("temporarily_unavailable", "provider-unavailable", 503),
    ],
)
async def test_an_error_without_a_state_ends_no_login(
    visitor: Visitor, said: str, outcome: str, status: int
) -> None:
    """Some providers send none. It is told, and proves nothing, so the login goes on."""
    state = await visitor.start(**{"continue": "/home"})
    answer = await visitor.come_back("", code="", error=said, error_description="Ünser Text")
    assert answer.headers["location"] == f"{SIGN_IN}?done={outcome}"
    assert "set-cookie" not in answer.headers
    script = await visitor.api.get(
        "/login/with/acme/callback",
        params={"error": said},
        headers={"accept": "application/json"},
    )
    assert problem_of(script) == (status, outcome.replace("-", "_"))
    assert ("retry-after" in script.headers) is (status == 503)
    assert not visitor.acme.callbacks
    assert (await visitor.come_back(state, person())).headers["location"] == "/home"


async def test_an_error_without_a_state_is_of_a_login_that_was_begun_here(
    visitor: Visitor,
) -> None:
    refused = {"location": f"{SIGN_IN}?done=login-flow-invalid"}
    for begun, state in (("", ""), ("other", ""), ("acme", "a" * 43)):
        if begun:
            await visitor.start(begun)
        answer = await visitor.come_back(state, code="", error="access_denied")
        assert answer.headers["location"] == refused["location"]
    # Neither does a code without a state.
    answer = await visitor.come_back("", person())
    assert answer.headers["location"] == refused["location"]


async def test_head_has_no_effect(visitor: Visitor) -> None:
    state = await visitor.start(**{"continue": "/home"})
    visitor.acme.codes["a-code"] = person()
    query = {"state": state, "code": "a-code"}
    for path in ("/login/with/acme/callback", "/login/with/acme", "/login/with/exchange"):
        answer = await visitor.api.head(path, params=query, headers=NAVIGATION)
        assert (answer.status_code, answer.content) == (405, b"")
        assert "HEAD" not in answer.headers["allow"]
        assert "GET" in answer.headers["allow"]
        assert "set-cookie" not in answer.headers
    assert len(visitor.acme.started) == 1
    assert not visitor.acme.callbacks
    listed = await visitor.api.head("/login/with")
    assert (listed.status_code, listed.content) == (200, b"")
    answer = await visitor.come_back(state, person())
    assert answer.headers["location"] == "/home"


async def test_the_event_of_a_refusal_names_the_account(visitor: Visitor) -> None:
    owner = await visitor.api.create_user("person1@example.com")
    wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
    await visitor.log_in(person())
    [event] = await visitor.api.services.audit.search(wanted)
    assert (event.user_id, event.detail["reason"]) == (owner.id, "link_required")
    linked = person("2", email="else@example.com")
    await visitor.log_in(linked)
    account = await visitor.account()
    async with visitor.api.services.database.transaction() as store:
        await store.users.lock(account.id)
        await store.users.set_active(account.id, False, at=now())
    await visitor.log_in(linked)
    [event, _] = await visitor.api.services.audit.search(wanted)
    assert (event.user_id, event.detail["reason"]) == (account.id, "invalid_credentials")


async def test_the_event_of_a_refused_link_names_the_account(visitor: Visitor) -> None:
    await visitor.log_in(person())
    owner = await visitor.api.create_user("owner@example.com")
    await visitor.api.login(owner)
    begun = await visitor.api.post("/me/identities/acme", json={})
    await visitor.come_back(state_of(begun.json()["url"]), person())
    wanted = EventFilter(type=EventType.FEDERATED_LOGIN_REFUSED)
    [event] = await visitor.api.services.audit.search(wanted)
    assert (event.user_id, event.detail) == (
        owner.id,
        {"provider": "acme", "reason": "identity_taken"},
    )
