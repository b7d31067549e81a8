"""Applications, on a database without rows."""

from tests.storage.emptied import emptied_postgres_url, postgres_url, shared_postgres_url

__all__ = ["emptied_postgres_url", "postgres_url", "shared_postgres_url"]
