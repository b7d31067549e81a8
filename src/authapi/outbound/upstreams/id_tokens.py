"""Verifies ID tokens (OpenID Connect Core 1.0, section 3.1.3.7)."""

import hashlib
import hmac
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from authapi.clock import now
from authapi.crypto import base64url, jws, strict_json
from authapi.errors import (
    IssuerUnavailable,
    ProviderAnswerRefused,
    ProviderUnavailable,
    TokenError,
    UnknownKey,
)
from authapi.outbound.http_client import HTTPClient, RequestFailed
from authapi.outbound.issuers.keys import KeyCache, RemoteKeys
from authapi.outbound.issuers.metadata import KeySource
from authapi.outbound.upstreams.endpoints import Endpoints
from authapi.outbound.upstreams.provider import Provider

_log = logging.getLogger("authapi.federation")

LEEWAY = timedelta(seconds=60)
"""How far the clock of a provider may be off."""
_MAX_LENGTH = 16384
_HASHES = {"256": hashlib.sha256, "EdDSA": hashlib.sha512}


class IDTokens:
    """Verifies the ID tokens of one provider with the keys that it publishes."""

    def __init__(self, provider: Provider, client: HTTPClient) -> None:
        self._provider = provider
        self._client = client
        self._jwks_url = ""
        self._algorithms = frozenset[str]()
        self._keys: RemoteKeys | None = None

    async def verify(
        self, token: object, endpoints: Endpoints, *, nonce: str, access_token: str | None
    ) -> Mapping[str, object]:
        """Returns the claims of a valid ID token for this service and this `nonce`.

        Raises ProviderAnswerRefused with the name of the failed check, ProviderUnavailable if the
        keys cannot be read.
        """
        try:
            verified = await self._verify(token, endpoints)
        except TokenError as error:
            raise ProviderAnswerRefused(f"id_token {error.check}") from None
        claims = verified.claims
        given = claims.get("nonce")
        # Bytes, because the text of a token need not be ASCII.
        if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
            raise ProviderAnswerRefused("id_token nonce")
        self._check_parties(claims)
        if "at_hash" in claims:
            _check_access_token_hash(claims["at_hash"], token, access_token)
        return claims

    def keys(self, endpoints: Endpoints) -> RemoteKeys:
        """Returns the keys at the URL of `endpoints`, which are read at their first use."""
        url = endpoints.jwks_url or ""
        if self._keys is None or (url, endpoints.algorithms) != (self._jwks_url, self._algorithms):
            # A read from the former URL goes on: other callbacks may wait for it.
            self._keys = RemoteKeys(
                self._source(endpoints), KeyCache(), issuer=self._provider.issuer, log=_log
            )
            self._jwks_url, self._algorithms = url, endpoints.algorithms
        return self._keys

    async def check(self, endpoints: Endpoints) -> None:
        """Raises RequestFailed unless the provider publishes a key that can be used."""
        published = await self._source(endpoints).read()
        if not published.keys:
            raise RequestFailed("no usable key")

    def _source(self, endpoints: Endpoints) -> KeySource:
        return KeySource(
            self._provider.issuer,
            endpoints.jwks_url,
            self._client,
            algorithms=endpoints.algorithms,
        )

    async def stop(self) -> None:
        """Cancels a read of keys that is under way, and forgets the keys."""
        keys, self._keys = self._keys, None
        if keys is not None:
            await keys.stop()

    async def _verify(self, token: object, endpoints: Endpoints) -> jws.VerifiedToken:
        provider = self._provider
        rules = jws.ValidationRules(
            issuer=provider.issuer,
            audiences=(provider.client_id,),
            types=(None, "jwt"),
            identifiers=("iss", "sub"),
            algorithms=endpoints.algorithms,
            external=True,
            tenants=provider.options.tenants,
            leeway=LEEWAY.total_seconds(),
            iat_leeway=LEEWAY.total_seconds(),
            nbf_leeway=LEEWAY.total_seconds(),
            max_length=_MAX_LENGTH,
        )
        keys = self.keys(endpoints)
        key_set, timestamp = await keys.current(), now().timestamp()
        try:
            return jws.verify(token, keys=key_set, expected=rules, now=timestamp)
        except UnknownKey:
            try:
                newer = await keys.refresh(key_set)
            except IssuerUnavailable as error:
                raise ProviderUnavailable(retry_after=error.retry_after) from None
            return jws.verify(token, keys=newer, expected=rules, now=timestamp)

    def _check_parties(self, claims: Mapping[str, object]) -> None:
        audience, client = claims.get("aud"), self._provider.client_id
        has_several = isinstance(audience, list) and len(audience) > 1
        if ("azp" in claims or has_several) and claims.get("azp") != client:
            raise ProviderAnswerRefused("id_token azp")


def auth_time_of(claims: Mapping[str, object]) -> datetime | None:
    """Returns when the person authenticated; None if the token does not say.

    A moment in the future, which is within the leeway, is now. Raises ProviderAnswerRefused.
    """
    value = claims.get("auth_time")
    if value is None:
        return None
    current = now()
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ProviderAnswerRefused("id_token auth_time")
    if value > (current + LEEWAY).timestamp():
        raise ProviderAnswerRefused("id_token auth_time")
    return min(datetime.fromtimestamp(value, UTC), current)


def _check_access_token_hash(expected: object, token: object, access_token: str | None) -> None:
    # OpenID Connect Core 1.0, 3.1.3.6: the left half of the hash of the algorithm of the token.
    algorithm = _algorithm_of(token)
    digest = next((it for suffix, it in _HASHES.items() if algorithm.endswith(suffix)), None)
    if digest is None or access_token is None or not isinstance(expected, str):
        raise ProviderAnswerRefused("id_token at_hash")
    full = digest(access_token.encode()).digest()
    computed = base64url.encode(full[: len(full) // 2])
    if not hmac.compare_digest(computed.encode(), expected.encode()):
        raise ProviderAnswerRefused("id_token at_hash")


def _algorithm_of(token: object) -> str:
    # `verify` has read this header already, and accepted its `alg`.
    header = strict_json.loads(base64url.decode(str(token).partition(".")[0]))
    return str(header["alg"]) if isinstance(header, dict) else ""
