"""Tokens of another issuer, which is asked about each (RFC 7662)."""

import asyncio
import base64
import logging
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import TypeAlias
from urllib.parse import quote_plus

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto.secrets import SecretHash, hash_secret
from authapi.errors import ConfigurationError, InvalidCredential, IssuerUnavailable, TokenError
from authapi.identity import Identity
from authapi.strategies.base import REALM, Challenge, Strategy, Unknown, bearer_credential
from authapi.verify.claims import SCOPE_CLAIMS, Reader, several
from authapi.verify.memory import Memory
from authapi.verify.metadata import checked_issuer, checked_url
from authapi.verify.outgoing import MAX_CONNECTIONS, Backoff, Outgoing, Unreachable

_log = logging.getLogger("authapi.verify")

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1: about anything else nobody is asked."""
_MOST_CACHED = timedelta(minutes=5)
_REFUSED_FOR = timedelta(seconds=5)
_MOST_BACKOFF = 5.0
_MOST_SILENCE = 60.0
"""Seconds between two lines of the log about requests that are refused."""
_ABOUT_THE_REQUEST = frozenset({400, 413, 414, 422, 431})
"""Statuses by which an endpoint refuses one request (RFC 9110, section 15.5; RFC 6585, section 5).
The token in it is all that differs from one request to the next."""


Credential: TypeAlias = SecretStr | str | tuple[SecretStr | str, SecretStr | str]
"""A bearer token, or a client id and its secret."""


class _RequestRefused(Unreachable):
    """The endpoint is there, and does not want this token."""


class RemoteIntrospection(Strategy):
    """Bearer tokens that the introspection endpoint at `url` knows as active.

    `credential` is our own credential there: a bearer token, or a pair of client id and secret,
    which are sent as HTTP Basic (`client_secret_basic`, RFC 6749, section 2.3.1). JWTs are left to
    the strategies after this one unless `jwts` is True. If they are given, one of `audience` must
    be in the answer's `aud`, and `issuer` must be its `iss`. An answer is kept for `cache_for`,
    five minutes at most, and never for longer than its `exp`: so long a token lives on here after
    its end. Up to `known_callers` answers are kept. The rest is as in `RemoteJWT`.

    Raises ConfigurationError for what does not fit.
    """

    def __init__(
        self,
        url: str,
        credential: Credential,
        *,
        jwts: bool = False,
        audience: str | Collection[str] | None = None,
        issuer: str | None = None,
        scope_claims: Collection[str] = SCOPE_CLAIMS,
        subjects_are_ids: bool = True,
        name: str = "token",
        cache_for: timedelta = timedelta(seconds=10),
        timeout: timedelta = timedelta(seconds=5),
        known_callers: int = 10_000,
    ) -> None:
        # No services: there is no database behind this strategy.
        if not timedelta(0) <= cache_for <= _MOST_CACHED or timeout <= timedelta(0):
            raise ConfigurationError("cache_for must lie between 0 and 5 minutes, timeout above 0")
        self.name = name
        self.authorization_server = None if issuer is None else checked_issuer(issuer)
        self.issuer = issuer
        self.subjects_are_ids = subjects_are_ids
        self._url = checked_url(url, "the introspection endpoint")
        self._headers = {"Authorization": _authorization(credential)}
        self._takes_jwts = jwts
        self._audiences = None if audience is None else several(audience, "audience")
        self._outgoing = Outgoing(timeout=timeout)
        scopes = several(scope_claims, "scope_claims")
        self._reader = Reader(name, issuer or url, subjects_are_ids, scopes)
        self._backoff = Backoff(most=_MOST_BACKOFF)
        self._silence = Backoff(most=_MOST_SILENCE)
        self._known: Memory[Identity] = Memory(size=known_callers, longest=cache_for)
        # Apart, so that made-up tokens do not push out good ones.
        self._refused: Memory[bool] = Memory(
            size=known_callers, longest=min(cache_for, _REFUSED_FOR)
        )
        self._asking: dict[SecretHash, asyncio.Task[Identity | Exception]] = {}

    async def start(self) -> None:
        self._asking.clear()  # of an event loop that is over, if there is one

    async def stop(self) -> None:
        tasks = list(self._asking.values())
        self._asking.clear()
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._outgoing.close()

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        token = bearer_credential(connection)
        if token is None or not self._is_asked_about(token):
            return None
        if not _TOKEN.fullmatch(token):
            raise InvalidCredential
        credential = hash_secret(token)
        if self._refused.recall(credential):
            raise InvalidCredential
        found = self._known.recall(credential) or await self._asked(token, credential)
        if isinstance(found, Identity):
            return found
        raise found

    def recall(self, connection: HTTPConnection) -> Identity | Unknown | None:
        token = bearer_credential(connection)
        if token is None or not self._is_asked_about(token):
            return None
        return self._known.recall(hash_secret(token)) or Unknown.ASK

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        whose = self.issuer or "the issuer that this service trusts"
        kind = "A" if self._takes_jwts else "An opaque"
        return {"type": "http", "scheme": "bearer", "description": f"{kind} token of {whose}."}

    def _is_asked_about(self, token: str) -> bool:
        return self._takes_jwts or token.count(".") != 2

    async def _asked(self, token: str, credential: SecretHash) -> Identity | Exception:
        task = self._asking.get(credential)
        if task is None:
            if not self._backoff.is_over:
                return IssuerUnavailable(retry_after=self._backoff.retry_after)
            if len(self._asking) >= MAX_CONNECTIONS:
                return IssuerUnavailable()
            # A task of its own: a caller that hangs up leaves the answer to the others.
            task = asyncio.create_task(self._ask(token, credential), name="introspection")
            self._asking[credential] = task
            task.add_done_callback(partial(self._has_ended, credential))
        await asyncio.wait([task])
        return IssuerUnavailable() if task.cancelled() else task.result()

    def _has_ended(self, credential: SecretHash, task: asyncio.Task[Identity | Exception]) -> None:
        # A callback, as a task that is cancelled before its first step runs none of its own code.
        if self._asking.get(credential) is task:
            del self._asking[credential]

    async def _ask(self, token: str, credential: SecretHash) -> Identity | Exception:
        try:
            identity = self._identity(await self._claims(token))
        except TokenError:
            self._refused.keep(credential, True)
            return InvalidCredential()
        except _RequestRefused as error:
            # No reason to leave the endpoint in peace: a stranger could send such a token, and the
            # callers with good ones would be refused for it.
            if self._silence.is_over:
                self._silence.failed()
                _log.warning(
                    "an introspection endpoint refuses requests", extra={"cause": str(error)}
                )
            return IssuerUnavailable()
        except Unreachable as error:
            self._backoff.failed()
            _log.warning("an introspection endpoint cannot be asked", extra={"cause": str(error)})
            return IssuerUnavailable(retry_after=self._backoff.retry_after)
        self._known.keep(credential, identity, expires_at=identity.expires_at)
        return identity

    async def _claims(self, token: str) -> Mapping[str, object]:
        answer = await self._outgoing.post(self._url, {"token": token}, headers=self._headers)
        if answer.status in (401, 403):
            # It is we who may not ask; whether the token is good, nobody knows.
            _log.error("an introspection endpoint refuses our own credential")
        if answer.status in _ABOUT_THE_REQUEST:
            raise _RequestRefused(f"status {answer.status}")
        claims = answer.document()
        if not isinstance(claims.get("active"), bool):
            raise Unreachable("no introspection response")
        self._backoff.succeeded()
        return claims

    def _identity(self, claims: Mapping[str, object]) -> Identity:
        # A refresh token may be active as well, and says so: it opens nothing here.
        token_type = claims.get("token_type", "bearer")
        if claims["active"] is not True or not isinstance(token_type, str):
            raise TokenError
        if token_type.lower() != "bearer":
            raise TokenError
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise TokenError
        if self._audiences is not None:
            named = claims.get("aud")
            audiences = named if isinstance(named, list) else [named]
            if not any(audience in audiences for audience in self._audiences):
                raise TokenError
        identity = self._reader.identity(claims)
        if identity.expires_at is not None and now() >= identity.expires_at:
            raise TokenError
        return identity


def _authorization(credential: Credential) -> str:
    if isinstance(credential, SecretStr | str):
        text = _plain(credential)
        if not _TOKEN.fullmatch(text):
            raise ConfigurationError("the credential for introspection is no bearer token")
        return f"Bearer {text}"
    # RFC 6749, section 2.3.1: each part is form-encoded before the two are joined.
    parts = [quote_plus(_plain(part)) for part in credential]
    if len(parts) != 2 or not all(parts):
        raise ConfigurationError("the credential for introspection is no pair of id and secret")
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


def _plain(text: SecretStr | str) -> str:
    return text.get_secret_value() if isinstance(text, SecretStr) else text
