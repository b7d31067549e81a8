"""Who is at the other end, in the presence of proxies and of those who pretend to be one."""

import ipaddress

import pytest
from starlette.types import Scope

from authapi.testing import PASSWORD
from authapi.web.edge.client import came_in_the_clear, client_of
from tests.conftest import SettingsFactory
from tests.security.peers import serving

PROXIES = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "192.168.7.7/32", "2001:db8:f::/48")
)


def scope(peer: str | None, *forwarded: str, **headers: str) -> Scope:
    raw = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    raw += [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return {"client": None if peer is None else (peer, 4711), "headers": raw}


def ip_of(peer: str | None, *forwarded: str) -> str | None:
    return client_of(scope(peer, *forwarded), PROXIES, "id").ip


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        # Nobody to be believed.
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("2001:db8:e::1", ["203.0.113.9"], "2001:db8:e::1"),
        (None, ["203.0.113.9"], None),
        ("/run/socket", ["203.0.113.9"], "/run/socket"),
        # A proxy that says nothing is the client as far as we know.
        ("10.0.0.1", [], "10.0.0.1"),
        # From right to left: the first who is no proxy of ours.
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.66, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.66, 203.0.113.9, 10.9.9.9, 192.168.7.7"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.5, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 192.168.7.8"], "192.168.7.8"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", [" 203.0.113.9\t,10.0.0.2 "], "203.0.113.9"),
        # Several headers are one list (RFC 9110, section 5.3).
        ("10.0.0.1", ["198.51.100.66", "203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9", "10.0.0.2", "10.0.0.3"], "203.0.113.9"),
        # What is no address ends the walk at who brought it.
        ("10.0.0.1", ["<script>alert(1)</script>"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.9,"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2:8080"], "10.0.0.1"),
        ("10.0.0.1", ["unknown, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9\x00"], "10.0.0.1"),
        ("10.0.0.1", ["3405803785"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        # IPv6, in one spelling, without the zone, which may be any text.
        ("2001:db8:f::1", ["2001:DB8:0E::0009"], "2001:db8:e::9"),
        ("2001:db8:f::1", ["203.0.113.9, 2001:db8:f:1::2"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:e::9]"], "10.0.0.1"),
        ("10.0.0.1", ["fe80::1%<script>alert(1)</script>"], "fe80::1"),
        ("10.0.0.1", ["fe80::1%" + "a" * 300], "fe80::1"),
        ("fe80::1%eth0", [], "fe80::1"),
        # A socket for both families shows IPv4 peers mapped.
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.1", ["203.0.113.9"], "::ffff:192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
    ],
)
def test_the_client_is_the_nearest_that_is_no_proxy_of_ours(
    peer: str | None, forwarded: list[str], ip: str | None
) -> None:
    assert ip_of(peer, *forwarded) == ip


def test_without_trusted_proxies_only_the_peer_counts() -> None:
    for peer in ("127.0.0.1", "10.0.0.1", "::1"):
        assert client_of(scope(peer, "203.0.113.9"), (), "id").ip == peer


@pytest.mark.parametrize("name", ["x_real_ip", "forwarded", "true_client_ip", "x_client_ip"])
def test_other_headers_are_never_believed(name: str) -> None:
    headers = {name: "for=203.0.113.9" if name == "forwarded" else "203.0.113.9"}
    assert client_of(scope("10.0.0.1", **headers), PROXIES, "id").ip == "10.0.0.1"


def test_the_user_agent_is_short_and_printable() -> None:
    agent = client_of(scope("10.0.0.1", user_agent="\x1b[31mred\r\n" + "x" * 999), (), "id")
    assert agent.user_agent is not None
    assert agent.user_agent.isprintable()
    assert agent.user_agent.startswith("?[31mred??")
    assert len(agent.user_agent) == 255
    assert client_of(scope("10.0.0.1"), (), "id").user_agent is None


@pytest.mark.parametrize(
    ("peer", "protocols", "clear"),
    [
        ("10.0.0.1", ["http"], True),
        ("10.0.0.1", ["HTTP"], True),
        ("10.0.0.1", ["ws"], True),
        ("10.0.0.1", [""], True),
        ("10.0.0.1", ["https", "http"], True),
        ("10.0.0.1", ["https"], False),
        ("10.0.0.1", [" HTTPS "], False),
        ("10.0.0.1", ["wss"], False),
        ("10.0.0.1", ["http", "https"], False),
        ("10.0.0.1", [], False),
        ("192.0.2.1", ["http"], False),
        (None, ["http"], False),
    ],
)
def test_only_a_proxy_of_ours_tells_how_the_client_came(
    peer: str | None, protocols: list[str], clear: bool
) -> None:
    headers = [(b"x-forwarded-proto", protocol.encode()) for protocol in protocols]
    found: Scope = {"client": None if peer is None else (peer, 1), "headers": headers}
    assert came_in_the_clear(found, PROXIES) is clear
    assert came_in_the_clear(found, ()) is False


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("198.51.100.66, 203.0.113.9", "203.0.113.9"),
        ("<script>alert(1)</script>", "10.0.0.1"),
        ("203.0.113.9, <script>", "10.0.0.1"),
        ("fe80::1%<script>", "fe80::1"),
        ("x" * 2000, "10.0.0.1"),
    ],
)
async def test_row_50_only_an_address_is_kept_with_a_session(
    make_settings: SettingsFactory, forwarded: str, ip: str
) -> None:
    async with serving(make_settings(trusted_proxies="10.0.0.0/8")) as service:
        alice = await service.api.create_user()
        proxy = service.at("10.0.0.1", headers={"x-forwarded-for": forwarded})
        body = {"email": alice.email, "password": PASSWORD}
        assert (await proxy.post("/login", json=body)).status_code == 200
        sessions = (await proxy.get("/me/sessions")).json()
        assert [session["ip"] for session in sessions] == [ip]
        events = (await proxy.get("/me/events")).json()["items"]
        assert {event["ip"] for event in events if event["type"] == "login"} == {ip}
