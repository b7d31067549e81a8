"""Fixtures of the security tests, which attack the application as it is shipped."""

import pytest

from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """The attacker in these tests knows the signing key."""
