"""The endpoints of a provider: from its options, its class, or its metadata, in this order."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Literal
from urllib.parse import urlsplit

from authapi.errors import ConfigurationError, ProviderUnavailable
from authapi.outbound.http_client import HTTPClient, RequestFailed
from authapi.outbound.issuers.backoff import Backoff
from authapi.outbound.issuers.metadata import check_url, metadata_urls
from authapi.outbound.upstreams.provider import Provider

_log = logging.getLogger("authapi.federation")

ID_TOKEN_ALGORITHMS = frozenset({"RS256", "ES256", "PS256", "EdDSA"})
"""The algorithms of ID tokens: no symmetric one, as a public key could then be its secret."""
_MAX_BACKOFF = 60.0
_FRESH_FOR = 3600.0
"""Seconds until metadata is read again. An outage of the provider does not make it invalid."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a provider answers, and how."""

    authorization_url: str
    token_url: str
    userinfo_url: str | None
    jwks_url: str | None
    algorithms: frozenset[str]
    """The algorithms of its ID tokens that are accepted."""
    sends_issuer: bool
    """Whether every answer has the parameter `iss` (RFC 9207)."""
    client_auth: Literal["basic", "post"]


class EndpointSource:
    """Finds the endpoints of one provider, and keeps them.

    The metadata is requested at the first login. Concurrent logins share one request; after a
    failure, the next request waits 1, 2, 4 up to 60 seconds.
    """

    def __init__(self, provider: Provider, client: HTTPClient) -> None:
        self._provider = provider
        self._client = client
        self._backoff = Backoff(max_delay=_MAX_BACKOFF)
        self._endpoints: Endpoints | None = None
        self._stale_at = 0.0
        self._task: asyncio.Task[Endpoints] | None = None

    async def current(self) -> Endpoints:
        """Returns the endpoints. Raises ProviderUnavailable."""
        if self._endpoints is not None and monotonic() < self._stale_at:
            return self._endpoints
        try:
            return await self._shared_read()
        except (RequestFailed, ConfigurationError) as error:
            if self._endpoints is not None:
                return self._endpoints
            raise ProviderUnavailable(retry_after=self._backoff.retry_after) from error

    async def read(self) -> Endpoints:
        """Reads the endpoints.

        Raises RequestFailed if the metadata cannot be read, ConfigurationError if it belongs to
        another issuer or has no endpoint that can be used.
        """
        provider = self._provider
        if _is_complete(provider):
            document: Mapping[str, object] = {}
        else:
            document = await self._document()
        return _endpoints(provider, document)

    async def stop(self) -> None:
        """Cancels a request that is under way."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    async def _shared_read(self) -> Endpoints:
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            if not self._backoff.is_elapsed:
                raise RequestFailed("in backoff")
            # A separate task: if a client disconnects, other logins still get the result.
            task = self._task = asyncio.create_task(self._read_and_keep())
        return await asyncio.shield(task)

    async def _read_and_keep(self) -> Endpoints:
        try:
            endpoints = await self.read()
        except (RequestFailed, ConfigurationError) as error:
            self._backoff.record_failure()
            _log.log(
                logging.ERROR if isinstance(error, ConfigurationError) else logging.WARNING,
                "metadata of a provider not available",
                extra={"provider": self._provider.name, "cause": str(error)},
            )
            raise
        self._backoff.record_success()
        self._endpoints, self._stale_at = endpoints, monotonic() + _FRESH_FOR
        return endpoints

    async def _document(self) -> Mapping[str, object]:
        issuer, names_other = self._provider.issuer, False
        for url in reversed(metadata_urls(issuer)):  # that of OpenID Connect first
            response = await self._client.get(url)
            if response.status >= 500:
                raise RequestFailed(f"status {response.status}")
            try:
                document = response.document()
            except RequestFailed:
                continue
            if document.get("issuer") == issuer:
                return document
            names_other = True
        if names_other:
            raise ConfigurationError(
                f"the metadata of {issuer} names another issuer: set the option issuer of"
                f" {self._provider.name} to the name that is in the metadata"
            )
        raise RequestFailed("no metadata")


def _is_complete(provider: Provider) -> bool:
    needed = [provider.authorization_url, provider.token_url]
    if provider.has_id_token:
        needed.append(provider.jwks_url)
    return all(needed)


def _endpoints(provider: Provider, document: Mapping[str, object]) -> Endpoints:
    def url_of(name: str, given: str | None, *, required: bool) -> str | None:
        if given is not None:
            return given
        value = document.get(name)
        if value is None and not required:
            return None
        if not isinstance(value, str):
            raise ConfigurationError(f"the metadata of {provider.name} has no {name}")
        check_url(value, f"{name} in the metadata of {provider.name}")
        if urlsplit(provider.issuer).scheme == "https" and urlsplit(value).scheme != "https":
            # A provider must not make this process send requests to its own machine.
            raise ConfigurationError(f"{name} in the metadata of {provider.name} must be https")
        if _is_internal(value, provider.issuer):
            raise ConfigurationError(
                f"{name} in the metadata of {provider.name} is an internal address: set it as an"
                " option if it is right"
            )
        return value

    return Endpoints(
        authorization_url=url_of(
            "authorization_endpoint", provider.authorization_url, required=True
        )
        or "",
        token_url=url_of("token_endpoint", provider.token_url, required=True) or "",
        userinfo_url=url_of("userinfo_endpoint", provider.userinfo_url, required=False),
        jwks_url=url_of("jwks_uri", provider.jwks_url, required=provider.has_id_token),
        algorithms=_algorithms(provider, document),
        sends_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        client_auth=_client_auth(provider, document),
    )


def _is_internal(url: str, issuer: str) -> bool:
    """Whether a URL of the metadata names this machine or a private network by its address.

    The server of the issuer may have such an address itself. Names are not resolved here.
    """
    host = urlsplit(url).hostname or ""
    if host == urlsplit(issuer).hostname:
        return False
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        return True
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        pass
    try:  # other notations of IPv4, such as 2130706433 and 127.1
        return not ipaddress.ip_address(socket.inet_aton(host)).is_global
    except OSError:
        return False


def _algorithms(provider: Provider, document: Mapping[str, object]) -> frozenset[str]:
    listed = document.get("id_token_signing_alg_values_supported")
    if not isinstance(listed, list):
        return ID_TOKEN_ALGORITHMS
    usable = ID_TOKEN_ALGORITHMS.intersection(name for name in listed if isinstance(name, str))
    if not usable and provider.has_id_token:
        raise ConfigurationError(
            f"{provider.name} signs ID tokens with none of {', '.join(sorted(ID_TOKEN_ALGORITHMS))}"
        )
    return usable


def _client_auth(provider: Provider, document: Mapping[str, object]) -> Literal["basic", "post"]:
    if provider.options.client_auth is not None:
        return provider.options.client_auth
    listed = document.get("token_endpoint_auth_methods_supported")
    if not isinstance(listed, list) or "client_secret_basic" in listed:
        return "basic" if provider.has_id_token else "post"
    return "post"
