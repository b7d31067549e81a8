"""Helpers for tests of applications that use authapi: a client, users, and `acting_as`.

    async with client(app) as api:
        alice = await api.create_user()
        with acting_as(alice, scopes={"reports:read"}):
            response = await api.get("/reports")

`acting_as` replaces only the credential. The gates of the route still run, so a test fails if a
scope is missing or the login is too old. Mail is not sent: `await api.outbox()` returns it.

`authapi.testing.strategy_contract` is a test suite for strategies.
"""

from authapi.testing.acting import acting_as
from authapi.testing.client import PASSWORD, Client, client

__all__ = ["PASSWORD", "Client", "acting_as", "client"]
