"""The providers that the settings name."""

import importlib
from collections.abc import Iterator, Mapping

from authapi.errors import ConfigurationError, ProviderUnknown
from authapi.outbound.upstreams.provider import Provider
from authapi.outbound.upstreams.remote import RemoteUpstream
from authapi.settings import Settings
from authapi.settings.federation.options import (
    MAX_PROVIDER_NAME,
    PROVIDER_NAME,
    RESERVED_NAMES,
    ProviderOptions,
)

_OWN_MODULE = "authapi.outbound.upstreams"
BUILT_IN: Mapping[str, str] = {
    "google": f"{_OWN_MODULE}.built_in.google:Google",
    "microsoft": f"{_OWN_MODULE}.built_in.microsoft:Microsoft",
    "apple": f"{_OWN_MODULE}.built_in.apple:Apple",
    "github": f"{_OWN_MODULE}.built_in.github:GitHub",
    "kakao": f"{_OWN_MODULE}.built_in.kakao:Kakao",
    "naver": f"{_OWN_MODULE}.built_in.naver:Naver",
    "openid": f"{_OWN_MODULE}.provider:Provider",
}


class Upstreams(Mapping[str, RemoteUpstream]):
    """The providers by name, in the order of the settings. Nothing is requested before a login.

    Raises ConfigurationError for a class that cannot be loaded, an option that is missing or that
    the provider does not have, and two providers with one name.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._by_name = {
            name: RemoteUpstream(
                provider,
                trusts_mfa=_trusts_mfa(provider.options, settings),
                allow_reserved=settings.allow_reserved_addresses,
            )
            for name, provider in _load(settings.provider_options).items()
        }

    def __getitem__(self, name: str) -> RemoteUpstream:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, name: str) -> RemoteUpstream:
        """Returns the provider `name`. Raises ProviderUnknown."""
        try:
            return self._by_name[name]
        except KeyError:
            raise ProviderUnknown from None

    def redirect_uri(self, name: str) -> str:
        """Returns where `name` sends the browser back: below the public URL, never by a header.

        Raises ProviderUnknown.
        """
        return f"{self._settings.issuer}/login/with/{self.find(name).name}/callback"

    async def aclose(self) -> None:
        """Stops requests and closes the connections. Later logins open new ones."""
        for upstream in self._by_name.values():
            await upstream.close()


def _trusts_mfa(options: ProviderOptions, settings: Settings) -> bool:
    by_default = settings.mfa_for_federated == "trust"
    return by_default if options.trust_mfa is None else options.trust_mfa


def _load(providers: Mapping[str, ProviderOptions]) -> Mapping[str, Provider]:
    loaded = dict[str, Provider]()
    # A class that is listed as `module:Class` has the options below its own name, if there are any.
    own = {name: _load_class(name) for name in providers if ":" in name}
    taken = {kind.name for kind in own.values()}
    for key, options in providers.items():
        if key in own:
            kind, name = own[key], own[key].name
        elif key in taken:
            continue
        else:
            kind, name = _load_class(options.type or (key if key in BUILT_IN else "openid")), key
        is_valid = PROVIDER_NAME.fullmatch(name) and len(name) <= MAX_PROVIDER_NAME
        if not is_valid or name in RESERVED_NAMES:
            raise ConfigurationError(f"AUTHAPI_PROVIDERS: {key} has no valid name")
        if name in loaded:
            raise ConfigurationError(f"AUTHAPI_PROVIDERS: two providers have the name {name}")
        other = providers.get(name) if key in own else None
        loaded[name] = kind(_merged(options, other), name=name)
    return loaded


def _merged(options: ProviderOptions, other: ProviderOptions | None) -> ProviderOptions:
    if other is None:
        return options
    given = {name: getattr(options, name) for name in options.model_fields_set}
    return other.model_copy(update=given)


def _load_class(name: str) -> type[Provider]:
    path = BUILT_IN.get(name, name)
    module_name, colon, class_name = path.partition(":")
    if not colon:
        raise ConfigurationError(
            f"AUTHAPI_PROVIDERS: unknown type {name!r}; use {', '.join(BUILT_IN)} or module:Class"
        )
    try:
        kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"AUTHAPI_PROVIDERS: cannot load {name!r}: {error}") from None
    if not isinstance(kind, type) or not issubclass(kind, Provider):
        raise ConfigurationError(f"AUTHAPI_PROVIDERS: {name!r} is not a Provider")
    return kind
