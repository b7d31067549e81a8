"""Attestations and assertions with random mutations: refused, and by no other exception."""

import random
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import cbor2
import pytest

from authapi.crypto.factors.webauthn import verify_assertion, verify_attestation
from authapi.domain.factors.passkeys import Assertion, Attestation, RelyingParty
from authapi.errors import PasskeyMismatch
from tests.soft_authenticator import ORIGIN, SoftAuthenticator, b64, cose_key

PARTY = RelyingParty("localhost", "", frozenset({ORIGIN}))
CREATE: Mapping[str, Any] = {
    "challenge": b64(bytes(37)),
    "rp": {"id": "localhost"},
    "user": {"id": b64(bytes(32))},
    "pubKeyCredParams": [{"alg": alg} for alg in (-7, -8, -257)],
    "excludeCredentials": [],
}
GET: Mapping[str, Any] = {
    "challenge": b64(bytes(37)),
    "rpId": "localhost",
    "allowCredentials": [],
}
ODD: tuple[object, ...] = (
    *(None, True, 0, -1, 2**64, 0.5, "", "x", b"", bytes(77), [], {}, {1: {}}, [[]]),
    cbor2.undefined,
    cbor2.CBORTag(2, b"\x01"),
)


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def attestation_of(passkey: SoftAuthenticator) -> Attestation:
    response = passkey.create(CREATE)["response"]
    client_data, found = (unb64(response[name]) for name in ("clientDataJSON", "attestationObject"))
    return Attestation(passkey.credential_id, client_data, found)


def assertion_of(passkey: SoftAuthenticator) -> Assertion:
    response = passkey.get(GET)["response"]
    names = ("clientDataJSON", "authenticatorData", "signature")
    return Assertion(passkey.credential_id, *(unb64(response[name]) for name in names))


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flips, removes, repeats or inserts bytes."""
    found, place = bytearray(data), rng.randrange(len(data))
    length = rng.choice((1, 2, 8, 64))
    match rng.randrange(5):
        case 0:
            found[place] ^= 1 << rng.randrange(8)
        case 1:
            del found[place : place + length]
        case 2:
            found[place:place] = found[place : place + length]
        case 3:
            found[place:place] = rng.randbytes(length)
        case _:
            found[place] = rng.choice((0x00, 0x7F, 0x80, 0x9F, 0xBF, 0xF6, 0xF7, 0xFF))
    return bytes(found)


def restructured(data: bytes, rng: random.Random) -> bytes:
    """An attestation object in which a member, or a member of the key, is of another type."""
    found = dict(cbor2.loads(data))
    if rng.randrange(3):
        key = dict(cose_key(SoftAuthenticator(rng.choice((-7, -8))).key))
        key[rng.choice((1, 3, -1, -2, -3))] = rng.choice(ODD)
        if not rng.randrange(3):
            del key[rng.choice(tuple(key))]
        found["authData"] = found["authData"][:87] + cbor2.dumps(key)
    else:
        found[rng.choice(("fmt", "attStmt", "authData"))] = rng.choice(ODD)
    return cbor2.dumps(rng.choice((found, found, list(found.values()))))


def fuzz(rounds: int) -> None:
    rng = random.Random(21)
    passkeys = [SoftAuthenticator(algorithm) for algorithm in (-7, -8, -257)]
    keys = [verify_attestation(attestation_of(it), PARTY).public_key for it in passkeys]
    for number in range(rounds):
        passkey, key = passkeys[number % 3], keys[number % 3]
        change = rng.choice((mutated, restructured))
        attestation = attestation_of(passkey)
        changed = change(attestation.attestation_object, rng)
        # Without attestation, a changed key is another key: an acceptance is no failure.
        with suppress(PasskeyMismatch):
            verify_attestation(replace(attestation, attestation_object=changed), PARTY)
        assertion = assertion_of(passkey)
        name = rng.choice(("client_data", "authenticator_data", "signature"))
        broken = replace(assertion, **{name: mutated(getattr(assertion, name), rng)})
        if broken != assertion:
            with pytest.raises(PasskeyMismatch):
                verify_assertion(broken, key, PARTY, requires_verification=True)
        # The keys come from the database: they raise nothing else either.
        with suppress(PasskeyMismatch):
            verify_assertion(assertion, mutated(key, rng), PARTY, requires_verification=True)


def test_mutations_are_refused() -> None:
    fuzz(300)


@pytest.mark.slow
def test_many_mutations_are_refused() -> None:
    fuzz(4000)
