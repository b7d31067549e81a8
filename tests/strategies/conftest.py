"""Fixtures: strategies on an empty database."""

from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]
