"""Attacks meet what is shipped."""

import pytest


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Attackers of these tests know the key that services sign with."""
