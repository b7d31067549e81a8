"""The address and scheme of the client, behind proxies and with forged headers."""

import ipaddress
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Scope

from authapi.domain.client import Client, canonical_ip
from authapi.testing import PASSWORD
from authapi.web.middleware.client import (
    Network,
    _MalformedAddressWarning,
    arrived_over_http,
    parse_forwarded_address,
    read_client,
)
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


def client_of(scope: Scope, trusted: Sequence[Network]) -> Client:
    return read_client(scope["headers"], scope["client"], trusted=trusted, request_id="id")


def ip_of(peer: str | None, *forwarded: str) -> str | None:
    return client_of(scope(peer, *forwarded), PROXIES).ip


@pytest.mark.parametrize(
    ("peer", "forwarded", "ip"),
    [
        # No trusted proxies.
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("2001:db8:e::1", ["203.0.113.9"], "2001:db8:e::1"),
        (None, ["203.0.113.9"], None),
        ("/run/socket", ["203.0.113.9"], None),
        ("testclient", [], None),
        ("", [], None),
        # Without the header, a trusted proxy is the client.
        ("10.0.0.1", [], "10.0.0.1"),
        # From right to left, the first untrusted address.
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
        ("10.0.0.1", ["203.0.113.9", "", "10.0.0.2", ""], "203.0.113.9"),
        # A malformed entry gives no address, and not the address of the proxy.
        ("10.0.0.1", ["<script>alert(1)</script>"], None),
        ("10.0.0.1", ["203.0.113.9, garbage"], None),
        ("10.0.0.1", ["203.0.113.9, garbage, 10.0.0.2"], None),
        ("10.0.0.1", ["unknown"], None),
        ("10.0.0.1", ["unknown, 10.0.0.2"], None),
        ("10.0.0.1", ["unknown, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9\x00"], None),
        ("10.0.0.1", ["203.0.113.9 10.0.0.2"], None),
        ("10.0.0.1", ["203.0.113.9;10.0.0.2"], None),
        ("10.0.0.1", ["3405803785"], None),
        ("10.0.0.1", ["203.0.113.9/32"], None),
        ("10.0.0.1", ["0203.0.113.9"], None),
        ("10.0.0.1", ["203.0.113"], None),
        ("10.0.0.1", ["client.example"], None),
        ("10.0.0.1", ["\u00b2.0.0.1"], None),
        ("10.0.0.1", [""], None),
        ("10.0.0.1", [" , ,\t"], None),
        # Empty entries are ignored (RFC 9110, section 5.6.1).
        ("10.0.0.1", ["203.0.113.9,"], "203.0.113.9"),
        ("10.0.0.1", [",203.0.113.9, ,10.0.0.2,,"], "203.0.113.9"),
        # Some proxies write the port, and IPv6 in brackets.
        ("10.0.0.1", ["203.0.113.9:51812"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9:0"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, 10.0.0.2:8080"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.66, 203.0.113.9:1, 10.0.0.2:2, 10.0.0.3:3"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:443"], "2001:db8::1"),
        ("10.0.0.1", ["[2001:DB8:0::1]"], "2001:db8::1"),
        ("10.0.0.1", ["[fe80::1%eth0]:443"], "fe80::1"),
        ("10.0.0.1", ["[::ffff:203.0.113.9]:443"], "203.0.113.9"),
        ("10.0.0.1", ["203.0.113.9, [2001:db8:f::2]:80"], "203.0.113.9"),
        ("10.0.0.1", ['"203.0.113.9"'], "203.0.113.9"),
        ("10.0.0.1", ['"203.0.113.9:80"'], "203.0.113.9"),
        ("10.0.0.1", ['"[2001:db8::1]:443"'], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1:443"], "2001:db8::1:443"),
        ("10.0.0.1", ["203.0.113.9:"], None),
        ("10.0.0.1", ["203.0.113.9:65536"], None),
        ("10.0.0.1", ["203.0.113.9:http"], None),
        ("10.0.0.1", ["203.0.113.9:80:80"], None),
        ("10.0.0.1", ["203.0.113.9:\u00b2"], None),
        ("10.0.0.1", [":80"], None),
        ("10.0.0.1", ["[203.0.113.9]"], None),
        ("10.0.0.1", ["[203.0.113.9]:80"], None),
        ("10.0.0.1", ["[2001:db8::1"], None),
        ("10.0.0.1", ["2001:db8::1]"], None),
        ("10.0.0.1", ["[2001:db8::1]443"], None),
        ("10.0.0.1", ["[2001:db8::1]:"], None),
        ("10.0.0.1", ["[]"], None),
        ("10.0.0.1", ['"203.0.113.9'], None),
        ("10.0.0.1", ['"'], None),
        ("10.0.0.1", ['""'], None),
        # A quote that the client opens does not include the entry of the proxy.
        ("10.0.0.1", ['"198.51.100.66, 203.0.113.9'], "203.0.113.9"),
        # IPv6, in one spelling, without the zone, which may be any text.
        ("2001:db8:f::1", ["2001:DB8:0E::0009"], "2001:db8:e::9"),
        ("2001:db8:f::1", ["203.0.113.9, 2001:db8:f:1::2"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:e::9]"], "2001:db8:e::9"),
        ("10.0.0.1", ["fe80::1%<script>alert(1)</script>"], "fe80::1"),
        ("10.0.0.1", ["fe80::1%" + "a" * 300], "fe80::1"),
        ("fe80::1%eth0", [], "fe80::1"),
        # A socket for both families shows IPv4 peers mapped.
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("::FFFF:192.0.2.1", [], "192.0.2.1"),
        ("::ffff:c000:201", [], "192.0.2.1"),
        ("0:0:0:0:0:ffff:192.0.2.1", [], "192.0.2.1"),
        ("::ffff:192.0.2.1%3", [], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9, ::ffff:10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        # uvicorn's ProxyHeadersMiddleware may have replaced the peer with any text.
        ("2001:DB8:0:0::1", [], "2001:db8::1"),
        ("192.0.2.1:51812", [], "192.0.2.1"),
        ("[2001:db8::1]:443", [], "2001:db8::1"),
        ("10.0.0.1:443", ["203.0.113.9"], "203.0.113.9"),
        ("unknown", ["203.0.113.9"], None),
    ],
)
def test_client_is_the_rightmost_untrusted_address(
    peer: str | None, forwarded: list[str], ip: str | None
) -> None:
    assert ip_of(peer, *forwarded) == ip


@given(st.text() | st.from_regex(r'"?\[?[0-9a-fA-F:.%]{0,50}\]?(:[0-9]{0,6})?"?', fullmatch=True))
def test_any_entry_is_one_canonical_address_or_none(text: str) -> None:
    found = parse_forwarded_address(text)
    if found is not None:
        spelled = str(found)
        assert parse_forwarded_address(spelled) == found == ipaddress.ip_address(spelled)
        assert spelled == canonical_ip(spelled) == spelled.lower()
        assert not spelled.startswith("::ffff:")
    shown = text.replace(",", "").encode("latin-1", "replace").decode("latin-1")
    assert ip_of("10.0.0.1", f"198.51.100.66,{shown}") != "10.0.0.1"


@given(st.ip_addresses(), st.integers(0, 65535), st.sampled_from(["%eth0", ""]))
def test_address_is_parsed_in_every_form(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, zone: str
) -> None:
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    expected = str(mapped or address)
    if isinstance(address, ipaddress.IPv4Address):
        forms = [str(address), f"{address}:{port}", f"::ffff:{address}", f"[::ffff:{address}]:1"]
    else:
        spellings = (str(address), address.exploded, str(address).upper())
        forms = [f"{text}{zone}" for text in spellings]
        forms += [f"[{text}]{end}" for text in forms for end in ("", f":{port}")]
    for form in (*forms, *(f'"{form}"' for form in forms)):
        assert str(parse_forwarded_address(form)) == expected, form


@pytest.mark.parametrize("text", ["[" + ":" * 30000, ":" * 30000, "1" * 30000, '"' + "." * 30000])
def test_long_entry_is_parsed_in_linear_time(text: str) -> None:
    began = time.process_time()
    assert parse_forwarded_address(text) is None
    assert time.process_time() - began < 0.5


def test_malformed_address_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = 1000.0
    monkeypatch.setattr(
        "authapi.web.middleware.client._malformed_address", _MalformedAddressWarning()
    )
    monkeypatch.setattr("authapi.web.middleware.client.time.monotonic", lambda: at)
    for peer, forwarded in ((None, "x"), ("192.0.2.1", "x"), ("10.0.0.1", "192.0.2.1")):
        ip_of(peer, forwarded)
    assert caplog.records == []
    for _ in range(3):
        assert ip_of("10.0.0.1", "secret text") is None
        assert ip_of("/run/secret text") is None
    at += 59.9
    ip_of("10.0.0.1", "")
    assert len(caplog.records) == 1
    at += 0.2
    ip_of("10.0.0.1", "secret text")
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "X-Forwarded-For" in caplog.text
    assert "secret" not in caplog.text


def test_without_trusted_proxies_the_client_is_the_peer() -> None:
    for peer in ("127.0.0.1", "10.0.0.1", "::1"):
        assert client_of(scope(peer, "203.0.113.9"), ()).ip == peer


@pytest.mark.parametrize("name", ["x_real_ip", "forwarded", "true_client_ip", "x_client_ip"])
def test_other_forwarding_headers_are_ignored(name: str) -> None:
    headers = {name: "for=203.0.113.9" if name == "forwarded" else "203.0.113.9"}
    assert client_of(scope("10.0.0.1", **headers), PROXIES).ip == "10.0.0.1"


def test_user_agent_is_truncated_and_printable() -> None:
    agent = client_of(scope("10.0.0.1", user_agent="\x1b[31mred\r\n" + "x" * 999), ())
    assert agent.user_agent is not None
    assert agent.user_agent.isprintable()
    assert agent.user_agent.startswith("?[31mred??")
    assert len(agent.user_agent) == 255
    assert client_of(scope("10.0.0.1"), ()).user_agent is None
    twice: Scope = {"client": None, "headers": [(b"user-agent", b"a"), (b"user-agent", b"b")]}
    assert client_of(twice, ()).user_agent == "a, b"


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
        ("10.0.0.1", ["http, https"], False),
        ("10.0.0.1", ["http,HTTPS ,"], False),
        ("10.0.0.1", ["https,http"], True),
        ("10.0.0.1", ["https, http, , "], True),
        ("10.0.0.1", [" , "], True),
        ("10.0.0.1", ["https", ""], False),
        ("10.0.0.1", ["https://"], True),
        ("10.0.0.1", ['"https"'], True),
        ("10.0.0.1", ["\u00e9"], True),
        ("10.0.0.1", ["wss,"], False),
        ("::ffff:10.0.0.1", ["http"], True),
        ("10.0.0.1:443", ["http"], True),
        ("unknown", ["http"], False),
        ("192.0.2.1", ["http"], False),
        (None, ["http"], False),
    ],
)
def test_only_a_trusted_proxy_reports_the_scheme(
    peer: str | None, protocols: list[str], clear: bool
) -> None:
    headers = [(b"x-forwarded-proto", protocol.encode("latin-1")) for protocol in protocols]
    found: Scope = {"client": None if peer is None else (peer, 1), "headers": headers}
    assert arrived_over_http(found, PROXIES) is clear
    assert arrived_over_http(found, ()) is False


@pytest.mark.parametrize(
    ("forwarded", "protocols", "clear"),
    [
        # One proxy: it has written the last entry.
        ("203.0.113.9", "https, http", True),
        ("203.0.113.9", "http, https", False),
        ("10.0.0.9, 203.0.113.9", "https, http", True),
        # Two proxies: TLS ends at the first.
        ("203.0.113.9, 10.0.0.2", "https, http", False),
        ("203.0.113.9, 10.0.0.2:8080", "https, http", False),
        ("203.0.113.9,, 10.0.0.2 ,", "https, http,", False),
        ("203.0.113.9, 10.0.0.2", "http, https", True),
        ("203.0.113.9, 10.0.0.2", "https", False),
        ("203.0.113.9, 10.0.0.2", "http", True),
        # The client sent the header too: its entry is never used.
        ("203.0.113.9, 10.0.0.2", "https, http, http", True),
        ("203.0.113.9, 10.0.0.2", "https, http, https", True),
        ("203.0.113.9, 10.0.0.2", "http, https, http", False),
        ("10.0.0.9, 203.0.113.9, 10.0.0.2", "https, http, http", True),
        ("garbage, 10.0.0.2", "https, http, http", True),
        # Three proxies, of which one writes nothing: the left-most entry.
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "https, http", False),
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "wss, ws, ws", False),
        ("203.0.113.9, 10.0.0.3, 10.0.0.2", "http, https, https", True),
    ],
)
def test_scheme_entry_has_the_position_of_the_client(
    forwarded: str, protocols: str, clear: bool
) -> None:
    found = scope("10.0.0.1", forwarded, x_forwarded_proto=protocols)
    assert arrived_over_http(found, PROXIES) is clear
    several = scope("10.0.0.1", *forwarded.split(","))
    several["headers"] += [(b"x-forwarded-proto", part.encode()) for part in protocols.split(",")]
    assert arrived_over_http(several, PROXIES) is clear


@pytest.mark.parametrize(
    ("forwarded", "ip"),
    [
        ("198.51.100.66, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51812", "203.0.113.9"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("<script>alert(1)</script>", None),
        ("203.0.113.9, <script>", None),
        ("fe80::1%<script>", "fe80::1"),
        ("x" * 2000, None),
    ],
)
async def test_row_50_only_an_address_is_stored_with_a_session(
    make_settings: SettingsFactory, forwarded: str, ip: str | None
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
