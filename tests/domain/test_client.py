"""Clients: their addresses behind proxies, the network of these, and the device of a user agent."""

import ipaddress
import re
import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.domain.client import (
    Client,
    Device,
    Network,
    canonical_ip,
    device_of,
    network_of,
    parse_forwarded_address,
    parse_ip,
    read_client,
)

PROXIES = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "192.168.7.7/32", "2001:db8:f::/48")
)


def client_of(
    peer: str | None, *forwarded: str, trusted: Sequence[Network] = PROXIES, **headers: str
) -> Client:
    raw = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    raw += [
        (name.replace("_", "-").encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    return read(peer, raw, trusted)


def read(
    peer: str | None, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network] = ()
) -> Client:
    """The client, whose address is missing exactly if the request is reported as malformed."""
    malformed: list[str] = []
    client = read_client(
        headers,
        None if peer is None else (peer, 4711),
        trusted=trusted,
        request_id="id",
        on_malformed=malformed.append,
    )
    assert client.network == network_of(client.ip)
    assert malformed == (["id"] if peer is not None and client.ip is None else [])
    return client


def ip_of(peer: str | None, *forwarded: str) -> str | None:
    return client_of(peer, *forwarded).ip


@pytest.mark.parametrize(
    ("text", "canonical", "network"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
        ("2001:DB8::1", "2001:db8::1", "2001:db8::/64"),
        ("2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1", "2001:db8::/64"),
        ("2001:DB8:0:0:1:0:0:1%eth0", "2001:db8::1:0:0:1", "2001:db8::/64"),
        ("::", "::", "::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1", "192.0.2.1"),
        ("0000:0000:0000:0000:0000:ffff:192.000.002.001", None, "unknown"),
        ("0000:0000:0000:0000:0000:ffff:192.168.100.101", "192.168.100.101", "192.168.100.101"),
        ("::ffff:0.0.0.0", "0.0.0.0", "0.0.0.0"),
        ("::ffff:192.0.2.1%1", "192.0.2.1", "192.0.2.1"),
        # These are not IPv4-mapped.
        ("::192.0.2.1", "::c000:201", "::/64"),
        ("64:ff9b::192.0.2.1", "64:ff9b::c000:201", "64:ff9b::/64"),
        ("::ffff:0:192.0.2.1", "::ffff:0:c000:201", "::/64"),
        *(
            (text, None, "unknown")
            for text in (
                *("", "x", "192.0.2.1:80", "[2001:db8::1]", "192.0.2.1%eth0", "192.0.2.1/32"),
                *("2001:db8::/32", "3221225985", "192.0.2", "192.0.2.01", " 192.0.2.1"),
                *("2001:db8::1::", "1" * 100_000, ":" * 100_000, "\uff11.2.3.4", "::\u0661"),
            )
        ),
    ],
)
def test_ip_addresses_are_canonicalized(text: str, canonical: str | None, network: str) -> None:
    assert canonical_ip(text) == canonical
    assert network_of(text) == network
    address = parse_ip(text)
    if canonical is None:
        assert address is None
    else:
        assert str(address) == canonical
        assert parse_ip(canonical) == address


WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
BLINK = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("user_agent", "program", "system"),
    [
        (f"{WINDOWS[:-1]}; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox", "Windows"),
        (f"{WINDOWS} {BLINK}", "Chrome", "Windows"),
        (f"{WINDOWS} {BLINK} Edg/140.0.0.0", "Edge", "Windows"),
        (f"{WINDOWS} {BLINK} OPR/120.0.0.0", "Opera", "Windows"),
        (f"{WINDOWS} {BLINK} Whale/4.30", "Whale", "Windows"),
        (f"{ANDROID} Chrome/140.0.0.0 Mobile Safari/537.36", "Chrome", "Android"),
        (
            f"{ANDROID} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            "Samsung Internet",
            "Android",
        ),
        (f"{IPHONE} (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1", "Safari", "iOS"),
        (f"{IPHONE} (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1", "Chrome", "iOS"),
        (f"{IPHONE} (KHTML, like Gecko) FxiOS/140.0 Mobile/15E148 Safari/605.1", "Firefox", "iOS"),
        (f"{MAC} Version/18.1 Safari/605.1.15", "Safari", "macOS"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {BLINK}", "Chrome", "ChromeOS"),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140",
            "Firefox",
            "Linux",
        ),
        ("Mozilla/5.0 (compatible; Bot/2.1)", None, None),
        ("curl/8.5.0", "curl", None),
        ("python-httpx/0.28.1", "python-httpx", None),
        ("MyApp/3.2 (com.example.app; build:7; iPhone; iOS 18.1)", "MyApp", "iOS"),
        ("MyApp2-3.2.1", "MyApp2", None),
        ("okhttp/4.12.0", "okhttp", None),
        ("k6_Load-test/1", "k6_Load-test", None),
        (None, None, None),
        ("", None, None),
        ("1.0", None, None),
        (" curl/8", None, None),
    ],
)
def test_device_has_a_program_and_a_system(
    user_agent: str | None, program: str | None, system: str | None
) -> None:
    assert device_of(user_agent) == Device(program, system)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"{WINDOWS} {BLINK}", f"{WINDOWS} {BLINK}".replace("140", "141")),
        (f"{IPHONE} Version/18.1 Safari/604.1", f"{IPHONE} Version/19 Safari/605"),
        ("curl/8.5.0", "curl/9.0"),
        ("MyApp-1.2", "MyApp-1.3-beta"),
    ],
)
def test_update_of_a_program_is_no_other_device(before: str, after: str) -> None:
    assert before != after
    assert device_of(before) == device_of(after)


@pytest.mark.parametrize(
    "user_agent",
    [
        "A" * 10_000,
        "A-" * 5_000,
        "-_" * 5_000,
        "evil.example/1",
        "https://evil.example/",
        "Win-a-prize@evil.example",
        "<script>alert(1)</script>",
        "x<b>/1",
        "{{ 7 * 7 }}",
        "a\r\nBcc: victim@example.com",
        "\x00\x1b[31m",
        "\u202eevil",
        "ｆｕｌｌｗｉｄｔｈ/1",
        "Mozilla/5.0 <img src=x> (Windows; evil.example) Firefox/<b>",
    ],
)
def test_device_contains_no_text_of_an_attacker_but_a_short_name(user_agent: str) -> None:
    device = device_of(user_agent)
    for name in (device.program, device.system):
        assert name is None or re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,31}", name)


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


def test_without_trusted_proxies_the_client_is_the_peer() -> None:
    for peer in ("127.0.0.1", "10.0.0.1", "::1"):
        assert client_of(peer, "203.0.113.9", trusted=()).ip == peer


@pytest.mark.parametrize("name", ["x_real_ip", "forwarded", "true_client_ip", "x_client_ip"])
def test_other_forwarding_headers_are_ignored(name: str) -> None:
    headers = {name: "for=203.0.113.9" if name == "forwarded" else "203.0.113.9"}
    assert client_of("10.0.0.1", trusted=PROXIES, **headers).ip == "10.0.0.1"


def test_user_agent_is_truncated_and_printable() -> None:
    agent = client_of("10.0.0.1", user_agent="\x1b[31mred\r\n" + "x" * 999, trusted=())
    assert agent.user_agent is not None
    assert agent.user_agent.isprintable()
    assert agent.user_agent.startswith("?[31mred??")
    assert len(agent.user_agent) == 255
    assert client_of("10.0.0.1", trusted=()).user_agent is None
    twice = [(b"user-agent", b"a"), (b"user-agent", b"b")]
    assert read(None, twice).user_agent == "a, b"
