"""A role with exactly the privileges that docs/asvs.md documents."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from tests.storage.rows import sql

CHANGED = (
    *("authapi_users", "authapi_usernames", "authapi_sessions", "authapi_refresh_families"),
    *("authapi_signing_keys", "authapi_email_tokens", "authapi_outbox", "authapi_last_deliveries"),
    *("authapi_login_tickets", "authapi_totp_factors", "authapi_recovery_codes"),
    *("authapi_passkeys", "authapi_used_challenges", "authapi_identities"),
)
ANONYMISED = ("ip", "network", "user_agent", "request_id", "detail")


@contextmanager
def restricted(url: str, name: str) -> Iterator[str]:
    """Yields the URL of the database for a new role, which is dropped afterwards."""
    sql(
        url,
        f"CREATE ROLE {name} LOGIN PASSWORD 'canary'",
        f"GRANT SELECT ON authapi_version TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(CHANGED)} TO {name}",
        f"GRANT SELECT, INSERT, UPDATE ({', '.join(ANONYMISED)}) ON authapi_events TO {name}",
    )
    try:
        own = sa.make_url(url).set(username=name, password="canary")
        yield own.render_as_string(hide_password=False)
    finally:
        sql(url, cut_off(name), f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def cut_off(name: str) -> str:
    """Returns the statement that terminates the sessions of a role."""
    return f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'"
