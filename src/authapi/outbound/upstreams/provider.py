"""`Provider`: what is particular about one provider. Applications write their own in one class."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from authapi.domain.federation.person import Person
from authapi.errors import ConfigurationError
from authapi.settings.federation.options import ProviderOptions, title_from

SPECIAL_OPTIONS = frozenset(
    {
        *("trust_email", "emails_url", "tenants", "team_id", "key_id", "key_file"),
        "trusted_email_domains",
    }
)
"""Options that only some providers have; a class names its own in `special_options`."""


class Provider:
    """A provider at which people log in by OpenID Connect.

        class Corp(Provider):
            name, issuer = "corp", "https://id.corp.example"

            def person(self, claims, userinfo):
                return Person(self.name, self.issuer, claims["employee_id"], ...)

    `AUTHAPI_PROVIDERS` names the class as `module:Class`, and `AUTHAPI_PROVIDER_CORP_CLIENT_ID`
    and so on set its options. By default, the metadata of `issuer` says where everything is, and
    `person` reads the standard claims. Signature, issuer, audience, times and nonce of the ID token
    are checked before `person` is called.

    Raises ConfigurationError if an option is missing, or is not one of this provider.
    """

    name: str = ""
    """The name in paths: lower-case letters, digits and hyphens."""
    title: str = ""
    """The name for people. Default: `name` with a capital letter."""
    issuer: str = ""
    """The issuer, exactly as in its metadata and tokens. For a provider without ID tokens, a URL
    that stands for it."""
    scopes: Sequence[str] = ("openid", "email", "profile")
    """The scopes that are asked for."""
    proves_fresh_login: bool = True
    """Whether the provider obeys `max_age=0` and says in `auth_time` when the login was."""
    response_mode: Literal["query", "form_post"] = "query"
    """How the provider sends the browser back."""
    authorization_url: str | None = None
    token_url: str | None = None
    userinfo_url: str | None = None
    jwks_url: str | None = None

    has_id_token: ClassVar[bool] = True
    """Whether the provider issues ID tokens. Without them, `person` gets no claims, and all URLs
    above must be set."""
    wanted_claims: ClassVar[Sequence[str]] = ("email", "email_verified", "name")
    """The userinfo endpoint is asked if one of these is not in the ID token."""
    repeats_state: ClassVar[bool] = False
    """Whether the request that exchanges the code has the parameter `state` too."""
    parameters: ClassVar[Mapping[str, str]] = {}
    """Further parameters of the request that leads people to the provider."""
    special_options: ClassVar[frozenset[str]] = frozenset({"trusted_email_domains"})
    required_options: ClassVar[Sequence[str]] = ("client_id",)

    def __init__(self, options: ProviderOptions, *, name: str = "") -> None:
        self.options = options
        self.name = name or self.name
        self._check(options)
        self._check_people(options)
        self.title = options.title or self.title or title_from(self.name)
        self.issuer = options.issuer or self.issuer
        if not self.issuer:
            raise ConfigurationError(f"the provider {self.name} needs the option issuer")
        scopes = options.scopes or self.scopes
        self.scopes = scopes.split() if isinstance(scopes, str) else scopes
        self.response_mode = options.response_mode or self.response_mode
        for url in ("authorization_url", "token_url", "userinfo_url", "jwks_url"):
            setattr(self, url, getattr(options, url) or getattr(self, url))
        self.client_id = options.client_id or ""

    def _check(self, options: ProviderOptions) -> None:
        for option in self.required_options:
            if getattr(options, option) is None:
                raise ConfigurationError(f"the provider {self.name} needs the option {option}")
        refused = (options.model_fields_set & SPECIAL_OPTIONS) - self.special_options
        if refused:
            raise ConfigurationError(
                f"the provider {self.name} cannot use the option {min(refused)}"
            )

    def _check_people(self, options: ProviderOptions) -> None:
        # Ids of another server, such as one of GitHub Enterprise, are those of other people.
        given, own = options.userinfo_url, self.userinfo_url
        if self.has_id_token or options.issuer or given is None or own is None:
            return
        if urlsplit(given).hostname != urlsplit(own).hostname:
            raise ConfigurationError(
                f"the provider {self.name} needs the option issuer, a URL that stands for the"
                " server of its userinfo_url"
            )

    def client_secret(self) -> str | None:
        """Returns the client secret for one request; None for a public client."""
        secret = self.options.client_secret
        return None if secret is None else secret.get_secret_value()

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        """Returns the person that the claims of the ID token and of the userinfo endpoint describe.

        `userinfo` is empty if it was not asked. An address is verified only if the same document
        says so. The caller replaces `provider`, `auth_time` and `has_proved_mfa` of the result, and
        refuses the login if this raises an error. `is_authoritative` lets the address decide whose
        account it is, see docs/federation.md.
        """
        source = claims if "email" in claims else userinfo
        email, is_verified = source.get("email"), source.get("email_verified") is True
        return Person(
            provider=self.name,
            issuer=claims["iss"],
            subject=claims["sub"],
            email=email,
            email_verified=is_verified,
            is_authoritative=is_verified and self.decides_for(email),
            name=claims.get("name") or userinfo.get("name"),
            claims={**userinfo, **claims},
        )

    def decides_for(self, email: object) -> bool:
        """Whether `trusted_email_domains` has the domain of the address."""
        domain = str(email).rpartition("@")[2].lower()
        return domain in self.options.trusted_email_domains

    def userinfo_subject(self, userinfo: Mapping[str, Any]) -> object:
        """Returns the subject in a userinfo response, which must be that of the ID token."""
        return userinfo.get("sub")

    def name_of(self, user: str) -> str | None:
        """Returns the name in the parameter `user` of a callback, which is not signed."""
        return None

    @property
    def further_urls(self) -> Mapping[str, str]:
        """Further URLs that are read with the access token; `userinfo` gets each by its name.

        A name is missing from `userinfo` if the provider refuses to answer.
        """
        return {}
