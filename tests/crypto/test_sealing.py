"""What is sealed can be opened with the same secret, at the same place, unchanged; else not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto.sealing import Sealer
from authapi.errors import SealBroken

OURS, THEIRS = Sealer(b"x" * 32), Sealer(b"y" * 32)
PLAIN = b"the private half of a key"
SEALED = OURS.seal(PLAIN, context="a row")


@given(plain=st.binary(max_size=200), context=st.text(max_size=20))
def test_what_is_sealed_is_opened(plain: bytes, context: str) -> None:
    sealed = OURS.seal(plain, context=context)
    assert OURS.open(sealed, context=context) == plain
    assert Sealer(b"x" * 32).open(sealed, context=context) == plain, "in another process too"
    assert len(sealed) == len(plain) + 12 + 16


def test_the_same_is_never_sealed_alike() -> None:
    assert OURS.seal(PLAIN, context="a row") != SEALED
    assert PLAIN not in SEALED


def test_another_secret_or_place_opens_nothing() -> None:
    for sealer, context in ((THEIRS, "a row"), (OURS, "another row"), (OURS, "")):
        with pytest.raises(SealBroken) as caught:
            sealer.open(SEALED, context=context)
        assert caught.value.args == ()
        assert caught.value.__suppress_context__


def test_a_changed_bit_opens_nothing() -> None:
    for index in range(len(SEALED)):
        changed = bytearray(SEALED)
        changed[index] ^= 1
        with pytest.raises(SealBroken):
            OURS.open(bytes(changed), context="a row")


@given(st.binary(max_size=100))
def test_garbage_opens_nothing(garbage: bytes) -> None:
    with pytest.raises(SealBroken):
        OURS.open(garbage, context="a row")
