"""/login/with/{provider}/callback: where a provider leads the browser back to."""

import logging
from collections.abc import Mapping

from fastapi import APIRouter, Request
from starlette.responses import Response

from authapi.domain.client import current_client
from authapi.domain.federation.flow import Callback, Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.identity import Identity
from authapi.errors import (
    IdentityTaken,
    InactiveAccount,
    InvalidCredential,
    LoginFlowInvalid,
    ProviderAnswerRefused,
    ProviderRefused,
    ProviderUnavailable,
    Refusal,
    Unavailable,
    WrongDestination,
)
from authapi.services.federation.once import is_used
from authapi.services.federation.owners import owner_of
from authapi.strategies.base import read_header
from authapi.web.answers.renewals import renewal_of, secret_of
from authapi.web.context import context_of
from authapi.web.federation.arrival import (
    has_pages,
    lead,
    lead_on,
    lead_with_code,
    outcome_of,
    refused,
)
from authapi.web.federation.beginning import count, upstream_of
from authapi.web.federation.flows import has_flow, kept_flow, open_user, seal_user
from authapi.web.middleware.link_secrets import callback_parameters
from authapi.web.pages import addresses
from authapi.web.pages.error_pages import accepts_html
from authapi.web.resolver import optional_identity_if_configured, resolve
from authapi.web.routes.login.password import finish, issuer_of
from authapi.web.routing import AuthAPIRoute, read_form

router = APIRouter(route_class=AuthAPIRoute, tags=["login"], include_in_schema=False)

_log = logging.getLogger("authapi.federation")
_CALLER = optional_identity_if_configured("session")
_MAX_TEXT = 4000
"""Characters of a parameter. Codes of providers have up to 2,000."""
_DESTINATIONS = frozenset({None, "document"})
_PASSED_ON = ("code", "state", "iss", "error")
"""The parameters that an answer by POST hands on. Others are of no use here."""
_OUTAGES = frozenset({"server_error", "temporarily_unavailable"})


@router.post("/login/with/{provider}/callback")
async def receive_post(provider: str, request: Request) -> Response:
    """Take the answer of a provider that sends a form, and lead the browser to the route below.

    A browser sends no cookie with a form of a foreign page (SameSite=Lax), but does with the GET
    request that a redirect leads to. So this reads no cookie.
    """
    upstream_of(context_of(request).runtime, provider)
    fields = await read_form(request)
    state = fields.get("state", "")
    query = {name: fields[name] for name in _PASSED_ON if fields.get(name)}
    if any(len(value) > _MAX_TEXT for value in query.values()):
        raise LoginFlowInvalid
    if (user := seal_user(request, state, fields.get("user", ""))) is not None:
        query["user"] = user
    return lead(addresses.with_query("callback", query))


@router.get("/login/with/{provider}/callback")
async def come_back(provider: str, request: Request) -> Response:
    """Log in with the answer of a provider, and lead on."""
    if read_header(request, b"sec-fetch-dest") not in _DESTINATIONS:
        raise WrongDestination  # in a frame, a visitor would not see whose page it is
    runtime = context_of(request).runtime
    upstream = upstream_of(runtime, provider)
    found: Mapping[str, str] = {}
    try:
        found = _parameters(request)
        flow = kept_flow(request, found.get("state", ""))
        if flow.provider != upstream.name:
            raise LoginFlowInvalid
    except LoginFlowInvalid as invalid:
        error = _without_state(request, upstream.name, found) or invalid
        count(runtime, upstream.name, error.code)
        if has_pages(request) and accepts_html(request.scope):
            return lead(addresses.page(request, "sign-in", done=outcome_of(error.code)))
        raise error from None
    try:
        response = await _come_back(request, flow, found)
    except (Refusal, Unavailable) as error:
        count(runtime, upstream.name, error.code)
        _log.info("refused", extra={"provider": upstream.name, "code": error.code})
        return refused(request, flow, error)
    count(runtime, upstream.name, "succeeded")
    return response


async def _come_back(request: Request, flow: Flow, found: Mapping[str, str]) -> Response:
    runtime = context_of(request).runtime
    await runtime.services.rate_limits.consume_visit(current_client())
    caller = await _caller(request)
    if await is_used(runtime.services.database, flow):
        # The page was loaded again, after a login that has succeeded.
        if caller is not None and _may_be_of(flow, caller):
            return lead_on(request, flow)
        raise LoginFlowInvalid
    if "error" in found:
        raise _said(found)
    if not found.get("code"):
        raise ProviderRefused
    upstream = runtime.upstreams[flow.provider]
    callback = Callback(
        found["code"], found.get("iss"), open_user(request, flow.state, found.get("user"))
    )
    uri = runtime.upstreams.redirect_uri(flow.provider)
    try:
        person = await upstream.person(callback, flow, redirect_uri=uri)
    except ProviderAnswerRefused as refusal:
        await runtime.services.federation.arrivals.record_refusal(
            flow.provider, refusal.code, strategy=flow.strategy, user_id=flow.user_id
        )
        raise
    if flow.intent is FlowIntent.LOGIN:
        return await _log_in(request, flow, person)
    return await _change(request, flow, person, caller)


def _said(found: Mapping[str, str]) -> ProviderUnavailable | ProviderRefused:
    """Returns the refusal for an error that a provider tells."""
    return ProviderUnavailable() if found["error"] in _OUTAGES else ProviderRefused()


def _without_state(
    request: Request, provider: str, found: Mapping[str, str]
) -> ProviderUnavailable | ProviderRefused | None:
    """Returns what to tell a person whose provider has sent an error, but not to which login.

    It proves nothing, so no login ends. Returns None if no login at the provider is under way in
    this browser: another page has led here then.
    """
    if "error" not in found or found.get("state") or not has_flow(request, provider):
        return None
    return _said(found)


async def _log_in(request: Request, flow: Flow, person: Person) -> Response:
    runtime = context_of(request).runtime
    federation, issuer = runtime.services.federation, issuer_of(runtime, flow.strategy)
    proved = await federation.arrivals.arrive(person, flow, request=request)
    if not issuer.ambient:
        code = await federation.codes.issue(proved, strategy=issuer.name, remember=flow.remember)
        return lead_with_code(flow.continue_to, code.text)
    done = await finish(request, proved, issuer, remember=flow.remember)
    response = lead_on(request, flow)
    done.set_on(response)
    return response


async def _change(
    request: Request, flow: Flow, person: Person, caller: Identity | None
) -> Response:
    """Links a person to the account that has begun the flow, or proves again who is logged in."""
    runtime = context_of(request).runtime
    # A browser in which another person has logged in meanwhile changes nothing.
    if caller is not None and not _may_be_of(flow, caller):
        raise InvalidCredential
    if caller is None:
        if issuer_of(runtime, flow.strategy).ambient:
            raise InvalidCredential  # the cookie of the session is gone
        caller = await owner_of(runtime.services.database, flow)
    federation = runtime.services.federation
    if flow.intent is FlowIntent.LINK:
        try:
            await federation.links.link(person, flow, caller)
        except IdentityTaken as refusal:
            await federation.arrivals.record_refusal(
                flow.provider, refusal.code, strategy=flow.strategy, user_id=flow.user_id
            )
            raise
        return lead_on(request, flow)
    renewal = renewal_of(runtime.registry, caller)
    await federation.step_up.prove(person, flow, caller, new_secret_hash=secret_of(renewal))
    response = lead_on(request, flow)
    for name, value in renewal.headers if renewal else ():
        response.headers.append(name, value)
    return response


def _may_be_of(flow: Flow, caller: Identity) -> bool:
    return flow.intent is FlowIntent.LOGIN or flow.session_id in {None, caller.session_id}


async def _caller(request: Request) -> Identity | None:
    """Returns the person whose cookie the browser has sent; None if it is of no use any longer.

    Then another person can still log in.
    """
    try:
        return await resolve(_CALLER, request)
    except (InactiveAccount, InvalidCredential):
        return None


def _parameters(request: Request) -> Mapping[str, str]:
    """Returns the parameters of the answer. Raises LoginFlowInvalid if one occurs twice."""
    pairs = callback_parameters(request)
    found = dict(pairs)
    if len(found) != len(pairs) or any(len(value) > _MAX_TEXT for value in found.values()):
        raise LoginFlowInvalid
    return found
