"""Attacks meet what is shipped."""

import pytest


@pytest.fixture(autouse=True)
def hash_cost() -> None:
    """Hashes cost what they cost in production."""
