"""Attacks meet what is shipped."""

import pytest


@pytest.fixture(autouse=True)
def hash_cost() -> None:
    """Hashes cost what they cost in production."""


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Attackers of these tests know the key that services sign with."""
