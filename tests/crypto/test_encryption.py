"""Encryption: decryption needs the same secret, the same context and an unchanged ciphertext."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authapi.crypto.encryption import Cipher, Secrets
from authapi.errors import DecryptionFailed

OURS, THEIRS = Cipher(b"x" * 32), Cipher(b"y" * 32)
PLAIN = b"the private half of a key"
ENCRYPTED = OURS.encrypt(PLAIN, context="a row")


@given(plain=st.binary(max_size=200), context=st.text(max_size=20))
def test_decrypt_returns_the_plaintext(plain: bytes, context: str) -> None:
    encrypted = OURS.encrypt(plain, context=context)
    assert OURS.decrypt(encrypted, context=context) == plain
    assert Cipher(b"x" * 32).decrypt(encrypted, context=context) == plain, "in another process too"
    assert len(encrypted) == len(plain) + 12 + 16


def test_equal_plaintexts_have_different_ciphertexts() -> None:
    assert OURS.encrypt(PLAIN, context="a row") != ENCRYPTED
    assert PLAIN not in ENCRYPTED


def test_other_secret_or_context_raises_decryption_failed() -> None:
    for cipher, context in ((THEIRS, "a row"), (OURS, "another row"), (OURS, "")):
        with pytest.raises(DecryptionFailed) as caught:
            cipher.decrypt(ENCRYPTED, context=context)
        assert caught.value.args == ()
        assert caught.value.__suppress_context__


def test_changed_bit_raises_decryption_failed() -> None:
    for index in range(len(ENCRYPTED)):
        changed = bytearray(ENCRYPTED)
        changed[index] ^= 1
        with pytest.raises(DecryptionFailed):
            OURS.decrypt(bytes(changed), context="a row")


@given(st.binary(max_size=100))
def test_garbage_raises_decryption_failed(garbage: bytes) -> None:
    with pytest.raises(DecryptionFailed):
        OURS.decrypt(garbage, context="a row")


def test_both_secrets_of_a_change_are_read_and_one_is_written() -> None:
    old, new, context = b"x" * 32, b"y" * 32, "a row"
    secrets = Secrets(new, old)
    both = Cipher(secrets)
    for written in (OURS, THEIRS, both):
        assert both.decrypt(written.encrypt(PLAIN, context=context), context=context) == PLAIN
    assert OURS.decrypt(both.encrypt(PLAIN, context=context), context=context) == PLAIN
    secrets.writes_previous = False
    written_now = both.encrypt(PLAIN, context=context)
    assert THEIRS.decrypt(written_now, context=context) == PLAIN
    assert both.is_current(written_now, context=context)
    assert not both.is_current(OURS.encrypt(PLAIN, context=context), context=context)
    with pytest.raises(DecryptionFailed):
        both.decrypt(Cipher(b"z" * 32).encrypt(PLAIN, context=context), context=context)
    with pytest.raises(DecryptionFailed):
        both.decrypt(written_now, context="another row")
