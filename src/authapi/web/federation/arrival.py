"""Leads a browser on that comes back from a provider: to where its flow leads, or to a page."""

from collections.abc import Iterable
from urllib.parse import urldefrag, urlencode

from starlette.requests import Request
from starlette.responses import Response

from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.errors import (
    AuthAPIError,
    EmailNeeded,
    EnrolmentRequired,
    InvalidCredential,
    SecondFactorRequired,
)
from authapi.web.context import context_of
from authapi.web.federation.flows import discard_flow
from authapi.web.federation.ticket_cookie import keep_ticket
from authapi.web.pages import addresses
from authapi.web.pages.error_pages import accepts_html
from authapi.web.pages.texts import OUTCOMES

_OTHER = "provider-failed"
"""The outcome on a page for a refusal without a sentence of its own."""
_STEPS = (SecondFactorRequired, EnrolmentRequired, EmailNeeded)
"""Refusals of a login that goes on with a step on a page of ours."""
_KEPT_FLOW = frozenset({"provider_unavailable", "too_many_attempts"})
"""Refusals after which the same callback may succeed."""


def lead(location: str) -> Response:
    """Returns the response that leads on. The address that it leaves had the code."""
    headers = {"location": location, "cache-control": "no-store", "referrer-policy": "no-referrer"}
    return Response(status_code=303, headers=headers)


def lead_on(request: Request, flow: Flow) -> Response:
    """Returns the response to a browser that is logged in."""
    if flow.continue_to is not None:
        return lead(flow.continue_to)
    if has_pages(request):
        # This page finds out whether the browser has kept the cookie.
        return lead(addresses.page(request, "sign-in", done="in"))
    return lead(addresses.home(request))


def lead_with_code(continue_to: str | None, code: str) -> Response:
    """Returns the response to a browser whose page exchanges a code for its credential.

    A fragment is sent to no server, and is in no log.
    """
    return lead(_with_fragment(continue_to or "/", code=code))


def has_pages(request: Request) -> bool:
    """Whether there is a page to sign in."""
    return "signin" in context_of(request).runtime.units


def refused(request: Request, flow: Flow, error: AuthAPIError) -> Response:
    """Returns the response to a browser whose login or link was refused.

    It leads to a page of ours, or to the page of the application with the code of the error. What
    the provider has said is in neither. Raises `error` if there is no page.

    A login that lacks an address goes on with a cookie, or, if its page is at another origin and
    its strategy has no cookies, with a code that the page exchanges for the ticket.
    """
    code = getattr(error, "code", "internal_error")
    is_step = isinstance(error, _STEPS)
    is_own = flow.continue_to is None or flow.continue_to.startswith("/")
    if (is_own or is_step) and has_pages(request) and accepts_html(request.scope):
        response = lead(_page_for(request, flow, error, code))
        if isinstance(error, EmailNeeded):
            error = _kept(request, error)
    elif isinstance(error, EmailNeeded) and not _uses_cookies(request, flow):
        codes = context_of(request).runtime.services.federation.codes
        response = lead_with_code(flow.continue_to, codes.issue_for_address(error).text)
    else:
        if isinstance(error, EmailNeeded):
            error = _kept(request, error)
        if flow.continue_to is None:
            raise error
        response = lead(_with_fragment(flow.continue_to, error=code))
    if isinstance(error, SecondFactorRequired | EnrolmentRequired | EmailNeeded):
        _add(response, error.headers)
    if code not in _KEPT_FLOW:
        _add(response, discard_flow(request, flow))
    return response


def _kept(request: Request, needed: EmailNeeded) -> EmailNeeded:
    """Returns the refusal of a browser that gets a cookie in place of the ticket."""
    headers = keep_ticket(request, needed)
    return EmailNeeded(ticket=None, expires_at=needed.expires_at, headers=headers)


def _uses_cookies(request: Request, flow: Flow) -> bool:
    issuer = context_of(request).runtime.registry.issuers.get(flow.strategy)
    return issuer is not None and issuer.ambient


def _add(response: Response, headers: Iterable[tuple[str, str]]) -> None:
    for name, value in headers:
        response.headers.append(name, value)


def _page_for(request: Request, flow: Flow, error: AuthAPIError, code: str) -> str:
    wanted = flow.continue_to
    if flow.intent is not FlowIntent.LOGIN:
        return _page_of_account(request, flow, error, outcome_of(code))
    if isinstance(error, SecondFactorRequired):
        return addresses.page(request, "sign-in/second", next=wanted)
    if isinstance(error, EnrolmentRequired):
        return addresses.page(request, "sign-in/enrol", next=wanted)
    if isinstance(error, EmailNeeded):
        return addresses.page(request, "sign-in/address", next=wanted)
    if code == "link_required" and "account" in context_of(request).runtime.units:
        # After the login, the person links the provider there.
        wanted = addresses.visible_path(request, f"{addresses.PREFIX}/security")
    return addresses.page(request, "sign-in", done=outcome_of(code), next=wanted)


def _page_of_account(request: Request, flow: Flow, error: AuthAPIError, outcome: str) -> str:
    if isinstance(error, InvalidCredential):
        outcome = "session-changed"
    if flow.intent is FlowIntent.STEP_UP:
        return addresses.page(request, "prove", done=outcome, next=flow.continue_to)
    if "account" not in context_of(request).runtime.units:
        return addresses.page(request, "sign-in", done=outcome)
    return addresses.page(request, "security", done=outcome)


def outcome_of(code: str) -> str:
    """Returns the value of `done` for the code of an error."""
    outcome = code.replace("_", "-")
    return outcome if outcome in OUTCOMES else _OTHER


def _with_fragment(address: str, **members: str) -> str:
    return f"{urldefrag(address).url}#{urlencode(members)}"
