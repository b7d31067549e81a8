"""Networks from which an account was logged in to recently."""

from datetime import timedelta

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.client import UNKNOWN_NETWORK, Client
from authapi.services.rate_limits import KnownNetworkCheck
from authapi.storage import Database

_KNOWN_NETWORK_LIFETIME = timedelta(days=90)
"""How long after a login its network counts as known for the account."""


def known_network(database: Database, account: str, client: Client) -> KnownNetworkCheck:
    """Returns a check whether `account` was logged in to from the network of `client`.

    `account` is the canonical address. Logins of the last 90 days count. The check is one query;
    it raises StorageUnavailable if the database does not answer.
    """

    async def check() -> bool:
        network, since = client.network, first_id_at(now() - _KNOWN_NETWORK_LIFETIME)
        async with database.read() as store:
            has_login = await store.events.has_login(account, network=network, since=since)
        return has_login and network != UNKNOWN_NETWORK

    return check
