"""A strategy for JWTs of another issuer, verified with the keys that it publishes."""

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto import jws
from authapi.crypto.jwk import VERIFIED_ALGORITHMS
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.errors import InvalidCredential, IssuerUnavailable, TokenError, UnknownKey
from authapi.identity import Identity
from authapi.outbound.http_client import HTTPClient
from authapi.strategies.base import REALM, Challenge, Strategy, Unknown, bearer_credential
from authapi.verify.claims import SCOPE_CLAIMS, ClaimsReader, nonempty_tuple
from authapi.verify.keys import KeyCache, KeySet, RemoteKeys
from authapi.verify.policy import ACCESS_TOKEN_TYPES, TokenPolicy
from authapi.verify.ttl_cache import TTLCache

_log = logging.getLogger("authapi.verify")

_CACHE_TTL = timedelta(minutes=1)
_REJECTED = "token rejected"
_DEFERRED = "token left to other strategies"


class RemoteJWT(Strategy):
    """Authenticates callers by JWTs that `issuer` signed for one of `audience` (RFC 9068).

    **Issuer.** `issuer` must equal `iss`, and the `issuer` in the metadata of the issuer, exactly.
    If a segment of its path is `{tenantid}`, it matches every tenant of Microsoft Entra, or only
    `tenants`: that segment of `iss` must equal the claim `tid`, a UUID.

    **Audience.** `aud` must contain one of `audience`. For an issuer that writes no `aud`, omit
    `audience` and set `client_ids`: tokens with an `aud` are then rejected. If both are set, both
    are checked. Each of `client_claims` that a token contains must be one of `client_ids`, and a
    token must contain at least one of them. `required_claims` must be present with these values.

    **Keys.** `jwks_url` is read from the metadata of the issuer unless it is set. The URLs must be
    https, or http on loopback; `allow_http` permits http for other hosts, in networks where no
    attacker can change traffic. Signatures must use one of `algorithms`. A key verifies the `alg`
    of its JWK only, or without one, the algorithms that fit its type. `cache` sets how long keys
    are cached.

    **Header and times.** `typ` must be one of `types`, compared without case and with or without
    `application/`; None in `types` permits a missing `typ`. If `types` permit ID tokens, only
    `audience` excludes them: see docs/verify.md. `leeway`, at most one minute, is the permitted
    clock difference for `exp`, `nbf` and `iat`. Without it, `exp` is exact, and `nbf` and `iat` may
    be 30 seconds in the future. `max_lifetime` limits `exp - iat`.

    **Scopes.** Scopes are read from `scope_claims`, each a string or a list. An entry is the name
    of a claim, or else a dotted path such as `realm_access.roles`.

    **Users.** With `subjects_are_ids`, a `sub` that is a UUID becomes the id of the user, as
    authapi writes it. Otherwise the id is derived from issuer and `sub`, always so with
    `{tenantid}`. The identities of up to `known_callers` tokens are cached for one minute, so that
    their next request verifies no signature.

    Raises ConfigurationError if a parameter is not permitted, or contradicts another.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str] | None = None,
        *,
        client_ids: str | Collection[str] = (),
        client_claims: Collection[str] = jws.CLIENT_CLAIMS,
        required_claims: Mapping[str, str | int | bool] | None = None,
        tenants: Collection[str] = (),
        jwks_url: str | None = None,
        allow_http: bool = False,
        algorithms: Collection[str] = VERIFIED_ALGORITHMS,
        types: Collection[str | None] = ACCESS_TOKEN_TYPES,
        leeway: timedelta | None = None,
        max_lifetime: timedelta | None = None,
        scope_claims: Collection[str] = SCOPE_CLAIMS,
        subjects_are_ids: bool = True,
        name: str = "jwt",
        cache: KeyCache | None = None,
        known_callers: int = 10_000,
    ) -> None:
        # Without services, because this strategy needs no database.
        policy = TokenPolicy(
            issuer=issuer,
            audience=audience,
            client_ids=client_ids,
            client_claims=client_claims,
            required_claims=required_claims or {},
            tenants=tenants,
            jwks_url=jwks_url,
            allow_http=allow_http,
            algorithms=algorithms,
            types=types,
            leeway=leeway,
            max_lifetime=max_lifetime,
            scope_claims=scope_claims,
        )
        cache = cache or KeyCache()
        self.name = name
        self.authorization_server = issuer.replace(jws.TENANT, "common")
        self.issuer = issuer
        self.subjects_are_ids = subjects_are_ids and not policy.is_template
        self._expected = policy.expected()
        self._exp_leeway = policy.exp_leeway
        self._client = HTTPClient(timeout=cache.timeout)
        self._keys = RemoteKeys(policy.key_source(self._client), cache, issuer=issuer)
        scopes = nonempty_tuple(scope_claims, "scope_claims")
        self._claims_reader = ClaimsReader(name, issuer, self.subjects_are_ids, scopes)
        self._identities: TTLCache[Identity] = TTLCache(size=known_callers, ttl=_CACHE_TTL)
        self._identities_keys: KeySet = {}
        self._other_strategies: tuple[RemoteJWT, ...] = ()

    def set_other_strategies(self, others: Iterable["RemoteJWT"]) -> None:
        """Sets the other strategies of the application that verify JWTs.

        For a token that one of them may accept, `authenticate` returns None. A token that none of
        them accepts is still rejected: the resolver rejects a bearer token without an identity.
        """
        self._other_strategies = tuple(others)

    def set_max_length(self, max_length: int) -> None:
        """Sets the longest permitted token, in characters."""
        self._expected = replace(self._expected, max_length=max_length)

    async def start(self) -> None:
        await self._keys.start()

    async def stop(self) -> None:
        await self._keys.stop()
        await self._client.close()

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None:
            return None
        if token.count(".") != 2:
            self._log_decision(_DEFERRED, jws.Check.FORMAT)
            return None
        key_set = await self._keys.current()
        try:
            return self._accept(token, key_set)
        except UnknownKey:
            pass
        except TokenError as error:
            self._reject(token, key_set, error)
            return None
        if any(
            self._belongs_to(token, other, other.check_signature(token))
            for other in self._other_strategies
        ):
            return None
        try:
            key_set = await self._keys.refresh(key_set)
        except IssuerUnavailable:
            # The key may be a new key of another issuer.
            for other in self._other_strategies:
                if self._belongs_to(token, other, await other.check_signature_with_refresh(token)):
                    return None
            raise
        try:
            return self._accept(token, key_set)
        except TokenError as error:
            self._reject(token, key_set, error)
            return None

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        token = bearer_credential(connection)
        if token is None or token.count(".") != 2:
            return None
        credential = hash_secret(token)
        cached = self.cached_identity(credential)
        if cached is None:
            if any(other.cached_identity(credential) for other in self._other_strategies):
                return None
            return Unknown.ASK
        # Only `authenticate` reads the keys again, so it must run although the token is cached.
        return Unknown.ASK if self._keys.is_refresh_due else cached

    def cached_identity(self, credential: SecretHash) -> Identity | None:
        """Returns the cached identity, if the key set that verified its token is still in use."""
        if self._keys.cached() is not self._identities_keys:
            return None
        return self._identities.get(credential)

    def trusts_issuer_of(self, signed: jws.VerifiedToken) -> bool:
        """Whether the `iss` of a token with a valid signature is the issuer of this strategy."""
        return jws.has_expected_issuer(signed.claims, self._expected, 0)

    def check_signature(self, token: str) -> jws.VerifiedToken | None:
        """Returns the token if one of the cached keys has signed it, else None.

        Its claims are not checked: it may be meant for another service.
        """
        return self._verify_signature(token, self._keys.cached())

    async def check_signature_with_refresh(self, token: str) -> jws.VerifiedToken | None:
        """Like `check_signature`, but reads the keys again if no cached key has signed the token.

        Returns None if the issuer is unavailable.
        """
        key_set = self._keys.cached()
        signed = self._verify_signature(token, key_set)
        if signed is not None:
            return signed
        try:
            return self._verify_signature(token, await self._keys.refresh(key_set))
        except IssuerUnavailable:
            return None

    def accepts(self, token: str) -> bool:
        """Whether this token passes all checks with the cached keys."""
        try:
            self._claims(token, self._keys.cached())
        except TokenError:
            return False
        return True

    def may_accept(self, token: str, signed: jws.VerifiedToken) -> bool:
        """Whether this token passes all checks with the cached keys, or has an unknown key.

        `signed` is the same token, whose signature another strategy has verified: its `iss` can
        be trusted.
        """
        if not self.trusts_issuer_of(signed):
            return False
        try:
            self._claims(token, self._keys.cached())
        except UnknownKey:
            return True
        except TokenError as error:
            self._log_decision(_REJECTED, error.check)
            return False
        return True

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"JWT issued by {self.issuer} for {', '.join(self._recipients)}.",
        }

    @property
    def _recipients(self) -> Collection[str]:
        return self._expected.audiences or self._expected.clients

    def _claims(self, token: str, key_set: KeySet) -> Mapping[str, object]:
        timestamp = now().timestamp()
        return jws.verify(token, keys=key_set, expected=self._expected, now=timestamp).claims

    def _accept(self, token: str, key_set: KeySet) -> Identity:
        # Without `await`, so `key_set` is still the cached one when the identity is stored.
        identity = self._claims_reader.read_identity(self._claims(token, key_set))
        if key_set is not self._identities_keys:
            self._identities.clear()
            self._identities_keys = key_set
        expires_at = None if identity.expires_at is None else identity.expires_at + self._exp_leeway
        self._identities.put(hash_secret(token), identity, expires_at=expires_at)
        return identity

    def _reject(self, token: str, key_set: KeySet, error: TokenError) -> None:
        """Raises InvalidCredential unless another strategy may accept the token.

        A token with a valid signature of this issuer is left only to a strategy that trusts the
        same `iss`: one with another audience, or for an issuer with the same keys. A token with an
        unknown key is left to all of them.
        """
        signed = self._verify_signature(token, key_set) if self._other_strategies else None
        if signed:
            is_left = any(other.may_accept(token, signed) for other in self._other_strategies)
        else:
            is_left = bool(self._other_strategies)
        self._log_decision(_DEFERRED if is_left else _REJECTED, error.check)
        if not is_left:
            raise InvalidCredential

    def _belongs_to(self, token: str, other: "RemoteJWT", signed: jws.VerifiedToken | None) -> bool:
        """Whether `other` decides on a token with an unknown key.

        `signed` is the token, if a key of `other` has signed it.
        """
        return signed is not None and (not self.trusts_issuer_of(signed) or other.accepts(token))

    def _verify_signature(self, token: str, key_set: KeySet) -> jws.VerifiedToken | None:
        try:
            parts = jws.parse(token, self._expected)
            key = jws.find_key(parts, key_set, self._expected)
            return jws.VerifiedToken(jws.parse_claims(parts), key)
        except TokenError:
            return None

    def _log_decision(self, what: str, check: str) -> None:
        # Logs which check failed, and no content of the token.
        _log.debug(what, extra={"strategy": self.name, "issuer": self.issuer, "check": check})
