"""The options of one provider, from the settings, from JSON and from variables."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from authapi.settings.field_types import FilePath, Names
from authapi.settings.values.normalization import clean_secret
from authapi.settings.values.urls import page_url_parts

MAX_PROVIDER_NAME = 40
TITLES: Mapping[str, str] = {
    "google": "Google",
    "microsoft": "Microsoft",
    "apple": "Apple",
    "github": "GitHub",
    "kakao": "Kakao",
    "naver": "Naver",
}
"""The names of the built-in providers for people."""
_PROVIDER_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RESERVED_NAMES = frozenset({"address", "exchange"})
"""Names that are a path of their own below `/login/with/`."""
_MAX_TITLE = 60


def is_provider_name(name: str) -> bool:
    """Whether a provider can have this name, which is a part of its paths."""
    return (
        len(name) <= MAX_PROVIDER_NAME
        and _PROVIDER_NAME.fullmatch(name) is not None
        and name not in _RESERVED_NAMES
    )


def title_from(name: str) -> str:
    """Returns the name for people of a provider that has no other."""
    return name.replace("-", " ").capitalize()


def _check_title(value: str | None) -> str | None:
    if value is not None and not (value.isprintable() and 0 < len(value.strip()) <= _MAX_TITLE):
        raise ValueError(f"must be a line of text with at most {_MAX_TITLE} characters")
    return None if value is None else value.strip()


def _check_text(value: str | None) -> str | None:
    if value is not None and not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("must be ASCII without spaces")
    return value


def _check_endpoint(value: str | None) -> str | None:
    parts = None if value is None else page_url_parts(value)
    if value is not None and (parts is None or parts.fragment):
        raise ValueError("must be an https URL without a fragment, or http on this machine")
    return value


def _check_issuer(value: str | None) -> str | None:
    if value is not None and "?" in value:
        raise ValueError("must have no query")
    return _check_endpoint(value)


def _check_domains(value: tuple[str, ...]) -> tuple[str, ...]:
    if not all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) for domain in value):
        raise ValueError("must be domains in lower case such as example.com")
    return value


Text = Annotated[str | None, Field(min_length=1, max_length=1000), AfterValidator(_check_text)]
Endpoint = Annotated[str | None, AfterValidator(_check_endpoint)]


class ProviderOptions(BaseModel):
    """The options of one provider. Which of them a provider has depends on its `type`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Text = None
    """`google`, `microsoft`, `apple`, `github`, `kakao`, `naver`, `openid`, or `module:Class`.
    Default: the name of the provider if it is one of these, else `openid`."""
    title: Annotated[str | None, AfterValidator(_check_title)] = None
    """The name for people, on buttons. Default: that of the type, or the name."""
    client_id: Text = None
    """The id of this service at the provider."""
    client_secret: Annotated[SecretStr | None, AfterValidator(clean_secret)] = None
    """The secret of this service at the provider. Default: none, for a public client."""
    issuer: Annotated[str | None, AfterValidator(_check_issuer)] = None
    """The issuer, exactly as in its metadata."""
    scopes: Names = ()
    """The scopes to ask for. Default: those that the provider needs for a name and an address."""
    trust_mfa: bool | None = None
    """Accept the second factor that the ID token proves. Default: `mfa_for_federated`."""
    mfa_acr: Names = ()
    """Values of `acr` that prove a second factor, beside `mfa` in `amr`."""
    trust_email: bool = False
    """GitHub: let a verified address decide whose account it is."""
    trusted_email_domains: Annotated[Names, AfterValidator(_check_domains)] = ()
    """Domains for whose addresses the provider decides whose they are, if it says verified."""
    tenants: Names = ()
    """Microsoft: the ids of the tenants whose people may log in. Default: all."""
    team_id: Text = None
    """Apple: the id of the team."""
    key_id: Text = None
    """Apple: the id of the key."""
    key_file: FilePath | None = None
    """Apple: the file with the private key (.p8), from which client secrets are made."""
    pkce: bool = True
    """Send a code challenge (RFC 7636). False only for a provider that refuses requests with it."""
    response_mode: Literal["query", "form_post"] | None = None
    """How the provider sends the browser back. Default: as the provider needs it."""
    client_auth: Literal["basic", "post"] | None = None
    """Where the client secret is in requests: in the header Authorization, or in the body.
    Default: what the metadata of the provider allows, `basic` first."""
    authorization_url: Endpoint = None
    """Where people log in. Default: as the metadata or the documentation of the provider says."""
    token_url: Endpoint = None
    """Where codes are exchanged. Default as above."""
    userinfo_url: Endpoint = None
    """Where the claims of a person are read. Default as above."""
    jwks_url: Endpoint = None
    """The keys of the provider. Default as above."""
    emails_url: Endpoint = None
    """GitHub: where the addresses of a person are read. Default as above."""


OPTIONS = tuple(ProviderOptions.model_fields)


def parse_options(name: str, given: Mapping[str, Any]) -> ProviderOptions:
    """Returns the options of the provider `name`.

    Raises ValueError for an unknown option, with the most similar one; pydantic.ValidationError for
    a value that is not valid.
    """
    for option in given:
        if option not in OPTIONS:
            nearest = get_close_matches(str(option).lower(), OPTIONS, n=1, cutoff=0.6)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(f"{name} has no option {str(option)[:80]!r}{hint}")
    cleaned = {
        option: value.strip("\r\n") if isinstance(value, str) else value
        for option, value in given.items()
    }
    return ProviderOptions.model_validate(cleaned)
