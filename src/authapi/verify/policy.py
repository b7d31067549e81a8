"""What a token of another issuer has to be: the parameters of `RemoteJWT`, checked."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from authapi.crypto import jws
from authapi.crypto.ids import read_uuid
from authapi.crypto.jwk import VERIFIED_ALGORITHMS
from authapi.errors import ConfigurationError
from authapi.verify.claims import SCOPE_CLAIMS, several
from authapi.verify.metadata import KeySource, checked_issuer, checked_url
from authapi.verify.outgoing import Outgoing

ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
"""The `typ` of access tokens (RFC 9068, section 2.1)."""

_MAX_LEEWAY = timedelta(minutes=1)
_AHEAD = timedelta(seconds=30)
"""How far `nbf` and `iat` may lie ahead unless a leeway is given: clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """The parameters of `RemoteJWT` that decide on a token; their meaning stands there.

    Raises ConfigurationError for what does not fit.
    """

    issuer: str
    audience: str | Collection[str] | None = None
    client_ids: str | Collection[str] = ()
    client_claims: Collection[str] = jws.CLIENT_CLAIMS
    required_claims: Mapping[str, str | int | bool] = field(default_factory=dict)
    tenants: Collection[str] = ()
    jwks_url: str | None = None
    allow_http: bool = False
    types: Collection[str | None] = ACCESS_TOKEN_TYPES
    algorithms: Collection[str] = VERIFIED_ALGORITHMS
    leeway: timedelta | None = None
    max_lifetime: timedelta | None = None
    scope_claims: Collection[str] = SCOPE_CLAIMS

    def __post_init__(self) -> None:
        checked_issuer(self.issuer, allow_http=self.allow_http)
        if self.jwks_url is not None:
            checked_url(self.jwks_url, "jwks_url", allow_http=self.allow_http)
        _check_template(self.issuer)
        if self.audience is None and not self.client_ids:
            raise ConfigurationError(
                "a token must be for this service: name its audience, or client_ids where the"
                " issuer writes no aud"
            )
        several(self.types, "types")
        several(self.scope_claims, "scope_claims")
        several(self.client_claims, "client_claims")
        self._check_algorithms()
        self._check_tenants()
        self._check_required()
        if self.leeway is not None and not timedelta(0) <= self.leeway <= _MAX_LEEWAY:
            raise ConfigurationError("leeway must lie between 0 and 60 seconds")

    @property
    def is_template(self) -> bool:
        """Whether the issuer stands for several, one a tenant."""
        return jws.TENANT in self.issuer

    @property
    def late(self) -> timedelta:
        """How long after its `exp` a token is still accepted."""
        return self.leeway or timedelta(0)

    def expected(self, *, max_length: int = jws.MAX_LENGTH) -> jws.Expected:
        """What `jws.verify` has to ask of a token."""
        ahead = (_AHEAD if self.leeway is None else self.leeway).total_seconds()
        lifetime = self.max_lifetime
        return jws.Expected(
            issuer=self.issuer,
            audiences=None if self.audience is None else several(self.audience, "audience"),
            types=tuple(kind and jws.media_type(kind) for kind in several(self.types, "types")),
            required=("iss", "sub"),
            algorithms=several(self.algorithms, "algorithms"),
            foreign=True,
            clients=several(self.client_ids, "client_ids") if self.client_ids else (),
            client_claims=tuple(self.client_claims),
            claims=dict(self.required_claims),
            tenants=frozenset(self.tenants),
            leeway=self.late.total_seconds(),
            nbf_leeway=ahead,
            iat_leeway=ahead,
            max_lifetime=None if lifetime is None else int(lifetime.total_seconds()),
            max_length=max_length,
        )

    def key_source(self, outgoing: Outgoing) -> KeySource:
        """Where the keys of the issuer are read from."""
        return KeySource(
            self.issuer,
            self.jwks_url,
            outgoing,
            algorithms=self.algorithms,
            allow_http=self.allow_http,
        )

    def _check_algorithms(self) -> None:
        named = several(self.algorithms, "algorithms")
        if unknown := [name for name in named if name not in VERIFIED_ALGORITHMS]:
            raise ConfigurationError(
                f"algorithms: {', '.join(unknown)} not supported; there are "
                + ", ".join(VERIFIED_ALGORITHMS)
            )

    def _check_tenants(self) -> None:
        if isinstance(self.tenants, str) or not all(map(read_uuid, self.tenants)):
            raise ConfigurationError("tenants must be a list of UUIDs in lower case")
        if self.tenants and not self.is_template:
            raise ConfigurationError(f"tenants need an issuer with {jws.TENANT}")

    def _check_required(self) -> None:
        for value in self.required_claims.values():
            if not isinstance(value, str | int | bool):
                raise ConfigurationError("required_claims have texts, integers or booleans")


def _check_template(issuer: str) -> None:
    # A whole segment of the path, so that a tenant can change neither the host nor another segment.
    segments = urlsplit(issuer).path.split("/")
    rest = issuer.replace(jws.TENANT, "", 1) if segments.count(jws.TENANT) == 1 else issuer
    if "{" in rest or "}" in rest:
        raise ConfigurationError(
            f"an issuer may have {jws.TENANT}, once, as a whole segment of its path, and no other"
            " braces"
        )
