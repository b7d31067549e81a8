"""Attacks meet what is shipped."""

import pytest

from tests.conftest import hasher_of


@pytest.fixture(autouse=True)
def hash_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes cost what they cost in production."""
    monkeypatch.setattr("authapi.services.passwords.PasswordHasher", hasher_of)


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Attackers of these tests know the key that services sign with."""
