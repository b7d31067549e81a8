"""A strategy for opaque tokens of another issuer, verified by token introspection (RFC 7662)."""

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
from authapi.domain.identity import Identity
from authapi.errors import ConfigurationError, InvalidCredential, IssuerUnavailable, TokenError
from authapi.outbound.http_client import MAX_CONNECTIONS, HTTPClient, RequestFailed
from authapi.outbound.issuers.backoff import Backoff
from authapi.outbound.issuers.metadata import check_issuer, check_url
from authapi.strategies.base import REALM, BearerStrategy, Challenge
from authapi.verify.claims import SCOPE_CLAIMS, ClaimsReader, nonempty_tuple
from authapi.verify.ttl_cache import TTLCache

_log = logging.getLogger("authapi.verify")

_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""`b64token` of RFC 6750, section 2.1. Other credentials are rejected without a request."""
_MAX_CACHE_FOR = timedelta(minutes=5)
_INACTIVE_FOR = timedelta(seconds=5)
_MAX_BACKOFF = 5.0
_MAX_LOG_INTERVAL = 60.0
"""Seconds between two log lines about rejected requests."""
_REQUEST_ERRORS = frozenset({400, 413, 414, 422, 431})
"""Statuses that reject one request (RFC 9110, section 15.5; RFC 6585, section 5). Requests differ
only in their token, so such a status is about the token."""


Credential: TypeAlias = SecretStr | str | tuple[SecretStr | str, SecretStr | str]
"""A bearer token, or a client id and its secret."""


class _TokenRejected(RequestFailed):
    """The endpoint is available, and rejected the request with this token."""


class RemoteIntrospection(BearerStrategy):
    """Authenticates callers by tokens that the introspection endpoint at `url` reports as active.

    `credential` authenticates this service at the endpoint: a bearer token, or a pair of client id
    and secret, which is sent as HTTP Basic (`client_secret_basic`, RFC 6749, section 2.3.1). JWTs
    are left to the strategies after this one unless `jwts` is True. If `audience` is set, `aud` of
    the response must contain one of it; if `issuer` is set, `iss` must equal it. Introspection
    requests have a limit of `timeout`.

    A response is cached for `cache_for`, at most five minutes and never beyond its `exp`. A revoked
    token is accepted until then. Up to `known_callers` responses are cached. `scope_claims`,
    `subjects_are_ids` and `name` are as in `RemoteJWT`.

    Raises ConfigurationError if a parameter is not permitted.
    """

    users_are_accounts = False

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
        # Without services, because this strategy needs no database.
        if not timedelta(0) <= cache_for <= _MAX_CACHE_FOR or timeout <= timedelta(0):
            raise ConfigurationError("cache_for must be from 0 to 5 minutes, and timeout positive")
        self.name = name
        self.asked_before_body = cache_for > timedelta(0)
        self.authorization_server = None if issuer is None else check_issuer(issuer)
        self.issuer = issuer
        self.subjects_are_ids = subjects_are_ids
        self._url = check_url(url, "the introspection endpoint")
        self._headers = {"Authorization": _authorization(credential)}
        self._accepts_jwts = jwts
        self._audiences = None if audience is None else nonempty_tuple(audience, "audience")
        self._client = HTTPClient(timeout=timeout)
        scopes = nonempty_tuple(scope_claims, "scope_claims")
        self._claims_reader = ClaimsReader(name, issuer or url, subjects_are_ids, scopes)
        self._backoff = Backoff(max_delay=_MAX_BACKOFF)
        self._log_backoff = Backoff(max_delay=_MAX_LOG_INTERVAL)
        self._active: TTLCache[Identity] = TTLCache(size=known_callers, ttl=cache_for)
        # A separate cache, so that invented tokens do not evict valid ones.
        self._inactive: TTLCache[bool] = TTLCache(
            size=known_callers, ttl=min(cache_for, _INACTIVE_FOR)
        )
        self._in_flight: dict[SecretHash, asyncio.Task[Identity | Exception]] = {}

    async def start(self) -> None:
        self._in_flight.clear()  # tasks of an earlier event loop

    async def stop(self) -> None:
        tasks = list(self._in_flight.values())
        self._in_flight.clear()
        for task in tasks:
            task.cancel()
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            await self._client.close()

    def has_shape(self, token: str) -> bool:
        return self._accepts_jwts or token.count(".") != 2

    def cached(self, credential: str) -> Identity | None:
        return self._active.get(hash_secret(credential))

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if not _TOKEN68.fullmatch(credential):
            raise InvalidCredential
        key = hash_secret(credential)
        if self._inactive.get(key):
            raise InvalidCredential
        result = self._active.get(key) or await self._introspect_once(credential, key)
        if isinstance(result, Identity):
            return result
        raise result

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": REALM})

    def openapi(self) -> Mapping[str, object]:
        issuer = self.issuer or "the issuer that this service trusts"
        kind = "Token" if self._accepts_jwts else "Opaque token"
        return {"type": "http", "scheme": "bearer", "description": f"{kind} issued by {issuer}."}

    async def _introspect_once(self, token: str, credential: SecretHash) -> Identity | Exception:
        task = self._in_flight.get(credential)
        if task is None:
            if not self._backoff.is_elapsed:
                return IssuerUnavailable(retry_after=self._backoff.retry_after)
            if len(self._in_flight) >= MAX_CONNECTIONS:
                return IssuerUnavailable()
            # A separate task: if a waiting client disconnects, the other requests get the result.
            task = asyncio.create_task(self._introspect(token, credential), name="introspection")
            self._in_flight[credential] = task
            task.add_done_callback(partial(self._remove_task, credential))
        await asyncio.wait([task])
        return IssuerUnavailable() if task.cancelled() else task.result()

    def _remove_task(
        self, credential: SecretHash, task: asyncio.Task[Identity | Exception]
    ) -> None:
        # A callback, because a task that is cancelled before its first step never runs `finally`.
        if self._in_flight.get(credential) is task:
            del self._in_flight[credential]

    async def _introspect(self, token: str, credential: SecretHash) -> Identity | Exception:
        try:
            identity = self._to_identity(await self._fetch_claims(token))
        except TokenError:
            self._inactive.put(credential, True)
            return InvalidCredential()
        except _TokenRejected as error:
            # Without backoff: otherwise an attacker could send such a token to have all other
            # callers rejected.
            if self._log_backoff.is_elapsed:
                self._log_backoff.record_failure()
                _log.warning(
                    "introspection endpoint rejected a request", extra={"cause": str(error)}
                )
            return IssuerUnavailable()
        except RequestFailed as error:
            self._backoff.record_failure()
            _log.warning("introspection endpoint not available", extra={"cause": str(error)})
            return IssuerUnavailable(retry_after=self._backoff.retry_after)
        self._active.put(credential, identity, expires_at=identity.expires_at)
        return identity

    async def _fetch_claims(self, token: str) -> Mapping[str, object]:
        response = await self._client.post(self._url, {"token": token}, headers=self._headers)
        if response.status in (401, 403):
            # The endpoint rejected the credential of this service. The token may be valid.
            _log.error("introspection endpoint rejected the credential of this service")
        if response.status in _REQUEST_ERRORS:
            raise _TokenRejected(f"status {response.status}")
        claims = response.document()
        if not isinstance(claims.get("active"), bool):
            raise RequestFailed("no introspection response")
        self._backoff.record_success()
        return claims

    def _to_identity(self, claims: Mapping[str, object]) -> Identity:
        # A refresh token may be active too. It is not an access token, so it is rejected.
        token_type = claims.get("token_type", "bearer")
        if claims["active"] is not True or not isinstance(token_type, str):
            raise TokenError
        if token_type.lower() != "bearer":
            raise TokenError
        if self.issuer is not None and claims.get("iss") != self.issuer:
            raise TokenError
        if self._audiences is not None:
            aud = claims.get("aud")
            audiences = aud if isinstance(aud, list) else [aud]
            if not any(audience in audiences for audience in self._audiences):
                raise TokenError
        identity = self._claims_reader.read_identity(claims)
        if identity.expires_at is not None and now() >= identity.expires_at:
            raise TokenError
        return identity


def _authorization(credential: Credential) -> str:
    if isinstance(credential, SecretStr | str):
        text = _reveal(credential)
        if not _TOKEN68.fullmatch(text):
            raise ConfigurationError("the credential for introspection is not a bearer token")
        return f"Bearer {text}"
    # RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
    parts = [quote_plus(_reveal(part)) for part in credential]
    if len(parts) != 2 or not all(parts):
        raise ConfigurationError(
            "the credential for introspection must be a client id and a secret"
        )
    return "Basic " + base64.b64encode(":".join(parts).encode()).decode()


def _reveal(text: SecretStr | str) -> str:
    return text.get_secret_value() if isinstance(text, SecretStr) else text
