"""Where an issuer keeps its keys, and which of them may be used.

The address is given, or found in the issuer's metadata (RFC 8414; OpenID Connect Discovery 1.0),
which must say that it is the issuer that was configured, letter by letter (OWASP ASVS 10.5.3): else
whoever answers there could name keys of their own.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

from authapi.crypto.jwk import VERIFIED_ALGORITHMS, VerifyingKey, key_ring, read_jwk
from authapi.crypto.jws import TENANT
from authapi.errors import ConfigurationError, KeyRefused
from authapi.verify.outgoing import Answer, Outgoing, Unreachable

MAX_KEYS = 100
"""In one JWK set. Reading one costs some ten microseconds."""


@dataclass(frozen=True, slots=True)
class Published:
    """The keys of an issuer, and for how long it says that they may be kept."""

    keys: Mapping[str, VerifyingKey]
    max_age: timedelta | None


class KeySource:
    """Reads the keys of one issuer that may be used with `algorithms`.

    With `allow_http` its metadata may name an http address, unless the issuer itself is https.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        outgoing: Outgoing,
        *,
        algorithms: Collection[str] = VERIFIED_ALGORITHMS,
        allow_http: bool = False,
    ) -> None:
        self._issuer = issuer
        self._given = jwks_url
        self._found: str | None = None
        self._outgoing = outgoing
        self._algorithms = frozenset(algorithms)
        self._allow_http = allow_http

    async def read(self) -> Published:
        """Ask the issuer. Raises Unreachable, or ConfigurationError for the metadata of another."""
        url = self._given or self._found or await self._discover()
        self._found = None  # if this fails, it may have moved
        answer = await self._outgoing.get(url)
        keys = _usable(answer.document(), self._algorithms)
        self._found = url
        return Published(keys, _max_age(answer))

    async def _discover(self) -> str:
        others = False
        for url in metadata_urls(self._issuer):
            answer = await self._outgoing.get(url)
            if answer.status >= 500:
                raise Unreachable(f"status {answer.status}")
            try:
                document = answer.document()
            except Unreachable:
                continue  # an issuer has one of the two kinds of metadata, or both
            if document.get("issuer") != self._issuer:
                others = True
                continue
            return self._checked(document.get("jwks_uri"))
        if others:
            raise ConfigurationError(
                f"what {self._issuer} says of itself names another issuer: write it as it does"
            )
        raise Unreachable("no metadata")

    def _checked(self, url: object) -> str:
        if not isinstance(url, str):
            raise Unreachable("no jwks_uri")
        try:
            checked_url(url, "jwks_uri", allow_http=self._allow_http)
            clear = urlsplit(url).scheme == "http" and urlsplit(self._issuer).scheme == "https"
        except ConfigurationError:
            raise Unreachable("a jwks_uri that is not to be used") from None
        if clear:  # a stranger to this machine has no business on its loopback
            raise Unreachable("a jwks_uri that is not to be used")
        return url


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where the metadata of an issuer may be: RFC 8414, section 3; OpenID Discovery, section 4.

    Those for all tenants of Microsoft Entra are published for a tenant called `common`.
    """
    parts = urlsplit(issuer.replace(TENANT, "common"))
    path = parts.path.rstrip("/")
    inserted = parts._replace(path=f"/.well-known/oauth-authorization-server{path}")
    appended = parts._replace(path=f"{path}/.well-known/openid-configuration")
    return inserted.geturl(), appended.geturl()


def checked_url(url: str, what: str, *, allow_http: bool = False) -> str:
    """`url`, if keys and claims may come from there: https, or this machine itself.

    With `allow_http` also plain http, for networks where no attacker can change what is sent.
    Raises ConfigurationError, which does not repeat the URL.
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


def checked_issuer(url: str, *, allow_http: bool = False) -> str:
    """The same for an issuer, which has no query either (RFC 8414, section 2)."""
    if urlsplit(checked_url(url, "the issuer", allow_http=allow_http)).query:
        raise ConfigurationError("the issuer must have no query")
    return url


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _usable(
    document: Mapping[str, object], algorithms: Collection[str]
) -> Mapping[str, VerifyingKey]:
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise Unreachable("no JWK set")
    keys = []
    for members in listed:
        try:
            keys.append(read_jwk(members, algorithms=algorithms, must_be_named=False))
        except KeyRefused:
            continue  # for encryption, of another algorithm, too weak: not for us
    counts = Counter(key.kid for key in keys)
    # Which of two is meant cannot be known.
    return key_ring(key for key in keys if counts[key.kid] == 1)


def _max_age(answer: Answer) -> timedelta | None:
    for directive in answer.cache_control.split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name in {"no-store", "no-cache"}:
            return timedelta(0)
        # Longer numbers are for ever, and no timedelta takes them.
        if name == "max-age" and value.isascii() and value.isdigit() and len(value) <= 9:
            return timedelta(seconds=int(value))
    return None
