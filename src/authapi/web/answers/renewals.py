"""The new secret of a session whose user has proved a factor again, and the response with it."""

from starlette.responses import Response

from authapi.crypto.secrets import SecretHash
from authapi.domain.identity import Identity
from authapi.strategies.base import Renewable, Renewal
from authapi.strategies.registry import Registry


def renewal_of(registry: Registry, identity: Identity) -> Renewal | None:
    """Returns a new secret for the session of `identity`; None if its strategy replaces none."""
    strategy = registry[identity.strategy]
    return strategy.renew(identity) if isinstance(strategy, Renewable) else None


def secret_of(renewal: Renewal | None) -> SecretHash | None:
    """Returns the hash to store; None without a renewal."""
    return None if renewal is None else renewal.secret


def with_renewal(response: Response, renewal: Renewal | None) -> Response:
    """Adds the new secret to `response`, and returns it."""
    for name, value in renewal.headers if renewal else ():
        response.headers.append(name, value)
    return response
