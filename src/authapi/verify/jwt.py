"""A strategy for JWTs of another issuer, verified with the keys that it publishes."""

import logging
import sys
from collections.abc import Collection, Mapping
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto import jws
from authapi.crypto.secrets import hash_secret
from authapi.domain.identity import Identity
from authapi.errors import InvalidCredential, IssuerUnavailable, TokenError, UnknownKey
from authapi.outbound.http_client import HTTPClient
from authapi.outbound.issuers.keys import KeyCache, KeySet, RemoteKeys
from authapi.strategies.base import REALM, Challenge, Strategy, bearer_credential
from authapi.verify.claims import ClaimsReader, nonempty_tuple
from authapi.verify.policy import DEFAULT_POLICY, TokenPolicy, TrustedIssuer
from authapi.verify.ttl_cache import TTLCache

_log = logging.getLogger("authapi.verify")

CACHE_TTL = timedelta(minutes=1)
REJECTED = "token rejected"
DEFERRED = "token left to other strategies"


class RemoteJWT(Strategy[str]):
    """Authenticates callers by JWTs that `issuer` signed for one of `audience` (RFC 9068).

    **Issuer.** `issuer` must equal `iss`, and the `issuer` in the metadata of the issuer, exactly.
    If a segment of its path is `{tenantid}`, it matches every tenant of Microsoft Entra, or only
    `policy.tenants`: that segment of `iss` must equal the claim `tid`, a UUID.

    **Audience.** `aud` must contain one of `audience`. For an issuer that writes no `aud`, omit
    `audience` and set `policy.client_ids`: tokens with an `aud` are then rejected. If both are set,
    both are checked.

    **Policy.** All other checks of a token are in `policy`. `cache` sets how long the keys of the
    issuer are cached.

    **Users.** With `subjects_are_ids`, a `sub` that is a UUID becomes the id of the user, as
    authapi writes it. Otherwise the id is derived from issuer and `sub`, always so with
    `{tenantid}`. The identities of up to `known_callers` tokens are cached for one minute, so that
    their next request verifies no signature.

    Raises ConfigurationError if a parameter is not permitted, or contradicts another.
    """

    users_are_accounts = False

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str] | None = None,
        *,
        policy: TokenPolicy = DEFAULT_POLICY,
        subjects_are_ids: bool = True,
        name: str = "jwt",
        cache: KeyCache | None = None,
        known_callers: int = 10_000,
    ) -> None:
        # Without services, because this strategy needs no database.
        trusted = TrustedIssuer(issuer, audience, policy)
        cache = cache or KeyCache()
        self.name = name
        self.authorization_server = issuer.replace(jws.TENANT, "common")
        self.issuer = issuer
        self.subjects_are_ids = subjects_are_ids and not trusted.is_template
        # The middleware limits the length of the header.
        self._expected = trusted.expected(max_length=sys.maxsize)
        self._exp_leeway = policy.exp_leeway
        self._client = HTTPClient(timeout=cache.timeout)
        self._keys = RemoteKeys(trusted.key_source(self._client), cache, issuer=issuer)
        scopes = nonempty_tuple(policy.scope_claims, "scope_claims")
        self._claims_reader = ClaimsReader(name, issuer, self.subjects_are_ids, scopes)
        self._identities: TTLCache[Identity] = TTLCache(size=known_callers, ttl=CACHE_TTL)
        self._identities_keys: KeySet = {}

    async def start(self) -> None:
        await self._keys.start()

    async def stop(self) -> None:
        await self._keys.stop()
        await self._client.close()

    def read(self, connection: HTTPConnection) -> str | None:
        token = bearer_credential(connection)
        if token is None:
            return None
        if token.count(".") != 2:
            self.log_decision(DEFERRED, jws.Check.FORMAT)
            return None
        return token

    def cached(self, credential: str) -> Identity | None:
        # Only `authenticate` reads the keys again, so it must run although the token is cached.
        # An identity is valid only with the key set that verified its token.
        if self._keys.is_refresh_due or self.cached_keys() is not self._identities_keys:
            return None
        return self._identities.get(hash_secret(credential))

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        key_set = await self.keys()
        try:
            try:
                return self.accept(credential, key_set)
            except UnknownKey:
                return self.accept(credential, await self.newer_keys(key_set))
        except TokenError as error:
            self.log_decision(REJECTED, error.check)
            raise InvalidCredential from None

    def cached_keys(self) -> KeySet:
        """Returns the keys of the issuer that are cached, without a request."""
        return self._keys.cached()

    async def keys(self) -> KeySet:
        """Returns the keys of the issuer, after a read if they are stale. Never raises."""
        return await self._keys.current()

    async def newer_keys(self, seen: KeySet) -> KeySet:
        """Returns the keys of the issuer, read again unless they were read a moment ago.

        `seen` is the key set without the key of a token. Raises IssuerUnavailable.
        """
        return await self._keys.refresh(seen)

    def accept(self, token: str, key_set: KeySet) -> Identity:
        """Returns the caller that the token names, and caches it.

        Raises TokenError if a check fails, and UnknownKey if no key of `key_set` is that of the
        token.
        """
        # Without `await`, so `key_set` is still the cached one when the identity is stored.
        identity = self._claims_reader.read_identity(self._verify(token, key_set))
        if key_set is not self._identities_keys:
            self._identities.clear()
            self._identities_keys = key_set
        expires_at = None if identity.expires_at is None else identity.expires_at + self._exp_leeway
        self._identities.put(hash_secret(token), identity, expires_at=expires_at)
        return identity

    def check_claims(self, token: str) -> None:
        """Checks the token with the cached keys. Raises TokenError as `accept`."""
        self._verify(token, self.cached_keys())

    def check_signature(self, token: str) -> jws.VerifiedToken | None:
        """Returns the token if one of the cached keys has signed it, else None.

        Its claims are not checked: it may be meant for another service.
        """
        return self.signed(token, self.cached_keys())

    async def check_signature_with_refresh(self, token: str) -> jws.VerifiedToken | None:
        """Like `check_signature`, but reads the keys again if no cached key has signed the token.

        Returns None if the issuer is unavailable.
        """
        key_set = self.cached_keys()
        signed = self.signed(token, key_set)
        if signed is not None:
            return signed
        try:
            return self.signed(token, await self.newer_keys(key_set))
        except IssuerUnavailable:
            return None

    def signed(self, token: str, key_set: KeySet) -> jws.VerifiedToken | None:
        """Returns the token if a key of `key_set` has signed it, else None."""
        try:
            parts = jws.parse(token, self._expected)
            key = jws.find_key(parts, key_set, self._expected)
            return jws.VerifiedToken(jws.parse_claims(parts), key)
        except TokenError:
            return None

    def trusts_issuer_of(self, signed: jws.VerifiedToken) -> bool:
        """Whether the `iss` of a token with a valid signature is the issuer of this strategy."""
        return jws.has_expected_issuer(signed.claims, self._expected, 0)

    def log_decision(self, what: str, check: str) -> None:
        """Logs which check of a token failed, and no content of the token."""
        _log.debug(what, extra={"strategy": self.name, "issuer": self.issuer, "check": check})

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        recipients = self._expected.audiences or self._expected.clients
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"JWT issued by {self.issuer} for {', '.join(recipients)}.",
        }

    def _verify(self, token: str, key_set: KeySet) -> Mapping[str, object]:
        timestamp = now().timestamp()
        return jws.verify(token, keys=key_set, expected=self._expected, now=timestamp).claims
