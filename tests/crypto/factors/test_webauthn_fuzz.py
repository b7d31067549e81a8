"""Attestations and assertions with random mutations: refused, and by no other exception."""

import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from authapi.crypto.factors.webauthn import verify_assertion, verify_attestation
from authapi.domain.factors.passkeys import Assertion, Attestation, RelyingParty
from authapi.errors import PasskeyMismatch
from tests.passkey_mutations import mutated, restructured
from tests.soft_authenticator import ORIGIN, SoftAuthenticator, b64, unb64

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


def attestation_of(passkey: SoftAuthenticator) -> Attestation:
    response = passkey.create(CREATE)["response"]
    client_data, found = (unb64(response[name]) for name in ("clientDataJSON", "attestationObject"))
    return Attestation(passkey.credential_id, client_data, found)


def assertion_of(passkey: SoftAuthenticator) -> Assertion:
    response = passkey.get(GET)["response"]
    names = ("clientDataJSON", "authenticatorData", "signature")
    return Assertion(passkey.credential_id, *(unb64(response[name]) for name in names))


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
