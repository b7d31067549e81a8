"""Verification of passkeys, with the test vectors of the W3C.

`webauthn_vectors.json` has vectors of section 16 of Web Authentication Level 3. Their RP ID is
example.org, and their origin https://example.org. There are those with keys or attestations that
a browser hands over here, and some that are refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import pytest

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
USER_VERIFIED = 4
FRAMED = {"none.ES256.crossOrigin", "none.ES256.topOrigin"}
"""The package accepts them."""
UNSUPPORTED = {"packed.ES512", "apple.ES256", "fido-u2f.ES256"}
"""Keys and attestations that the options do not ask for."""
ACCEPTED = sorted(VECTORS.keys() - FRAMED - UNSUPPORTED)


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


def is_verified(vector: Mapping[str, str]) -> bool:
    """Whether the authenticator has verified its user at the registration."""
    data = bytes.fromhex(vector["attestation_object"])
    domain = bytes.fromhex(vector["authenticator_data"])[:32]
    return bool(data[data.index(domain) + 32] & USER_VERIFIED)


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


def test_there_are_vectors_of_each_kind() -> None:
    assert len(VECTORS) == 11
    assert len(ACCEPTED) == 6
    verified = {is_verified(VECTORS[name]) for name in ACCEPTED}
    assert verified == {True, False}


@pytest.mark.parametrize("name", ACCEPTED)
def test_vectors_of_the_w3c_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS[name]
    credential = credential_of(name, monkeypatch)
    assert credential.credential_id.hex() == vector["credential_id"]
    algorithm = {"RS256": Algorithm.RS256, "EdDSA": Algorithm.EDDSA}
    assert credential.algorithm == algorithm.get(name.split(".")[1], Algorithm.ES256)
    assert credential.aaguid != UUID(int=0)
    state = verify_assertion(
        assertion_of(vector), credential.public_key, PARTY, requires_verification=False
    )
    assert state.backup_eligible == credential.backup_eligible
    assert state.sign_count == credential.sign_count == 0
    flags = bytes.fromhex(vector["authenticator_data"])[32]
    assert state.is_user_verified is bool(flags & USER_VERIFIED)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_registration_without_its_user_is_refused(name: str) -> None:
    attestation = attestation_of(VECTORS[name])
    if is_verified(VECTORS[name]):
        assert verify_attestation(attestation, PARTY).public_key
    else:
        with pytest.raises(PasskeyMismatch):
            verify_attestation(attestation, PARTY)


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_assertion_without_its_user_is_no_first_factor(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, assertion = credential_of(name, monkeypatch).public_key, assertion_of(VECTORS[name])
    if assertion.authenticator_data[32] & USER_VERIFIED:
        state = verify_assertion(assertion, key, PARTY, requires_verification=True)
        assert state.is_user_verified
    else:
        with pytest.raises(PasskeyMismatch):
            verify_assertion(assertion, key, PARTY, requires_verification=True)


@pytest.mark.parametrize("name", sorted(FRAMED))
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


@pytest.mark.parametrize("name", sorted(UNSUPPORTED))
def test_what_was_not_asked_for_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PasskeyMismatch):
        credential_of(name, monkeypatch)


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
