"""The sealed cookies of logins at providers."""

from datetime import timedelta

import pytest
from starlette.requests import Request

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.federation.flow import FlowIntent
from authapi.errors import InvalidInput, LoginFlowInvalid
from authapi.testing import Client
from authapi.web.context import RequestContext
from authapi.web.federation.flows import (
    LIFETIME,
    MAX_BYTES,
    MAX_COOKIE,
    MAX_HEADER,
    FlowStart,
    discard_flow,
    has_flow,
    keep_flow,
    kept_flow,
    new_flow,
    open_user,
    seal_user,
)
from tests.clocks import travel_to


def request(api: Client, cookie: str = "") -> Request:
    """A request of this application with a header of cookies."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"cookie", cookie.encode())] if cookie else [],
        "authapi": RequestContext(api._runtime, "id"),
    }
    return Request(scope)


def cookie_of(headers: tuple[tuple[str, str], ...]) -> str:
    """Returns the cookie that the first header sets, as a request sends it."""
    return headers[0][1].partition(";")[0]


START = FlowStart("acme", "session", FlowIntent.LINK, remember=True, continue_to="/home?x=ä")


async def test_a_flow_is_kept_as_it_is(api: Client) -> None:
    user = await api.create_user()
    for start in (
        START,
        FlowStart("acme", "jwt", user_id=user.id, session_id=user.id, credentials_version=7),
    ):
        flow = new_flow(start)
        found = kept_flow(request(api, cookie_of(keep_flow(request(api), flow))), flow.state)
        assert found == flow


async def test_no_part_of_a_flow_can_be_read_or_changed(api: Client) -> None:
    flow = new_flow(START)
    cookie = cookie_of(keep_flow(request(api), flow))
    for secret in (flow.nonce, flow.verifier, flow.state, "home", "acme"):
        assert secret not in cookie
    name, _, value = cookie.partition("=")
    for position in range(0, len(value), 7):
        other = "A" if value[position] != "A" else "B"
        changed = f"{name}={value[:position]}{other}{value[position + 1 :]}"
        with pytest.raises(LoginFlowInvalid):
            kept_flow(request(api, changed), flow.state)


async def test_the_name_belongs_to_the_flow(api: Client) -> None:
    flow, other = new_flow(START), new_flow(START)
    value = cookie_of(keep_flow(request(api), flow)).partition("=")[2]
    planted = f"authapi-flow-{other.state[:8]}={value}"
    with pytest.raises(LoginFlowInvalid):
        kept_flow(request(api, planted), other.state)


async def test_two_cookies_of_one_name_are_refused(api: Client) -> None:
    flow = new_flow(START)
    cookie = cookie_of(keep_flow(request(api), flow))
    with pytest.raises(LoginFlowInvalid):
        kept_flow(request(api, f"{cookie}; {cookie}"), flow.state)


async def test_a_flow_of_another_service_is_refused(api: Client, make_settings: object) -> None:
    flow = new_flow(START)
    sealed = api.services.keys.cipher_for("another use").encrypt(b"[]", context="x")
    cookie = f"authapi-flow-{flow.state[:8]}={sealed.hex()}"
    with pytest.raises(LoginFlowInvalid):
        kept_flow(request(api, cookie), flow.state)


async def test_a_flow_is_over_after_its_lifetime(api: Client) -> None:
    at = now()
    with travel_to(at):
        flow = new_flow(START)
        cookie = cookie_of(keep_flow(request(api), flow))
    with travel_to(at + LIFETIME - timedelta(seconds=1)):
        assert kept_flow(request(api, cookie), flow.state) == flow
    with travel_to(at + LIFETIME), pytest.raises(LoginFlowInvalid):
        kept_flow(request(api, cookie), flow.state)


async def test_the_oldest_goes_when_there_are_many_or_they_are_long(api: Client) -> None:
    at, cookies = now(), list[str]()
    long = FlowStart("acme", "session", continue_to="/" + "a" * 1999)
    for number in range(4):
        with travel_to(at + timedelta(seconds=number)):
            headers = keep_flow(request(api, "; ".join(cookies)), new_flow(long))
        deleted = [value.partition("=")[0] for _, value in headers[1:]]
        assert all("Max-Age=0" in value for _, value in headers[1:])
        gone = [it for it in cookies if it.partition("=")[0] in deleted]
        assert gone == cookies[: len(gone)]
        cookies = [it for it in cookies if it not in gone] + [cookie_of(headers)]
        assert len("; ".join(cookies)) <= MAX_BYTES
        assert len(cookies[-1]) <= MAX_COOKIE
    assert len(cookies) == 2  # two tabs log in at once


async def test_other_cookies_leave_less_room(api: Client) -> None:
    """A proxy that refuses a long header of cookies would refuse the callback."""
    at, long = now(), FlowStart("acme", "session", continue_to="/" + "a" * 1999)
    for length, kept in ((0, 2), (1500, 2), (3831, 1), (7000, 0)):
        others = [] if not length else ["other=" + "x" * (length - len("other="))]
        cookies = list[str]()
        for number in range(3):
            with travel_to(at + timedelta(seconds=number)):
                headers = keep_flow(request(api, "; ".join(others + cookies)), new_flow(long))
            deleted = [value.partition("=")[0] for _, value in headers[1:]]
            cookies = [it for it in cookies if it.partition("=")[0] not in deleted]
            cookies.append(cookie_of(headers))
        # The newest stays, also where it is too much.
        assert len(cookies) == max(kept, 1), length
        assert not kept or len("; ".join(others + cookies)) <= MAX_HEADER


@pytest.mark.parametrize(
    ("continue_to", "fits"), [("/" + '"' * 900, True), ("/" + '"' * 1999, False)]
)
async def test_what_a_browser_would_not_keep_is_refused(
    api: Client, continue_to: str, fits: bool
) -> None:
    flow = new_flow(FlowStart("acme", "session", continue_to=continue_to))
    if fits:
        cookie = cookie_of(keep_flow(request(api), flow))
        assert kept_flow(request(api, cookie), flow.state).continue_to == continue_to
        return
    with pytest.raises(InvalidInput) as refused:
        keep_flow(request(api), flow)
    assert refused.value.errors[0].loc == ("body", "continue")


async def test_the_longest_flow_fits_into_a_cookie(api: Client) -> None:
    user_id = new_id()
    start = FlowStart(
        "a" * 40,
        "s" * 64,
        FlowIntent.STEP_UP,
        continue_to="/" + "a" * 1999,
        user_id=user_id,
        session_id=user_id,
        credentials_version=2**31 - 1,
    )
    flow = new_flow(start)
    cookie = cookie_of(keep_flow(request(api), flow))
    assert len(f"__Host-{cookie}") <= MAX_COOKIE
    assert kept_flow(request(api, cookie), flow.state) == flow


async def test_a_browser_with_a_flow_is_known_by_it(api: Client) -> None:
    at = now()
    with travel_to(at):
        cookie = cookie_of(keep_flow(request(api), new_flow(START)))
        assert has_flow(request(api, cookie), "acme")
        assert not has_flow(request(api, cookie), "other")
        assert not has_flow(request(api), "acme")
        assert not has_flow(request(api, f"authapi-flow-{'x' * 8}=junk"), "acme")
    with travel_to(at + LIFETIME):
        assert not has_flow(request(api, cookie), "acme")


async def test_what_is_no_flow_is_deleted(api: Client) -> None:
    junk = f"authapi-flow-{'x' * 8}=junk; other=1; authapi-flow-short=1"
    headers = keep_flow(request(api, junk), new_flow(START))
    [(_, value)] = headers[1:]
    assert value.startswith(f"authapi-flow-{'x' * 8}=;")


async def test_a_discarded_flow_is_deleted(api: Client) -> None:
    flow = new_flow(START)
    [(_, value)] = discard_flow(request(api), flow)
    assert value == f"authapi-flow-{flow.state[:8]}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"


async def test_a_name_is_sealed_for_its_state(api: Client) -> None:
    here, state = request(api), "a" * 43
    sealed = seal_user(here, state, '{"name":"Ada"}')
    assert sealed is not None
    assert "Ada" not in sealed
    assert open_user(here, state, sealed) == '{"name":"Ada"}'
    assert open_user(here, "b" * 43, sealed) is None
    assert open_user(here, state, "junk") is None
    assert open_user(here, state, None) is None
    assert seal_user(here, state, "") is None
    assert seal_user(here, state, "a" * 1001) is None
    assert seal_user(here, state, "\ud55c" * 667) is None
