"""The rules that a JWT of another issuer must meet, validated."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from authapi.crypto import jws
from authapi.crypto.ids import read_uuid
from authapi.crypto.jwk import VERIFIED_ALGORITHMS
from authapi.errors import ConfigurationError
from authapi.outbound.http_client import HTTPClient
from authapi.outbound.issuers.metadata import KeySource, check_issuer, check_url
from authapi.verify.claims import SCOPE_CLAIMS, nonempty_tuple

ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
"""The `typ` of access tokens (RFC 9068, section 2.1)."""

_MAX_LEEWAY = timedelta(minutes=1)
_DEFAULT_LEEWAY = timedelta(seconds=30)
"""How far `nbf` and `iat` may be in the future if no leeway is given: clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPolicy:
    """What a token of an issuer must be, besides its issuer and its audience.

    **Client.** Each of `client_claims` that a token contains must be one of `client_ids`, and a
    token must contain at least one of them. `required_claims` must be present with these values.
    `tenants` restricts the tenants of Microsoft Entra: see `RemoteJWT`.

    **Keys.** `jwks_url` is read from the metadata of the issuer unless it is set. The URLs must be
    https, or http on loopback; `allow_http` permits http for other hosts, in networks where no
    attacker can change traffic. Signatures must use one of `algorithms`. A key verifies the `alg`
    of its JWK only, or without one, the algorithms that fit its type.

    **Header and times.** `typ` must be one of `types`, compared without case and with or without
    `application/`; None in `types` permits a missing `typ`. If `types` permit ID tokens, only the
    audience excludes them: see docs/verify.md. `leeway`, at most one minute, is the permitted
    clock difference for `exp`, `nbf` and `iat`. Without it, `exp` is exact, and `nbf` and `iat` may
    be 30 seconds in the future. `max_lifetime` limits `exp - iat`.

    **Scopes.** Scopes are read from `scope_claims`, each a string or a list. An entry is the name
    of a claim, or else a dotted path such as `realm_access.roles`.

    Raises ConfigurationError if a value is not permitted.
    """

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
        if self.jwks_url is not None:
            check_url(self.jwks_url, "jwks_url", allow_http=self.allow_http)
        nonempty_tuple(self.types, "types")
        nonempty_tuple(self.scope_claims, "scope_claims")
        nonempty_tuple(self.client_claims, "client_claims")
        self._check_algorithms()
        if isinstance(self.tenants, str) or not all(map(read_uuid, self.tenants)):
            raise ConfigurationError("tenants must be a list of UUIDs in lower case")
        for value in self.required_claims.values():
            if not isinstance(value, str | int | bool):
                raise ConfigurationError("required_claims must be strings, integers or booleans")
        if self.leeway is not None and not timedelta(0) <= self.leeway <= _MAX_LEEWAY:
            raise ConfigurationError("leeway must be between 0 and 60 seconds")

    @property
    def exp_leeway(self) -> timedelta:
        """How long a token is accepted after its `exp`."""
        return self.leeway or timedelta(0)

    def _check_algorithms(self) -> None:
        named = nonempty_tuple(self.algorithms, "algorithms")
        if unknown := [name for name in named if name not in VERIFIED_ALGORITHMS]:
            raise ConfigurationError(
                f"algorithms: {', '.join(unknown)} not supported; supported are "
                + ", ".join(VERIFIED_ALGORITHMS)
            )


DEFAULT_POLICY = TokenPolicy()
"""The policy for access tokens that follow RFC 9068, as those of authapi."""


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer, the audience that its tokens must have here, and the policy for them.

    Raises ConfigurationError if the issuer is not permitted, or contradicts the policy.
    """

    issuer: str
    audience: str | Collection[str] | None = None
    policy: TokenPolicy = DEFAULT_POLICY

    def __post_init__(self) -> None:
        check_issuer(self.issuer, allow_http=self.policy.allow_http)
        _check_template(self.issuer)
        if self.audience is None and not self.policy.client_ids:
            raise ConfigurationError(
                "a token must be for this service: set audience, or client_ids if the issuer"
                " writes no aud"
            )
        if self.policy.tenants and not self.is_template:
            raise ConfigurationError(f"tenants need an issuer with {jws.TENANT}")

    @property
    def is_template(self) -> bool:
        """Whether the issuer contains `{tenantid}`, and so matches one issuer per tenant."""
        return jws.TENANT in self.issuer

    def expected(self, *, max_length: int = jws.MAX_LENGTH) -> jws.ValidationRules:
        """Returns the rules in the form that `jws.verify` takes."""
        policy, lifetime = self.policy, self.policy.max_lifetime
        leeway = _DEFAULT_LEEWAY if policy.leeway is None else policy.leeway
        future_leeway = leeway.total_seconds()
        return jws.ValidationRules(
            issuer=self.issuer,
            audiences=None if self.audience is None else nonempty_tuple(self.audience, "audience"),
            types=tuple(
                kind and jws.media_type(kind) for kind in nonempty_tuple(policy.types, "types")
            ),
            identifiers=("iss", "sub"),
            algorithms=nonempty_tuple(policy.algorithms, "algorithms"),
            external=True,
            clients=nonempty_tuple(policy.client_ids, "client_ids") if policy.client_ids else (),
            client_claims=tuple(policy.client_claims),
            claims=dict(policy.required_claims),
            tenants=frozenset(policy.tenants),
            leeway=policy.exp_leeway.total_seconds(),
            nbf_leeway=future_leeway,
            iat_leeway=future_leeway,
            max_lifetime=None if lifetime is None else int(lifetime.total_seconds()),
            max_length=max_length,
        )

    def key_source(self, client: HTTPClient) -> KeySource:
        """Returns the reader of the keys of the issuer, which sends its requests with `client`."""
        return KeySource(
            self.issuer,
            self.policy.jwks_url,
            client,
            algorithms=self.policy.algorithms,
            allow_http=self.policy.allow_http,
        )


def _check_template(issuer: str) -> None:
    # A whole segment of the path, so that a tenant cannot change the host or another segment.
    segments = urlsplit(issuer).path.split("/")
    rest = issuer.replace(jws.TENANT, "", 1) if segments.count(jws.TENANT) == 1 else issuer
    if "{" in rest or "}" in rest:
        raise ConfigurationError(
            f"an issuer may have {jws.TENANT}, once, as a whole segment of its path, and no other"
            " braces"
        )
