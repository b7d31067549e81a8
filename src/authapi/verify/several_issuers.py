"""Several strategies of one application that verify JWTs.

The shape of a JWT does not tell its issuer, and its claims may not be used before its signature was
verified. So each of these strategies reads every JWT. For a token that it does not accept, it asks
the others what they know about it, and decides:

* A token that another one may accept is left to the strategies after this one.
* A token that its issuer has signed, and that no other one trusts, is invalid.
* A token with an unknown key is invalid or left to another one only after its issuer was asked for
  new keys. While that issuer is unavailable, the token is neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import HTTPConnection

from authapi.crypto import jws
from authapi.crypto.secrets import hash_secret
from authapi.domain.identity import Identity
from authapi.errors import (
    InvalidCredential,
    IssuerUnavailable,
    TokenError,
    UnknownKey,
    UnrecognizedCredential,
)
from authapi.outbound.issuers.keys import KeySet
from authapi.strategies.base import Challenge, Strategy
from authapi.verify.jwt import CACHE_TTL, DEFERRED, REJECTED, RemoteJWT
from authapi.verify.ttl_cache import TTLCache

_SIZE = 10_000


def with_others(strategies: Sequence[Strategy[Any]]) -> Sequence[Strategy[Any]]:
    """Returns the strategies, each `RemoteJWT` as an `OneOfSeveral` if there are several."""
    remote = [strategy for strategy in strategies if isinstance(strategy, RemoteJWT)]
    if len(remote) < 2:
        return strategies
    return [
        OneOfSeveral(strategy, [other for other in remote if other is not strategy])
        if isinstance(strategy, RemoteJWT)
        else strategy
        for strategy in strategies
    ]


class OneOfSeveral(Strategy[str]):
    """A `RemoteJWT` in an application with `others`.

    `authenticate` raises UnrecognizedCredential for a token that is left to the others.
    """

    users_are_accounts = False

    def __init__(self, own: RemoteJWT, others: Sequence[RemoteJWT]) -> None:
        # Without services, as `RemoteJWT`.
        self.name = own.name
        self.authorization_server = own.authorization_server
        self._own = own
        self._others = others
        # Tokens left to the others, with the key set at that time: the next request with a token
        # that another strategy has cached verifies no signature.
        self._left: TTLCache[KeySet] = TTLCache(size=_SIZE, ttl=CACHE_TTL)

    async def start(self) -> None:
        await self._own.start()

    async def stop(self) -> None:
        await self._own.stop()

    def read(self, connection: HTTPConnection) -> str | None:
        return self._own.read(connection)

    def cached(self, credential: str) -> Identity | None:
        return self._own.cached(credential)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        key = hash_secret(credential)
        if self._left.get(key) is self._own.cached_keys() and any(
            other.cached(credential) for other in self._others
        ):
            raise UnrecognizedCredential
        key_set = await self._own.keys()
        try:
            return await self._authenticate(credential, key_set)
        except UnrecognizedCredential:
            self._left.put(key, key_set)
            raise

    async def _authenticate(self, credential: str, key_set: KeySet) -> Identity:
        try:
            return self._own.accept(credential, key_set)
        except UnknownKey:
            pass
        except TokenError as error:
            raise self._refusal(credential, key_set, error) from None
        for other in self._others:
            if self._belongs_to(other, credential, other.check_signature(credential)):
                raise UnrecognizedCredential
        try:
            key_set = await self._own.newer_keys(key_set)
        except IssuerUnavailable:
            # The key may be a new key of another issuer.
            for other in self._others:
                signed = await other.check_signature_with_refresh(credential)
                if self._belongs_to(other, credential, signed):
                    raise UnrecognizedCredential from None
            raise
        try:
            return self._own.accept(credential, key_set)
        except TokenError as error:
            raise self._refusal(credential, key_set, error) from None

    def challenge(self) -> Challenge:
        return self._own.challenge()

    def openapi(self) -> Mapping[str, object]:
        return self._own.openapi()

    def _refusal(self, token: str, key_set: KeySet, error: TokenError) -> InvalidCredential:
        """Returns UnrecognizedCredential if another strategy may accept the token.

        A token with a valid signature of this issuer is left only to a strategy that trusts the
        same `iss`: one with another audience, or for an issuer with the same keys. A token with an
        unknown key is left to all of them.
        """
        signed = self._own.signed(token, key_set)
        is_left = signed is None or any(_may_accept(other, token, signed) for other in self._others)
        self._own.log_decision(DEFERRED if is_left else REJECTED, error.check)
        return UnrecognizedCredential() if is_left else InvalidCredential()

    def _belongs_to(self, other: RemoteJWT, token: str, signed: jws.VerifiedToken | None) -> bool:
        """Whether `other` decides on a token with an unknown key.

        `signed` is the token, if a key of `other` has signed it.
        """
        if signed is None:
            return False
        return not self._own.trusts_issuer_of(signed) or _accepts(other, token)


def _accepts(other: RemoteJWT, token: str) -> bool:
    try:
        other.check_claims(token)
    except TokenError:
        return False
    return True


def _may_accept(other: RemoteJWT, token: str, signed: jws.VerifiedToken) -> bool:
    """Whether the token passes all checks of `other` with its cached keys, or has an unknown key.

    `signed` is the same token, whose signature another strategy has verified: its `iss` can be
    trusted.
    """
    if not other.trusts_issuer_of(signed):
        return False
    try:
        other.check_claims(token)
    except UnknownKey:
        return True
    except TokenError as error:
        other.log_decision(REJECTED, error.check)
        return False
    return True
