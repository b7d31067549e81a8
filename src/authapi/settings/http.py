"""Settings of every HTTP service: public URL, permitted origins and proxies, limits on requests.

A resource server (`authapi.verify`) has only these. `Settings` adds the settings of an issuer.
"""

from datetime import timedelta
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from authapi.settings.field_types import Duration, Networks, Origins, PublicURL, Scopes, Seconds
from authapi.settings.values.normalization import strip_line_ends

DOTENV = ".env"


class EdgeSettings(BaseSettings):
    """Settings of every HTTP service. The defaults are for development on this machine."""

    model_config = SettingsConfigDict(
        env_prefix="AUTHAPI_",
        env_file=DOTENV,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    _required: ClassVar[tuple[str, ...]] = ("public_url",)
    """Settings without a default in production."""

    env: Literal["development", "production"] = "development"
    """`production` rejects settings that are safe only in development."""
    public_url: PublicURL | None = None
    """URL of this application for clients. The issuer of tokens and the links begin with it."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 selects a free one."""
    docs: bool | None = None
    """Serve /docs and /openapi.json; by default only in development."""
    scopes: Scopes = Field(default_factory=dict)
    """The existing scopes and their meanings. A login has all of them; a personal access token has
    those it was created with. `introspect` always exists; unless it is listed here, only superusers
    have it."""
    allowed_origins: Origins = ()
    """Other origins whose pages may send requests with cookies (CORS)."""
    trusted_proxies: Networks = ()
    """Networks (CIDR) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted. Both
    are read from right to left."""
    fresh_max_age: Duration = timedelta(minutes=5)
    """Maximum age of the login for operations that require a recent login."""
    access_log: bool = False
    """Log one line per request, in addition to security events."""
    max_body_bytes: int = Field(default=65536, ge=1024)
    """Maximum size of a request body. A longer one gets 413 before it is read."""
    body_timeout: Seconds = Field(default=30.0, gt=0, le=3600)
    """Seconds in which the head of a request, and then the body for a built-in route, must arrive;
    otherwise the response is 408. `HTTPProtocol` also ends any body that stalls for this time."""
    max_header_bytes: int = Field(default=32768, ge=4096)
    """Maximum size of all request headers; the same limit applies to the request target, and to
    the trailers of a body."""
    max_credential_bytes: int = Field(default=8192, ge=1024)
    """Maximum size of one Authorization or Cookie header."""
    max_json_depth: int = Field(default=20, ge=4, le=200)
    """Maximum nesting of arrays and objects in a JSON body."""

    _prefix: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _strip_line_ends(cls, values: object) -> object:
        return strip_line_ends(values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_consistency()
        if self.env == "production":
            self._check_production()
        return self

    def _check_consistency(self) -> None:
        """Raises ValueError if values contradict one another."""

    def _check_production(self) -> None:
        names = self._required
        missing = [f"AUTHAPI_{name.upper()}" for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError("production needs " + ", ".join(missing))
        if not self.cookie_secure:
            raise ValueError("production needs an https public_url, for the cookie to be Secure")

    @property
    def docs_enabled(self) -> bool:
        """Whether `/docs` and `/openapi.json` are served."""
        return self.env == "development" if self.docs is None else self.docs

    @property
    def base_url(self) -> str:
        """The URL of the application: the public URL, else the URL of host and port."""
        return self.public_url or f"http://{_bracket_ipv6(self.host)}:{self.port}"

    @property
    def prefix(self) -> str:
        """The path of authapi in the application, such as `/api/v1/auth`; empty by default."""
        return self._prefix

    def set_prefix(self, prefix: str) -> None:
        """Sets `prefix`. An installation calls this on its own copy, before the services start."""
        self._prefix = prefix

    @property
    def issuer(self) -> str:
        """The `iss` of issued tokens, and the base of links: `base_url` with the prefix."""
        return self.base_url + self._prefix

    @property
    def cookie_secure(self) -> bool:
        """Whether cookies are Secure. False only in development on plain http."""
        return self.base_url.startswith("https://")


def _bracket_ipv6(host: str) -> str:
    return f"[{host}]" if ":" in host else host
