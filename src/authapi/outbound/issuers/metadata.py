"""Finds the JWK set of an issuer, and selects the keys that signatures may use.

The URL is configured, or read from the metadata of the issuer (RFC 8414; OpenID Connect Discovery
1.0). The `issuer` in the metadata must equal the configured issuer exactly (OWASP ASVS 10.5.3):
otherwise another server that answers at the metadata URL could substitute its own keys.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

from authapi.crypto.jwk import VERIFIED_ALGORITHMS, VerifyingKey, keys_by_kid, read_jwk
from authapi.crypto.jws import TENANT
from authapi.errors import ConfigurationError, UnsupportedKey
from authapi.outbound.http_client import HTTPClient, RequestFailed, Response

MAX_KEYS = 100
"""Keys in one JWK set. Parsing one key takes about ten microseconds."""


@dataclass(frozen=True, slots=True)
class Published:
    """The usable keys of an issuer, and the `max-age` of its response."""

    keys: Mapping[str, VerifyingKey]
    max_age: timedelta | None


class KeySource:
    """Reads the keys of one issuer that fit one of `algorithms`.

    With `allow_http`, `jwks_uri` in the metadata may be an http URL unless the issuer is https.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        client: HTTPClient,
        *,
        algorithms: Collection[str] = VERIFIED_ALGORITHMS,
        allow_http: bool = False,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._discovered_url: str | None = None
        self._client = client
        self._algorithms = frozenset(algorithms)
        self._allow_http = allow_http

    async def read(self) -> Published:
        """Requests the JWK set, after its URL has been found.

        Raises RequestFailed if the issuer does not give a usable response, ConfigurationError if
        the metadata belongs to another issuer.
        """
        url = self._jwks_url or self._discovered_url or await self._discover()
        self._discovered_url = None  # discovered again after a failure: the URL may have changed
        response = await self._client.get(url)
        keys = _usable_keys(response.document(), self._algorithms)
        self._discovered_url = url
        return Published(keys, _max_age(response))

    async def _discover(self) -> str:
        has_other_issuer = False
        for url in metadata_urls(self._issuer):
            response = await self._client.get(url)
            if response.status >= 500:
                raise RequestFailed(f"status {response.status}")
            try:
                document = response.document()
            except RequestFailed:
                continue  # an issuer publishes at least one of the two kinds of metadata
            if document.get("issuer") != self._issuer:
                has_other_issuer = True
                continue
            return self._check_jwks_uri(document.get("jwks_uri"))
        if has_other_issuer:
            raise ConfigurationError(
                f"the metadata of {self._issuer} names another issuer: configure the name that is"
                " in the metadata"
            )
        raise RequestFailed("no metadata")

    def _check_jwks_uri(self, url: object) -> str:
        if not isinstance(url, str):
            raise RequestFailed("no jwks_uri")
        try:
            check_url(url, "jwks_uri", allow_http=self._allow_http)
            schemes = urlsplit(self._issuer).scheme, urlsplit(url).scheme
        except ConfigurationError:
            raise RequestFailed("a jwks_uri that is not permitted") from None
        if schemes == (
            "https",
            "http",
        ):  # a remote issuer must not make this process request a loopback URL
            raise RequestFailed("a jwks_uri that is not permitted")
        return url


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Returns both metadata URLs: RFC 8414, section 3, and OpenID Connect Discovery, section 4.

    Microsoft Entra publishes the metadata for all tenants under a tenant named `common`.
    """
    parts = urlsplit(issuer.replace(TENANT, "common"))
    path = parts.path.rstrip("/")
    inserted = parts._replace(path=f"/.well-known/oauth-authorization-server{path}")
    appended = parts._replace(path=f"{path}/.well-known/openid-configuration")
    return inserted.geturl(), appended.geturl()


def check_url(url: str, what: str, *, allow_http: bool = False) -> str:
    """Returns `url` if it is https, or http on loopback.

    `allow_http` permits plain http everywhere, for networks where no attacker can change traffic.
    Raises ConfigurationError otherwise; its text names `what` and does not repeat the URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError(f"{what} is no URL") from None
    if not url.isascii() or not url.isprintable() or " " in url or not parts.hostname:
        raise ConfigurationError(f"{what} is no URL")
    if "@" in parts.netloc or parts.fragment:
        raise ConfigurationError(f"{what} must have no user and no fragment")
    if parts.scheme != "https" and not (
        parts.scheme == "http" and (allow_http or _is_loopback(parts))
    ):
        raise ConfigurationError(
            f"{what} must be https; http only on loopback, or where allow_http permits it"
        )
    return url


def check_issuer(url: str, *, allow_http: bool = False) -> str:
    """Returns the URL of an issuer, checked as in `check_url` (RFC 8414, section 2).

    Raises ConfigurationError if the URL is not permitted or has a query.
    """
    if urlsplit(check_url(url, "the issuer", allow_http=allow_http)).query:
        raise ConfigurationError("the issuer must have no query")
    return url


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usable_keys(
    document: Mapping[str, object], algorithms: Collection[str]
) -> Mapping[str, VerifyingKey]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise RequestFailed("no JWK set")
    keys = []
    for members in listed:
        try:
            keys.append(read_jwk(members, algorithms=algorithms, kid_required=False))
        except UnsupportedKey:
            continue  # an encryption key, another algorithm, or too weak
    counts = Counter(key.kid for key in keys)
    # Two keys with one `kid` are ambiguous, so neither is used.
    return keys_by_kid(key for key in keys if counts[key.kid] == 1)


def _max_age(response: Response) -> timedelta | None:
    for directive in response.cache_control.split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name in {"no-store", "no-cache"}:
            return timedelta(0)
        # At most nine digits: timedelta cannot hold every longer number.
        if name == "max-age" and value.isascii() and value.isdigit() and len(value) <= 9:
            return timedelta(seconds=int(value))
    return None
