"""Verification of passkeys, with the test vectors of the W3C.

`webauthn_vectors.json` has all vectors of section 16 of Web Authentication Level 3. Their RP ID is
example.org, and their origin https://example.org.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from authapi.crypto.factors import webauthn
from authapi.crypto.factors.webauthn import (
    is_installed,
    read_client_data,
    verify_assertion,
    verify_attestation,
)
from authapi.domain.factors.passkeys import (
    Algorithm,
    Assertion,
    Attestation,
    NewCredential,
    RelyingParty,
)
from authapi.errors import PasskeyMismatch

VECTORS: Mapping[str, Mapping[str, str]] = {
    vector["name"]: vector
    for vector in json.loads(Path(__file__).with_name("webauthn_vectors.json").read_text())[
        "vectors"
    ]
}
PARTY = RelyingParty("example.org", "Example", frozenset({"https://example.org"}))


class End(NamedTuple):
    """What a vector leads to."""

    algorithm: Algorithm | str
    """Of the new passkey; or the reason why its registration is refused."""
    registers: bool
    """Whether the authenticator verified its user at the registration, without which it is refused.
    """
    logs_in: bool
    """Whether it did so in the assertion; otherwise it is a second factor only."""


ES256 = Algorithm.ES256
ENDS = {
    "none.ES256": End(ES256, registers=False, logs_in=False),
    "none.ES256.crossOrigin": End("frame", registers=True, logs_in=True),
    "none.ES256.topOrigin": End("frame", registers=False, logs_in=True),
    "none.ES256.long-credential-id": End(ES256, registers=False, logs_in=True),
    "packed-self.ES256": End(ES256, registers=True, logs_in=False),
    "packed.ES256": End(ES256, registers=True, logs_in=True),
    "packed.ES384": End("algorithm", registers=False, logs_in=True),
    "packed.ES512": End("algorithm", registers=True, logs_in=False),
    "packed.RS256": End(Algorithm.RS256, registers=True, logs_in=False),
    "packed.EdDSA": End(Algorithm.EDDSA, registers=False, logs_in=False),
    "packed.Ed448": End("algorithm", registers=False, logs_in=True),
    "tpm.ES256": End(ES256, registers=True, logs_in=True),
    "android-key.ES256": End(ES256, registers=True, logs_in=False),
    "apple.ES256": End(ES256, registers=False, logs_in=False),
    "fido-u2f.ES256": End(ES256, registers=False, logs_in=False),
}
ACCEPTED = [name for name, end in ENDS.items() if isinstance(end.algorithm, Algorithm)]
FRAMED = [name for name, end in ENDS.items() if end.algorithm == "frame"]
"""The package accepts them."""
OTHER_ALGORITHMS = [name for name, end in ENDS.items() if end.algorithm == "algorithm"]


def attestation_of(vector: Mapping[str, str]) -> Attestation:
    return Attestation(
        credential_id=bytes.fromhex(vector["credential_id"]),
        client_data=vector["client_data"].encode(),
        attestation_object=bytes.fromhex(vector["attestation_object"]),
    )


def assertion_of(vector: Mapping[str, str]) -> Assertion:
    return Assertion(
        credential_id=bytes.fromhex(vector["credential_id"]),
        client_data=vector["assertion_client_data"].encode(),
        authenticator_data=bytes.fromhex(vector["authenticator_data"]),
        signature=bytes.fromhex(vector["signature"]),
    )


def key_of(vector: Mapping[str, str]) -> dict[int, bytes]:
    """The COSE key in the attestation."""
    data = cbor2.loads(bytes.fromhex(vector["attestation_object"]))["authData"]
    key: dict[int, bytes] = cbor2.loads(data[55 + int.from_bytes(data[53:55]) :])
    return key


def without_required_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some vectors verify no user: they are accepted here, to verify what else they have."""
    from webauthn import registration

    original = registration.verify_registration_response.verify_registration_response

    def verify(**arguments: object) -> object:
        arguments["require_user_verification"] = False
        return original(**arguments)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr("webauthn.verify_registration_response", verify)


def credential_of(name: str, monkeypatch: pytest.MonkeyPatch) -> NewCredential:
    without_required_user(monkeypatch)
    return verify_attestation(attestation_of(VECTORS[name]), PARTY)


def test_each_vector_has_its_end() -> None:
    assert VECTORS.keys() == ENDS.keys()
    assert (len(ENDS), len(ACCEPTED)) == (15, 10)


@pytest.mark.parametrize("name", ACCEPTED)
def test_vectors_of_the_w3c_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS[name]
    credential = credential_of(name, monkeypatch)
    assert credential.credential_id.hex() == vector["credential_id"]
    assert credential.algorithm is ENDS[name].algorithm
    assert cbor2.loads(credential.public_key) == key_of(vector)
    assert credential.aaguid != UUID(int=0)
    state = verify_assertion(
        assertion_of(vector), credential.public_key, PARTY, requires_verification=False
    )
    assert state.backup_eligible == credential.backup_eligible
    assert state.sign_count == credential.sign_count == 0
    assert state.is_user_verified is ENDS[name].logs_in


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_registration_without_its_user_is_refused(name: str) -> None:
    attestation = attestation_of(VECTORS[name])
    if ENDS[name].registers:
        assert verify_attestation(attestation, PARTY).public_key
    else:
        with pytest.raises(PasskeyMismatch) as refused:
            verify_attestation(attestation, PARTY)
        assert "User verification is required" in str(refused.value.__context__)


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_assertion_without_its_user_is_no_first_factor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, assertion = credential_of(name, monkeypatch).public_key, assertion_of(VECTORS[name])
    if ENDS[name].logs_in:
        state = verify_assertion(assertion, key, PARTY, requires_verification=True)
        assert state.is_user_verified
    else:
        with pytest.raises(PasskeyMismatch) as refused:
            verify_assertion(assertion, key, PARTY, requires_verification=True)
        assert "User verification is required" in str(refused.value.__context__)


@pytest.mark.parametrize("statement", [{}, {"x5c": [b"no certificate"]}, None, b"x"])
@pytest.mark.parametrize("form", ["none", "packed", "tpm", "compound", "a-new-one", None, 7])
def test_statements_of_attestation_are_not_looked_at(form: object, statement: object) -> None:
    attestation = attestation_of(VECTORS["packed-self.ES256"])
    members = cbor2.loads(attestation.attestation_object)
    changed = cbor2.dumps({**members, "fmt": form, "attStmt": statement})
    found = verify_attestation(replace(attestation, attestation_object=changed), PARTY)
    assert found == verify_attestation(attestation, PARTY)


@pytest.mark.parametrize("name", FRAMED)
def test_pages_in_frames_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS[name]
    with pytest.raises(PasskeyMismatch) as refused:
        credential_of(name, monkeypatch)
    assert refused.value.reason == "origin"
    with monkeypatch.context() as patch:
        # With the check of frames alone removed, the vector is accepted: nothing else is wrong.
        patch.setattr(webauthn, "_checked_client_data", lambda data, _: read_client_data(data))
        key = credential_of(name, patch).public_key
        verify_assertion(assertion_of(vector), key, PARTY, requires_verification=False)
    with pytest.raises(PasskeyMismatch) as refused:
        verify_assertion(assertion_of(vector), key, PARTY, requires_verification=False)
    assert refused.value.reason == "origin"


@pytest.mark.parametrize("name", OTHER_ALGORITHMS)
def test_algorithms_that_were_not_asked_for_are_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector = VECTORS[name]
    with pytest.raises(PasskeyMismatch) as refused:
        credential_of(name, monkeypatch)
    assert "Unsupported credential public key alg" in str(refused.value.__context__)
    # Nothing else is wrong: the signature of the assertion is right.
    key, data = key_of(vector), bytes.fromhex(vector["authenticator_data"])
    data += hashlib.sha256(vector["assertion_client_data"].encode()).digest()
    signature = bytes.fromhex(vector["signature"])
    if name == "packed.Ed448":
        ed448.Ed448PublicKey.from_public_bytes(key[-2]).verify(signature, data)
        return
    curve, digest = (
        (ec.SECP384R1(), hashes.SHA384())
        if name == "packed.ES384"
        else (ec.SECP521R1(), hashes.SHA512())
    )
    public = ec.EllipticCurvePublicNumbers(
        int.from_bytes(key[-2]), int.from_bytes(key[-3]), curve
    ).public_key()
    public.verify(signature, data, ec.ECDSA(digest))


P256, P384 = ec.SECP256R1(), ec.SECP384R1()
X448 = ed448.Ed448PrivateKey.from_private_bytes(bytes(57)).public_key().public_bytes_raw()


def point(curve: ec.EllipticCurve) -> dict[int, object]:
    """A COSE key with the members of a point of a curve."""
    numbers = ec.derive_private_key(7, curve).public_key().public_numbers()
    size = curve.key_size // 8
    crv = {"secp256r1": 1, "secp384r1": 2}[curve.name]
    return {1: 2, 3: -7, -1: crv, -2: numbers.x.to_bytes(size), -3: numbers.y.to_bytes(size)}


def rsa_key(bits: int) -> dict[int, object]:
    numbers = rsa.generate_private_key(65537, bits).public_key().public_numbers()
    return {1: 3, 3: -257, -1: numbers.n.to_bytes(bits // 8), -2: numbers.e.to_bytes(3)}


@pytest.mark.parametrize(
    ("key", "is_accepted"),
    [
        (point(P256), True),
        (point(P384), False),
        ({**point(P256), 3: -257}, False),
        ({**point(P256), 3: -8}, False),
        ({**point(P256), -3: bytes(31) + b"\x01"}, False),
        ({**point(P256), -3: True}, False),
        ({**point(P256), -1: 3}, False),
        ({1: 1, 3: -8, -1: 7, -2: X448}, False),
        ({1: 1, 3: -7, -1: 6, -2: bytes(32)}, False),
        ({1: 1, 3: -8, -1: 6, -2: bytes(31)}, False),
        ({**rsa_key(2048), 3: -7}, False),
        (rsa_key(2048), True),
        (rsa_key(1024), False),
    ],
    ids=[
        "P-256",
        "ES256 with P-384",
        "RS256 with P-256",
        "EdDSA with P-256",
        "a point that is not on the curve",
        "a compressed point",
        "a point of another curve",
        "EdDSA with Ed448",
        "ES256 with Ed25519",
        "a short key",
        "ES256 with RSA",
        "2,048 bits",
        "1,024 bits",
    ],
)
def test_a_key_fits_its_algorithm(key: dict[int, object], is_accepted: bool) -> None:
    attestation = attestation_of(VECTORS["packed-self.ES256"])
    members = cbor2.loads(attestation.attestation_object)
    members["authData"] = members["authData"][:87] + cbor2.dumps(key)
    changed = replace(attestation, attestation_object=cbor2.dumps(members))
    if is_accepted:
        assert cbor2.loads(verify_attestation(changed, PARTY).public_key) == key
    else:
        with pytest.raises(PasskeyMismatch):
            verify_attestation(changed, PARTY)


@pytest.mark.parametrize(
    ("party", "reason"),
    [
        (RelyingParty("example.com", "", frozenset({"https://example.org"})), None),
        (RelyingParty("example.org", "", frozenset({"https://www.example.org"})), "origin"),
        (RelyingParty("example.org", "", frozenset({"https://example.org:443"})), "origin"),
        (RelyingParty("example.org", "", frozenset(), allows_localhost=True), "origin"),
    ],
)
def test_domain_and_origin_are_compared_as_they_are(
    party: RelyingParty, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "packed.ES256"
    key = credential_of(name, monkeypatch).public_key
    for call in (
        lambda: verify_attestation(attestation_of(VECTORS[name]), party),
        lambda: verify_assertion(
            assertion_of(VECTORS[name]), key, party, requires_verification=False
        ),
    ):
        with pytest.raises(PasskeyMismatch) as refused:
            call()
        assert refused.value.reason == reason


def test_very_long_keys_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "packed.RS256"
    found = credential_of(name, monkeypatch)
    monkeypatch.setattr(webauthn, "MAX_PUBLIC_KEY", len(found.public_key) - 1)
    with pytest.raises(PasskeyMismatch):
        verify_attestation(attestation_of(VECTORS[name]), PARTY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b"null",
        b"\xff",
        b'{"challenge": 7, "origin": "https://example.org"}',
        b'{"challenge": "AA", "origin": null}',
        b'{"challenge": "A", "origin": "https://example.org"}',
        b'{"challenge": "AA=", "origin": "https://example.org"}',
        b'{"challenge": "AA", "challenge": "AB", "origin": "https://example.org"}',
        b"[" * 100_000,
    ],
    ids=lambda data: str(data[:40]),
)
def test_other_client_data_is_refused(data: bytes) -> None:
    with pytest.raises(PasskeyMismatch):
        read_client_data(data)


@pytest.mark.parametrize(
    ("members", "is_framed"),
    [
        ("", False),
        (', "crossOrigin": false', False),
        (', "crossOrigin": true', True),
        (', "crossOrigin": null', True),
        (', "crossOrigin": 0', True),
        (', "crossOrigin": "false"', True),
        (', "crossOrigin": false, "topOrigin": "https://example.org"', True),
        (', "topOrigin": null', True),
        (', "extraData": "of a later version"', False),
    ],
)
def test_frames_are_recognized(members: str, is_framed: bool) -> None:
    data = f'{{"challenge": "AAE", "origin": "https://example.org"{members}}}'
    found = read_client_data(data.encode())
    assert (found.challenge, found.origin) == (b"\x00\x01", "https://example.org")
    assert found.is_framed is is_framed


def test_the_package_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_installed()
    monkeypatch.setattr(webauthn, "find_spec", lambda _: None)
    assert not is_installed()
