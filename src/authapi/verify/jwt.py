"""JWTs of another issuer, verified with the keys that it publishes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto import jws
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.errors import (
    ConfigurationError,
    InvalidCredential,
    TokenError,
    UnknownKey,
)
from authapi.identity import Identity
from authapi.strategies.base import REALM, Challenge, Strategy, Unknown, bearer_credential
from authapi.verify.claims import SCOPE_CLAIMS, Reader, several
from authapi.verify.keys import KeyCache, RemoteKeys, Ring
from authapi.verify.memory import Memory
from authapi.verify.metadata import KeySource, checked_issuer, checked_url
from authapi.verify.outgoing import Outgoing

ACCESS_TOKEN_TYPES = ("at+jwt", "application/at+jwt")
"""The `typ` of access tokens (RFC 9068, section 2.1)."""

_IGNORED = ("x5t", "x5t#S256")
"""Thumbprints of a certificate: a key is found by its `kid` alone."""
_MAX_LEEWAY = timedelta(minutes=1)
_KNOWN_FOR = timedelta(minutes=1)


class RemoteJWT(Strategy):
    """Bearer tokens that `issuer` has signed with ES256 or RS256 for one of `audience`.

    `issuer` is compared letter by letter, with `iss` and with what the issuer says of itself.
    `jwks_url` is looked up there unless given. `types` are what `typ` may be; None stands for its
    absence. Where that lets ID tokens in, only `audience` keeps them out: see docs/verify.md.
    `leeway`, a minute at most, is how far clocks may differ; `max_lifetime` bounds `exp - iat`.
    `scope_claims` name the claims that scopes are read from, as text or lists.

    With `subjects_are_ids`, a `sub` that is a UUID is the id of the user, which is so for authapi;
    any other, and without it all, are made one from issuer and `sub`. `known_callers` are
    remembered for a minute, so that their next request costs no signature.

    Raises ConfigurationError for what does not fit.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Collection[str],
        *,
        jwks_url: str | None = None,
        types: Collection[str | None] = ACCESS_TOKEN_TYPES,
        leeway: timedelta = timedelta(0),
        max_lifetime: timedelta | None = None,
        scope_claims: Collection[str] = SCOPE_CLAIMS,
        subjects_are_ids: bool = True,
        name: str = "jwt",
        cache: KeyCache | None = None,
        known_callers: int = 10_000,
    ) -> None:
        # No services: there is no database behind this strategy.
        cache = cache or KeyCache()
        self.name = name
        self.authorization_server = checked_issuer(issuer)
        self.issuer = issuer
        self.subjects_are_ids = subjects_are_ids
        self._expected = jws.Expected(
            issuer=issuer,
            audiences=several(audience, "audience"),
            types=several(types, "types"),
            required=("iss", "sub"),
            ignored_header=_IGNORED,
            leeway=_bounded(leeway),
            max_lifetime=None if max_lifetime is None else int(max_lifetime.total_seconds()),
        )
        self._expected_of_one = replace(self._expected, kid_if_none="")
        self._leeway = leeway
        self._outgoing = Outgoing(timeout=cache.timeout)
        given = None if jwks_url is None else checked_url(jwks_url, "jwks_url")
        source = KeySource(issuer, given, self._outgoing)
        self._keys = RemoteKeys(source, cache, issuer=issuer)
        self._reader = Reader(name, issuer, subjects_are_ids, several(scope_claims, "scope_claims"))
        self._known: Memory[Identity] = Memory(size=known_callers, longest=_KNOWN_FOR)
        self._known_under: Ring = {}
        self._others: tuple[RemoteJWT, ...] = ()

    def stand_beside(self, others: Iterable["RemoteJWT"]) -> None:
        """There are tokens of other issuers: what these can verify is not ours to refuse.

        Which of them a token is for is found by trying, never by reading what it says of itself. A
        token that none can verify is refused all the same: the resolver takes a bearer token that
        nobody knows as its own for a bad one.
        """
        self._others = tuple(others)

    async def start(self) -> None:
        await self._keys.start()

    async def stop(self) -> None:
        await self._keys.stop()
        await self._outgoing.close()

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None or token.count(".") != 2:
            return None
        ring = await self._keys.current()
        try:
            return self._verified(token, ring)
        except UnknownKey:
            pass
        except TokenError:
            raise InvalidCredential from None
        if any(other.can_verify(token) for other in self._others):
            return None
        try:
            return self._verified(token, await self._keys.look_again(ring))
        except UnknownKey:
            if self._others:
                return None
            raise InvalidCredential from None
        except TokenError:
            raise InvalidCredential from None

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
        # Somebody has to see to the keys now and then, even if everybody is known.
        return Unknown.ASK if self._keys.are_due else found

    def remembered(self, credential: SecretHash) -> Identity | None:
        """Who presented this a moment ago, while the keys are those that it was verified with."""
        if self._keys.at_hand() is not self._known_under:
            return None
        return self._known.recall(credential)

    def can_verify(self, token: str) -> bool:
        """Whether the keys at hand are enough to know this token as good."""
        try:
            self._claims(token, self._keys.at_hand())
        except TokenError:
            return False
        return True

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": f"A JWT of {self.issuer} for {', '.join(self._expected.audiences)}.",
        }

    def _claims(self, token: str, ring: Ring) -> Mapping[str, object]:
        expected = self._expected_under(ring)
        return jws.verify(token, keys=ring, expected=expected, now=now().timestamp()).claims

    def _expected_under(self, ring: Ring) -> jws.Expected:
        if len(ring) > 1:
            return self._expected
        # A token that names no key is meant for the only one, or for one that is still to be read.
        only = next(iter(ring), "")
        if self._expected_of_one.kid_if_none != only:
            self._expected_of_one = replace(self._expected, kid_if_none=only)
        return self._expected_of_one

    def _verified(self, token: str, ring: Ring) -> Identity:
        # Nothing here waits, so `ring` is what is at hand when the caller is remembered under it.
        identity = self._reader.identity(self._claims(token, ring))
        if ring is not self._known_under:
            self._known.forget()
            self._known_under = ring
        ends = None if identity.expires_at is None else identity.expires_at + self._leeway
        self._known.keep(hash_secret(token), identity, expires_at=ends)
        return identity


def _bounded(leeway: timedelta) -> float:
    if not timedelta(0) <= leeway <= _MAX_LEEWAY:
        raise ConfigurationError("leeway must lie between 0 and 60 seconds")
    return leeway.total_seconds()
