"""Signatures of passkeys, with the vectors of Project Wycheproof.

The vectors sign a message, and assertions sign the data of the authenticator. So an assertion of a
known passkey has the signature of the vector, and what is verified is replaced by its message.
"""

import json
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cbor2
import pytest
from webauthn.helpers import verify_signature

from authapi.crypto.factors.webauthn import verify_assertion
from authapi.domain.factors.passkeys import Assertion, RelyingParty
from authapi.errors import PasskeyMismatch
from tests.soft_authenticator import ORIGIN, SoftAuthenticator, b64, unb64

FILE = Path(__file__).with_name("wycheproof_vectors.json")
VERIFY = "webauthn.authentication.verify_authentication_response.verify_signature"
PARTY = RelyingParty("localhost", "", frozenset({ORIGIN}))
COUNTS = {
    "ES256": {"valid": 174, "invalid": 310},
    "EdDSA": {"valid": 117, "invalid": 64, "acceptable": 29},
    "RS256": {"valid": 9, "invalid": 249, "acceptable": 1},
}
ACCEPTED = {"EdDSA": [*range(152, 181)]}
"""Those of the vectors with the result "acceptable" that are accepted: the keys have a small or a
mixed order. RFC 8032 does not refuse them, and the owner of a passkey chooses its key. The other
one (RS256) lacks the NULL in the encoding of the hash, and is refused."""


def cose_key(algorithm: str, key: Any) -> dict[int, object]:
    """The key of a group of vectors."""
    match algorithm:
        case "ES256":
            point = b64decode(key)
            return {1: 2, 3: -7, -1: 1, -2: point[:32], -3: point[32:]}
        case "EdDSA":
            return {1: 1, 3: -8, -1: 6, -2: b64decode(key)}
        case _:
            modulus, exponent = (b64decode(part) for part in key)
            return {1: 3, 3: -257, -1: modulus, -2: exponent}


def vectors(algorithm: str) -> Iterator[tuple[bytes, int, str, bytes, bytes]]:
    """The key, number, result, message and signature of each vector."""
    for group in json.loads(FILE.read_text())["groups"]:
        if group["algorithm"] == algorithm:
            key = cbor2.dumps(cose_key(algorithm, group["key"]))
            for number, result, message, signature in group["tests"]:
                yield key, number, result, b64decode(message), b64decode(signature)


def assertion() -> Assertion:
    passkey = SoftAuthenticator()
    asked = {"challenge": b64(bytes(37)), "rpId": "localhost", "allowCredentials": []}
    response = passkey.get(asked)["response"]
    data = (unb64(response[name]) for name in ("clientDataJSON", "authenticatorData", "signature"))
    return Assertion(passkey.credential_id, *data)


@pytest.mark.parametrize("algorithm", COUNTS)
def test_signatures_are_verified_as_project_wycheproof_expects(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, known = {"data": b""}, assertion()

    def verify(**given: Any) -> None:
        verify_signature(**{**given, **signed})

    monkeypatch.setattr(VERIFY, verify)
    counts, wrong, acceptable = Counter[str](), list[int](), list[int]()
    for key, number, result, message, signature in vectors(algorithm):
        counts[result] += 1
        signed["data"] = message
        try:
            verify_assertion(
                replace(known, signature=signature), key, PARTY, requires_verification=True
            )
        except PasskeyMismatch:
            is_accepted = False
        else:
            is_accepted = True
        if result == "acceptable":
            acceptable += [number] * is_accepted
        elif is_accepted != (result == "valid"):
            wrong.append(number)
    assert counts == COUNTS[algorithm]
    assert wrong == []
    assert acceptable == ACCEPTED.get(algorithm, [])
