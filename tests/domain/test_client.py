"""IP addresses: parsing, the canonical form, and the network for rate limits."""

import pytest

from authapi.domain.client import canonical_ip, network_of, parse_ip


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
