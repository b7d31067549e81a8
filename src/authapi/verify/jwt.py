"""JWTs of another issuer, verified with the keys that it publishes."""

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
from authapi.strategies.base import REALM, Challenge, Strategy, Unknown, bearer_credential
from authapi.verify.claims import SCOPE_CLAIMS, Reader, several
from authapi.verify.keys import KeyCache, RemoteKeys, Ring
from authapi.verify.memory import Memory
from authapi.verify.outgoing import Outgoing
from authapi.verify.policy import ACCESS_TOKEN_TYPES, TokenPolicy

_log = logging.getLogger("authapi.verify")

_KNOWN_FOR = timedelta(minutes=1)
_REFUSED = "a token is refused"
_LEFT = "a token is left to other strategies"


class RemoteJWT(Strategy):
    """Bearer tokens that `issuer` has signed for one of `audience`.

    `issuer` is compared letter by letter, with `iss` and with what the issuer says of itself. With
    `{tenantid}` as a segment of its path it stands for every tenant of Microsoft Entra, or for
    `tenants`: that segment of `iss` must be the claim `tid`, a UUID.
    `audience` is what `aud` must have one of. Where an issuer writes no `aud`, leave it out and
    name `client_ids`: tokens with `aud` are refused then. With both, both are checked. Each of
    `client_claims` that is in a token must name one of `client_ids`, and one must be there.
    `required_claims` must be there with these values.

    `jwks_url` is looked up at the issuer unless given. Both are https, or http on loopback;
    `allow_http` also takes http elsewhere, where no attacker can change what is sent.
    `algorithms` are what signatures may be by. A key is good for the `alg` of its JWK, and without
    one for those that fit its type.
    `types` are what `typ` may be, in any case and with or without `application/`; None stands for
    its absence. Where that lets ID tokens in, only `audience` keeps them out: see docs/verify.md.
    `leeway`, a minute at most, is how far clocks may differ, for `exp`, `nbf` and `iat` alike;
    without it, `exp` is exact and the others may lie 30 seconds ahead. `max_lifetime` bounds
    `exp - iat`.
    `scope_claims` name the claims that scopes are read from, as text or lists. A name is looked
    for among the claims first and is else a dotted path, as `realm_access.roles`.

    With `subjects_are_ids`, a `sub` that is a UUID is the id of the user, which is so for authapi;
    any other, and without it all, are made one from issuer and `sub`. Behind `{tenantid}` there are
    several issuers, so ids are always made. `known_callers` are remembered for a minute, so that
    their next request costs no signature.

    Raises ConfigurationError for what does not fit.
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
        # No services: there is no database behind this strategy.
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
        self._late = policy.late
        self._outgoing = Outgoing(timeout=cache.timeout)
        self._keys = RemoteKeys(policy.key_source(self._outgoing), cache, issuer=issuer)
        scopes = several(scope_claims, "scope_claims")
        self._reader = Reader(name, issuer, self.subjects_are_ids, scopes)
        self._known: Memory[Identity] = Memory(size=known_callers, longest=_KNOWN_FOR)
        self._known_under: Ring = {}
        self._others: tuple[RemoteJWT, ...] = ()

    def stand_beside(self, others: Iterable["RemoteJWT"]) -> None:
        """Set the other strategies of the application that verify JWTs.

        A token that one of them could verify is theirs to refuse: `authenticate` gives None for it.
        A token that none can verify is refused all the same, as the resolver takes a bearer token
        that no strategy recognises for a bad one.
        """
        self._others = tuple(others)

    def limit(self, max_length: int) -> None:
        """Set how many characters a token may have."""
        self._expected = replace(self._expected, max_length=max_length)

    async def start(self) -> None:
        await self._keys.start()

    async def stop(self) -> None:
        await self._keys.stop()
        await self._outgoing.close()

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None:
            return None
        if token.count(".") != 2:
            self._tell(_LEFT, jws.Check.FORMAT)
            return None
        ring = await self._keys.current()
        try:
            return self._verified(token, ring)
        except UnknownKey:
            pass
        except TokenError as refusal:
            self._refuse(token, ring, refusal)
            return None
        if any(self._leaves(token, other, other.signed(token)) for other in self._others):
            return None
        try:
            ring = await self._keys.look_again(ring)
        except IssuerUnavailable:
            # Another issuer may have published the key meanwhile.
            for other in self._others:
                if self._leaves(token, other, await other.signed_by_now(token)):
                    return None
            raise
        try:
            return self._verified(token, ring)
        except TokenError as refusal:
            self._refuse(token, ring, refusal)
            return None

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        token = bearer_credential(connection)
        if token is None or token.count(".") != 2:
            return None
        credential = hash_secret(token)
        found = self.remembered(credential)
        if found is None:
            if any(other.remembered(credential) for other in self._others):
                return None
            return Unknown.ASK
        # Keys are read again beside a request, also if every caller is known.
        return Unknown.ASK if self._keys.are_due else found

    def remembered(self, credential: SecretHash) -> Identity | None:
        """Who presented this a moment ago, while the keys are those that it was verified with."""
        if self._keys.at_hand() is not self._known_under:
            return None
        return self._known.recall(credential)

    def trusts(self, signed: jws.Verified) -> bool:
        """Whether the `iss` of a token that some issuer has signed is the one that counts here."""
        return jws.issuer_holds(signed.claims, self._expected, 0)

    def signed(self, token: str) -> jws.Verified | None:
        """What a token says that one of the keys at hand has signed, be it for this service or not.

        None for any other token.
        """
        return self._signed_under(token, self._keys.at_hand())

    async def signed_by_now(self, token: str) -> jws.Verified | None:
        """The same, with keys that are read again if none at hand has signed it."""
        ring = self._keys.at_hand()
        found = self._signed_under(token, ring)
        if found is not None:
            return found
        try:
            return self._signed_under(token, await self._keys.look_again(ring))
        except IssuerUnavailable:
            return None

    def can_verify(self, token: str) -> bool:
        """Whether this token is good, as far as the keys at hand tell."""
        try:
            self._claims(token, self._keys.at_hand())
        except TokenError:
            return False
        return True

    def may_verify(self, token: str, signed: jws.Verified) -> bool:
        """Whether this token is good here, or may be with a key that is not at hand.

        `signed` is the same token, signed by a key of another issuer: its `iss` can be relied on.
        """
        if not self.trusts(signed):
            return False
        try:
            self._claims(token, self._keys.at_hand())
        except UnknownKey:
            return True
        except TokenError as refusal:
            self._tell(_REFUSED, refusal.check)
            return False
        return True

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"A JWT of {self.issuer} for {', '.join(self._meant_for)}.",
        }

    @property
    def _meant_for(self) -> Collection[str]:
        return self._expected.audiences or self._expected.clients

    def _claims(self, token: str, ring: Ring) -> Mapping[str, object]:
        moment = now().timestamp()
        return jws.verify(token, keys=ring, expected=self._expected, now=moment).claims

    def _verified(self, token: str, ring: Ring) -> Identity:
        # Nothing here waits, so `ring` is what is at hand when the caller is remembered under it.
        identity = self._reader.identity(self._claims(token, ring))
        if ring is not self._known_under:
            self._known.forget()
            self._known_under = ring
        ends = None if identity.expires_at is None else identity.expires_at + self._late
        self._known.keep(hash_secret(token), identity, expires_at=ends)
        return identity

    def _refuse(self, token: str, ring: Ring, refusal: TokenError) -> None:
        """Raise InvalidCredential, unless the token may be for another strategy.

        A token that a key of this issuer has signed is for another strategy only if that trusts the
        same `iss`: one with other audiences, or of an issuer that shares its keys. What is signed
        by an unknown key is for each of them to say.
        """
        signed = self._signed_under(token, ring) if self._others else None
        if signed:
            leaves = any(other.may_verify(token, signed) for other in self._others)
        else:
            leaves = bool(self._others)
        self._tell(_LEFT if leaves else _REFUSED, refusal.check)
        if not leaves:
            raise InvalidCredential

    def _leaves(self, token: str, other: "RemoteJWT", signed: jws.Verified | None) -> bool:
        """Whether a token with a key that is unknown here is for `other`, which has `signed` it."""
        return signed is not None and (not self.trusts(signed) or other.can_verify(token))

    def _signed_under(self, token: str, ring: Ring) -> jws.Verified | None:
        try:
            parts = jws.split(token, self._expected)
            key = jws.signing_key(parts, ring, self._expected)
            return jws.Verified(jws.claims_of(parts), key)
        except TokenError:
            return None

    def _tell(self, what: str, check: str) -> None:
        # Which check failed, and nothing that is in the token.
        _log.debug(what, extra={"strategy": self.name, "issuer": self.issuer, "check": check})
