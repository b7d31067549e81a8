"""Clients: IP addresses, their canonical form and network, and the device of a user agent."""

import re

import pytest

from authapi.domain.client import Device, canonical_ip, device_of, network_of, parse_ip


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
