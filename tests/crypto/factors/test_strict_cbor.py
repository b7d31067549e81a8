"""The form of CBOR that authenticators write."""

import cbor2
import pytest

from authapi.crypto.factors import strict_cbor

# Most are examples of RFC 8949, appendix A.
PLAIN = (
    *("00", "17", "1818", "1903e8", "1a000f4240", "1b000000e8d4a51000", "1bffffffffffffffff"),
    *("20", "3903e7", "3bffffffffffffffff", "f90000", "fa47c35000", "fb7e37e43c8800759c", "f97e00"),
    *("f4", "f6", "f7", "f0", "f8ff", "40", "4401020304", "60", "6449455446", "62c3bc"),
    *("80", "83010203", "8301820203820405", "a0", "a201020304", "a26161016162820203"),
    "98190102030405060708090a0b0c0d0e0f101112131415161718181819",
    "58020102",
    "5b00000000000000020102",
)
TAGGED = (
    *("c249010000000000000000", "c074323031332d30332d32315432303a30343a30305a", "c11a514b67b0"),
    *("c16449455446", "d74401020304", "d818456449455446", "81c100", "a1c10000", "a100c100"),
    "db00000000000000236161",
    "d823616161",
)
INDEFINITE = (
    *("5f42010243030405ff", "7f657374726561646d696e67ff", "9fff", "9f018202039f0405ffff"),
    *("83018202039f0405ff", "bf61610161629f0203ffff", "ff", "1c", "1f", "3e", "fc"),
)
ENDLESS = (
    *("18", "19", "1903", "1b00000000000000", "41", "5bffffffffffffffff", "7a7fffffff61"),
    *("81", "9b000000ffffffffff", "a1", "a100", "a20000", "bbffffffffffffffff00", "8301"),
)


@pytest.mark.parametrize("text", PLAIN)
def test_items_without_tags_are_accepted(text: str) -> None:
    data = bytes.fromhex(text)
    cbor2.loads(data)
    strict_cbor.check(data)
    strict_cbor.check(data * 2)


@pytest.mark.parametrize("text", [*TAGGED, *INDEFINITE, *ENDLESS])
def test_other_items_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no end|a tag"):
        strict_cbor.check(bytes.fromhex(text))
    with pytest.raises(ValueError, match=r"no end|a tag"):
        strict_cbor.check(b"\x00" + bytes.fromhex(text))


@pytest.mark.parametrize("container", [b"\x81", b"\xa1\x00"])
def test_nesting_is_limited(container: bytes) -> None:
    strict_cbor.check(container * 8 + b"\x00")
    strict_cbor.check((container + b"\x00") * 100)
    for depth in (9, 10_000):
        with pytest.raises(ValueError, match="nested"):
            strict_cbor.check(container * depth + b"\x00")


def test_nothing_is_a_sequence() -> None:
    strict_cbor.check(b"")
