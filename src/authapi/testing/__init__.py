"""Helpers for tests of applications that use authapi: clients, users, `acting_as`, a database.

    async with client(app) as api:
        alice = await api.create_user()
        with acting_as(alice, scopes={"reports:read"}):
            response = await api.get("/reports")

`acting_as` replaces only the credential. The gates of the route still run, so a test fails if a
scope is missing or the login is too old or too weak. Mail is not sent: `await api.outbox()` returns
it. `sync_client` does the same for synchronous tests. `CleanDatabase` is a database that is clean
before each test. The pytest plugin (`authapi.pytest_plugin`) has fixtures of them.

`authapi.testing.strategy_contract` is a test suite for strategies.
"""

from authapi.testing.acting import acting_as
from authapi.testing.authenticator import Authenticator
from authapi.testing.client import PASSWORD, Client, client
from authapi.testing.databases import CleanDatabase
from authapi.testing.passkeys import SoftPasskey
from authapi.testing.sync_client import SyncAuthenticator, SyncClient, sync_client

__all__ = [
    "PASSWORD",
    "Authenticator",
    "CleanDatabase",
    "Client",
    "SoftPasskey",
    "SyncAuthenticator",
    "SyncClient",
    "acting_as",
    "client",
    "sync_client",
]
