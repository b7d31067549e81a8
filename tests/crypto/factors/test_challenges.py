"""Challenges that verify themselves."""

from datetime import UTC, datetime, timedelta

import pytest

from authapi.crypto.encryption import Secrets
from authapi.crypto.factors.challenges import Challenges
from authapi.domain.factors.passkeys import CHALLENGE_LIFETIME, ChallengePurpose
from authapi.errors import PasskeyMismatch

AT = datetime(2026, 11, 29, 8, 0, 0, 900_000, tzinfo=UTC)
SECRET = b"s" * 32
LOGIN = ChallengePurpose.LOGIN


@pytest.fixture
def challenges() -> Challenges:
    return Challenges(SECRET)


def test_a_challenge_is_accepted_by_every_process_with_the_secret(challenges: Challenges) -> None:
    challenge = challenges.issue(LOGIN, "browser", at=AT)
    used = Challenges(SECRET).check(challenge, LOGIN, "browser", at=AT)
    assert used.expires_at == datetime(2026, 11, 29, 8, 5, tzinfo=UTC)
    assert len(used.digest) == 32
    again = challenges.check(challenge, LOGIN, "browser", at=AT)
    assert again == used, "its digest tells that it was used"


def test_challenges_are_random_and_contain_no_binding(challenges: Challenges) -> None:
    found = {challenges.issue(LOGIN, "browser", at=AT) for _ in range(100)}
    assert len({challenge[5:21] for challenge in found}) == 100
    assert {challenge[:5] for challenge in found} == {next(iter(found))[:5]}
    assert not any(b"browser" in challenge for challenge in found)


def test_a_challenge_ends_after_five_minutes(challenges: Challenges) -> None:
    challenge = challenges.issue(LOGIN, "browser", at=AT)
    end = AT.replace(microsecond=0) + CHALLENGE_LIFETIME
    challenges.check(challenge, LOGIN, "browser", at=end - timedelta(microseconds=1))
    with pytest.raises(PasskeyMismatch):
        challenges.check(challenge, LOGIN, "browser", at=end)


@pytest.mark.parametrize("purpose", ChallengePurpose)
def test_a_challenge_serves_one_purpose_and_binding(
    challenges: Challenges, purpose: ChallengePurpose
) -> None:
    challenge = challenges.issue(purpose, "one", at=AT)
    challenges.check(challenge, purpose, "one", at=AT)
    for other in ChallengePurpose:
        for binding in ("one", "two", "", "onee", "on"):
            if (other, binding) != (purpose, "one"):
                with pytest.raises(PasskeyMismatch):
                    challenges.check(challenge, other, binding, at=AT)


def test_every_changed_bit_is_noticed(challenges: Challenges) -> None:
    challenge = challenges.issue(LOGIN, "browser", at=AT)
    for position in range(len(challenge)):
        for bit in range(8):
            changed = bytearray(challenge)
            changed[position] ^= 1 << bit
            with pytest.raises(PasskeyMismatch):
                challenges.check(bytes(changed), LOGIN, "browser", at=AT)


@pytest.mark.parametrize("text", [b"", b"x", bytes(36), bytes(37), bytes(38), bytes(4096)])
def test_other_bytes_are_no_challenge(challenges: Challenges, text: bytes) -> None:
    with pytest.raises(PasskeyMismatch):
        challenges.check(text, LOGIN, "browser", at=AT)


def test_another_secret_issues_other_challenges(challenges: Challenges) -> None:
    challenge = Challenges(b"t" * 32).issue(LOGIN, "browser", at=AT)
    with pytest.raises(PasskeyMismatch):
        challenges.check(challenge, LOGIN, "browser", at=AT)


def test_challenges_of_both_secrets_of_a_change_are_accepted(challenges: Challenges) -> None:
    secrets = Secrets(b"t" * 32, SECRET)
    both, newer = Challenges(secrets), Challenges(b"t" * 32)
    for issuer in (challenges, both, newer):
        both.check(issuer.issue(LOGIN, "browser", at=AT), LOGIN, "browser", at=AT)
    challenges.check(both.issue(LOGIN, "browser", at=AT), LOGIN, "browser", at=AT)
    secrets.writes_previous = False
    newer.check(both.issue(LOGIN, "browser", at=AT), LOGIN, "browser", at=AT)
    with pytest.raises(PasskeyMismatch):
        both.check(Challenges(b"u" * 32).issue(LOGIN, "x", at=AT), LOGIN, "x", at=AT)
