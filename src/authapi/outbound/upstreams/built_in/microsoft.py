"""Microsoft Entra ID (https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from authapi.crypto.ids import read_uuid
from authapi.crypto.jws import TENANT
from authapi.domain.federation.person import Person
from authapi.errors import ConfigurationError
from authapi.outbound.upstreams.provider import Provider
from authapi.settings.federation.options import ProviderOptions

_HOST = "https://login.microsoftonline.com"


class Microsoft(Provider):
    """People of Microsoft Entra tenants and of personal accounts.

    The administrator of any tenant can write any address into `email`, so that it proves nothing
    by itself.
    """

    title = "Microsoft"
    issuer = f"{_HOST}/{TENANT}/v2.0"
    proves_fresh_login = False  # `auth_time` is an optional claim, which most applications lack
    wanted_claims = ()  # its userinfo endpoint has no more than the ID token
    special_options: ClassVar[frozenset[str]] = frozenset({"tenants"})

    def __init__(self, options: ProviderOptions, *, name: str = "") -> None:
        """Raises ConfigurationError as `Provider`, and for a tenant that is no UUID."""
        if any(read_uuid(tenant) is None for tenant in options.tenants):
            raise ConfigurationError(f"the tenants of {name} must be UUIDs in lower case")
        if len(options.tenants) == 1:
            # An application of one tenant can only be reached by the address of the tenant.
            self.issuer = f"{_HOST}/{options.tenants[0]}/v2.0"
        super().__init__(options, name=name)

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Identifies a person by the tenant and the object id, which only they have.

        Raises ValueError for another tenant, and for ids that are no UUIDs.
        """
        tenant, user = claims["tid"], claims["oid"]
        if read_uuid(tenant) is None or read_uuid(user) is None:
            raise ValueError("not the ids of a tenant and a user")
        tenants = self.options.tenants
        if (tenants and tenant not in tenants) or f"/{tenant}/" not in claims["iss"]:
            raise ValueError("another tenant")
        email = claims.get("email")
        primary, owned = claims.get("verified_primary_email"), claims.get("xms_edov")
        is_verified = email is not None and (
            owned is True or owned == "1" or (isinstance(primary, list) and email in primary)
        )
        return Person(
            provider=self.name,
            issuer=claims["iss"],
            subject=f"{tenant}.{user}",
            email=email,
            email_verified=is_verified,
            is_authoritative=is_verified,
            name=claims.get("name"),
            claims=claims,
        )
