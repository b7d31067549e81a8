"""The buttons of other providers on pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode
from uuid import UUID

from starlette.requests import HTTPConnection

from authapi.domain.federation.person import LinkedIdentity
from authapi.web.context import Runtime, context_of
from authapi.web.pages import addresses

_STRATEGY = "session"


@dataclass(frozen=True, slots=True)
class ProviderButton:
    """A link that begins a login at a provider."""

    name: str
    title: str
    """The name for people, as the settings have it."""
    href: str
    """The address, relative to the request. It is a link and no form: Chromium applies the
    `form-action` of a policy to the redirect after a form, which leads to the provider."""


def provider_buttons(connection: HTTPConnection, wanted: str | None) -> Sequence[ProviderButton]:
    """Returns the buttons of a page to sign in, which lead on to `wanted`.

    Empty without providers, or without the routes that begin a login.
    """
    runtime = context_of(connection).runtime
    if "federation" not in runtime.units:
        return ()
    query = {"strategy": _STRATEGY} | ({"continue": wanted} if wanted else {})
    start = addresses.base_of(connection.scope, runtime.settings.prefix) + "../login/with/"
    return [
        ProviderButton(name, runtime.upstreams[name].title, f"{start}{name}?{urlencode(query)}")
        for name in runtime.upstreams
    ]


@dataclass(frozen=True, slots=True)
class ConnectedAccount:
    """An account at a provider that signs in to the account of the reader."""

    identity: LinkedIdentity
    title: str
    """The name of the provider for people."""


def title_of(runtime: Runtime, name: str) -> str:
    """Returns the name for people of a provider; its name if the settings have it no longer."""
    return runtime.upstreams[name].title if name in list(runtime.upstreams) else name


async def linked_to(runtime: Runtime, user_id: UUID) -> Sequence[LinkedIdentity]:
    """Returns the persons at providers who may log in to an account; none without providers."""
    if "federation" not in runtime.units:
        return ()
    return await runtime.services.federation.links.list_of(user_id)


def connected(runtime: Runtime, linked: Sequence[LinkedIdentity]) -> Sequence[ConnectedAccount]:
    """Returns the connected accounts as a page shows them."""
    return [ConnectedAccount(it, title_of(runtime, it.provider)) for it in linked]


def connectable(runtime: Runtime, linked: Sequence[LinkedIdentity]) -> Sequence[tuple[str, str]]:
    """Returns the name and the title of each provider at which no account is connected."""
    if "federation" not in runtime.units:
        return ()
    taken = {it.provider for it in linked}
    return [(name, title_of(runtime, name)) for name in runtime.upstreams if name not in taken]


def proving(runtime: Runtime, linked: Sequence[LinkedIdentity]) -> Sequence[tuple[str, str]]:
    """Returns the name and the title of each provider that can prove again who is signed in."""
    if "federation" not in runtime.units:
        return ()
    names = {it.provider for it in linked}
    return [
        (name, runtime.upstreams[name].title)
        for name in runtime.upstreams
        if name in names and runtime.upstreams[name].proves_fresh_login
    ]
