"""CBOR that the parser of the package would act on."""

import re
from dataclasses import replace

import cbor2
import pytest

from authapi.crypto.factors.webauthn import verify_assertion, verify_attestation
from authapi.errors import PasskeyMismatch
from tests.crypto.factors.test_webauthn import (
    PARTY,
    VECTORS,
    assertion_of,
    attestation_of,
    credential_of,
)


def shared(levels: int) -> bytes:
    """CBOR of a few bytes each level, whose value is ten times larger with each."""
    items = [
        b"\xd8\x1c\x41x",
        *(b"\xd8\x1c\x8a" + bytes((0xD8, 0x1D, i)) * 10 for i in range(levels)),
    ]
    return bytes([0x80 + len(items)]) + b"".join(items)


@pytest.mark.parametrize(
    "tagged",
    [
        cbor2.dumps(re.compile("(?i)[\u0100-\U0010ffff]")),
        shared(2),
        cbor2.dumps(cbor2.CBORTag(1, 0)),
    ],
)
def test_nothing_with_tags_is_parsed(tagged: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    name = "packed-self.ES256"
    attestation, assertion = attestation_of(VECTORS[name]), assertion_of(VECTORS[name])
    key = credential_of(name, monkeypatch).public_key
    monkeypatch.setattr(cbor2, "loads", lambda data, **_: parsed.append(data))
    for changed in (
        b"\xa1\x68authData" + tagged,
        b"\xa2\x68authData\x41x\x67attStmt" + tagged,
    ):
        with pytest.raises(PasskeyMismatch):
            verify_attestation(replace(attestation, attestation_object=changed), PARTY)
    data = assertion.authenticator_data
    extended = data[:32] + bytes([data[32] | 0x80]) + data[33:] + tagged
    with pytest.raises(PasskeyMismatch):
        verify_assertion(
            replace(assertion, authenticator_data=extended),
            key,
            PARTY,
            requires_verification=False,
        )
    assert parsed == []


def test_a_key_and_extensions_with_tags_are_refused() -> None:
    attestation = attestation_of(VECTORS["packed-self.ES256"])
    members = cbor2.loads(attestation.attestation_object)
    data = members["authData"]
    for value, is_accepted in (({"credProtect": 2}, True), ({"x": cbor2.CBORTag(1, 0)}, False)):
        members["authData"] = data[:32] + bytes([data[32] | 0x80]) + data[33:] + cbor2.dumps(value)
        changed = replace(attestation, attestation_object=cbor2.dumps(members))
        if is_accepted:
            verify_attestation(changed, PARTY)
        else:
            with pytest.raises(PasskeyMismatch):
                verify_attestation(changed, PARTY)
