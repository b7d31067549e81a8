"""The settings of whatever answers HTTP: where it is reached, who may call, and how much it reads.

A service that only trusts others (`authapi.verify`) has no more than these; `Settings` adds what an
issuer needs.
"""

from datetime import timedelta
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from authapi.settings.fields import Lifetime, Networks, Origins, PublicURL, Scopes, Seconds
from authapi.settings.texts import without_line_ends

DOTENV = ".env"


class EdgeSettings(BaseSettings):
    """What the operator decides of any service. Without any, it is for this machine only."""

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
    """What production has no default for."""

    env: Literal["development", "production"] = "development"
    """`production` refuses whatever is only good for development."""
    public_url: PublicURL | None = None
    """Where clients reach this service; issuer of its tokens and base of its links."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    docs: bool | None = None
    """Serve /docs and /openapi.json; by default only in development."""
    scopes: Scopes = Field(default_factory=dict)
    """The scopes that exist. A login holds all, a personal access token those it was given.
    `introspect` exists in any case, and is of superusers only unless it is named here."""
    allowed_origins: Origins = ()
    """Origins, besides our own, whose pages may call us, with the cookie too (CORS)."""
    trusted_proxies: Networks = ()
    """Networks (CIDR) whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; both are read
    from the right."""
    fresh_max_age: Lifetime = timedelta(minutes=5)
    """How far a login may lie back for operations that ask for a fresh one."""
    access_log: bool = False
    """One line in the log for each request, besides those for security events."""
    max_body_bytes: int = Field(default=65536, ge=1024)
    """One request body; a longer one is answered 413 before it is read."""
    body_timeout: Seconds = Field(default=30.0, gt=0, le=3600)
    """Seconds that the head of a request, and then a body for a route of ours, may take to arrive;
    then it is answered 408. `HTTPProtocol` also ends every body that stands still for so long."""
    max_header_bytes: int = Field(default=32768, ge=4096)
    """All request headers together; the request target, and the trailers of a body, as well."""
    max_credential_bytes: int = Field(default=8192, ge=1024)
    """One Authorization or Cookie header."""
    max_json_depth: int = Field(default=20, ge=4, le=200)
    """How deep arrays and objects of a body may nest."""

    @model_validator(mode="before")
    @classmethod
    def _cleaned(cls, values: object) -> object:
        return without_line_ends(values)

    @model_validator(mode="after")
    def _checked(self) -> Self:
        self._fit_together()
        if self.env == "production":
            self._fit_for_production()
        return self

    def _fit_together(self) -> None:
        """Raise ValueError for values that contradict one another."""

    def _fit_for_production(self) -> None:
        names = self._required
        missing = [f"AUTHAPI_{name.upper()}" for name in names if getattr(self, name) is None]
        if missing:
            raise ValueError("production needs " + ", ".join(missing))
        if not self.cookie_secure:
            raise ValueError("production needs an https public_url, for the cookie to be Secure")

    @property
    def docs_enabled(self) -> bool:
        """Whether the docs page and the OpenAPI document are served."""
        return self.env == "development" if self.docs is None else self.docs

    @property
    def issuer(self) -> str:
        """The `iss` of our tokens: the public URL, or the loopback address in development."""
        return self.public_url or f"http://{_bracketed(self.host)}:{self.port}"

    @property
    def cookie_secure(self) -> bool:
        """False only for development on plain http, where browsers would not send the cookie."""
        return self.issuer.startswith("https://")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
