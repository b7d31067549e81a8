"""The page that leads from a form of ours to a provider.

A redirect would not do: Chromium applies `form-action` of the policy of the form to it, and the
policy would have to name the providers. A page without script can lead on by itself.
"""

from starlette.requests import Request
from starlette.responses import Response

from authapi.domain.federation.flow import FlowIntent
from authapi.domain.identity import Identity
from authapi.errors import ProviderUnknown
from authapi.web.context import context_of
from authapi.web.federation.beginning import begin, upstream_of
from authapi.web.federation.flows import FlowStart, Headers
from authapi.web.pages.rendering import render
from authapi.web.routes.federation.link import begin_for


async def lead_to_provider(
    request: Request, identity: Identity, name: str, intent: FlowIntent, continue_to: str | None
) -> Response:
    """Returns the page that leads to the provider `name`, for the account of `identity`.

    Raises as `begin_for`.
    """
    url, headers = await begin_for(request, identity, name, intent, continue_to)
    return _lead(request, name, url, headers)


async def lead_to_login(request: Request, start: FlowStart, *, hint: str | None) -> Response:
    """Returns the page that leads to the provider of `start`, for a person who signs in there.

    Raises ProviderUnknown, also without the routes to which a provider leads back,
    ProviderUnavailable and TooManyAttempts.
    """
    if "federation" not in context_of(request).runtime.units:
        raise ProviderUnknown
    url, headers = await begin(request, start, hint=hint)
    return _lead(request, start.provider, url, headers)


def _lead(request: Request, name: str, url: str, headers: Headers) -> Response:
    title = upstream_of(context_of(request).runtime, name).title
    return render(request, "going", url=url, provider=title, headers=headers)
