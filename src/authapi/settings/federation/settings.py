"""The settings of logins at other providers."""

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import NoDecode

from authapi.settings.federation.options import (
    MAX_PROVIDER_NAME,
    TITLES,
    ProviderOptions,
    is_provider_name,
    parse_options,
    title_from,
)
from authapi.settings.federation.variables import parse_providers
from authapi.settings.pages import PageSettings
from authapi.settings.secret_files import CHMOD_FIX, other_readers
from authapi.settings.values.problems import problem_in_words

_MAX_PROVIDERS = 50
_Options = Mapping[str, ProviderOptions | Mapping[str, Any]]


def _parse(value: object) -> object:
    if isinstance(value, str):
        value = parse_providers(value)
    if isinstance(value, list | tuple):
        value = {name: {} for name in value}
    if not isinstance(value, Mapping):
        raise ValueError("must be an object with the options of each provider")
    return {name: _options(name, given) for name, given in value.items()}


def _options(name: object, given: Any) -> ProviderOptions:
    if isinstance(given, ProviderOptions):
        return given
    if not isinstance(name, str) or not isinstance(given, Mapping):
        raise ValueError("must be an object with the options of each provider")
    try:
        return parse_options(name, given)
    except ValidationError as error:
        # The text of a nested error would name neither the provider nor the option.
        item = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{name}: {item['loc'][0]} {problem_in_words(item)}") from None


def _check_names(value: _Options) -> _Options:
    if len(value) > _MAX_PROVIDERS:
        raise ValueError(f"must have at most {_MAX_PROVIDERS} providers")
    for name in value:
        if ":" not in name and not is_provider_name(name):
            raise ValueError(
                "the name of a provider is lower-case letters, digits and single hyphens, "
                f"{MAX_PROVIDER_NAME} characters at most, not address or exchange, or module:Class"
            )
    return value


def _of_class(entry: str, attribute: str) -> object:
    module, _, kind = entry.partition(":")
    return getattr(getattr(sys.modules.get(module), kind, None), attribute, None)


Providers = Annotated[
    _Options,
    NoDecode,
    BeforeValidator(_parse),
    AfterValidator(_check_names),
]
"""Providers with their options, by name or `module:Class`. Arguments may be plain mappings."""


class FederationSettings(PageSettings):
    """Settings of logins at other providers."""

    providers: Providers = Field(default_factory=dict)
    """Providers at which people log in: names by commas, or a JSON object with the options of each.
    A name is `google`, `microsoft`, `apple`, `github`, `kakao`, `naver`, that of another OpenID
    provider with an `issuer`, or `module:Class`. `AUTHAPI_PROVIDER_<NAME>_<OPTION>` sets one
    option, such as `AUTHAPI_PROVIDER_GOOGLE_CLIENT_ID`, and needs no entry here."""
    federation_linking: Literal["ask", "verified", "never"] = "ask"
    """What follows if an unknown person from a provider has the address of an account. `ask`: they
    log in another way and link the provider. `verified`: it is linked if the provider decides whose
    the address is and the account has confirmed it. `never`: people whom no account is linked to
    are refused, also those who are new."""
    mfa_for_federated: Literal["ask", "trust"] = "ask"
    """Whether an account with a second factor is asked for it after a login at a provider. `trust`:
    not if the ID token proves one; `trust_mfa` decides this for one provider."""

    @property
    def provider_options(self) -> Mapping[str, ProviderOptions]:
        """The checked options of `providers`."""
        return {
            name: options
            for name, options in self.providers.items()
            if isinstance(options, ProviderOptions)  # as they are after the validation
        }

    def has_provider(self, name: str) -> bool:
        """Whether people can log in at the provider `name`.

        An entry `module:Class` has the name of its class, which the application has imported; a
        process that has not, such as a command, takes the provider for one that is gone.
        """
        return any(True for _ in self._entries_of(name))

    def provider_title(self, name: str) -> str:
        """Returns the name for people of the provider `name`, also of one that is gone."""
        for entry in self._entries_of(name):
            options = self.provider_options.get(entry)
            if options is not None and options.title is not None:
                return options.title
        for entry in self._entries_of(name):
            options = self.provider_options.get(entry)
            kind = (options.type if options is not None else None) or entry
            title = TITLES.get(kind) or (_of_class(kind, "title") if ":" in kind else None)
            if isinstance(title, str) and title:
                return title
        return TITLES.get(name) or title_from(name)

    def _entries_of(self, name: str) -> Iterator[str]:
        # A class is before the entry with its name, which has further options of it.
        yield from (it for it in self.providers if ":" in it and _of_class(it, "name") == name)
        if name in self.providers:
            yield name

    def _check_consistency(self) -> None:
        super()._check_consistency()
        if self.providers and self.public_url is None:
            raise ValueError(
                "providers need AUTHAPI_PUBLIC_URL, with which their redirect URIs begin"
            )

    def _check_production(self) -> None:
        super()._check_production()
        for name, options in self.provider_options.items():
            if options.key_file is None:
                continue
            try:
                readers = other_readers(options.key_file)
            except OSError:
                raise ValueError(f"the key_file of {name} cannot be read") from None
            if readers:
                raise ValueError(
                    f"the key_file of {name} is readable by {readers}: {CHMOD_FIX[readers]}"
                )
