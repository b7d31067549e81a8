"""GET /login/with lists the providers; POST /login/with/{provider} begins a login at one."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from starlette.responses import Response

from authapi.domain.email_address import EmailAddress
from authapi.errors import InputError, InvalidInput
from authapi.web.answers.descriptions import problems, response_header
from authapi.web.answers.validation import invalid_input
from authapi.web.context import context_of
from authapi.web.csrf import check_origin
from authapi.web.federation.beginning import (
    begin,
    check_own_link,
    parse_continue,
    upstream_of,
)
from authapi.web.federation.flows import FlowStart, Headers
from authapi.web.media_types import JSON, is_form, require_media_type
from authapi.web.pages import addresses
from authapi.web.routes.login.password import issuer_of
from authapi.web.routing import AuthAPIRoute, StrictRequest, has_body, read_form
from authapi.web.schemas.federation.flows import MAX_CONTINUE, FlowOut, FlowRequest, ProviderOut
from authapi.web.schemas.fields import StrategyName, reserved_addresses_allowed

router = APIRouter(route_class=AuthAPIRoute, tags=["login"])

_FIELDS = FlowRequest.model_json_schema(by_alias=True)
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {"schema": _FIELDS},
            "application/x-www-form-urlencoded": {"schema": _FIELDS},
        },
    }
}
_LOCATION = "Where the browser goes: the page of the provider."
_REDIRECT: dict[int | str, dict[str, Any]] = {
    303: {
        "description": "Leads to the provider, and keeps a cookie for ten minutes.",
        **response_header("Location", _LOCATION, required=True),
    }
}


@router.get("/login/with", responses=problems(503))
async def list_providers(request: Request) -> list[ProviderOut]:
    """List the providers at which people can log in, in the order of the buttons."""
    upstreams = context_of(request).runtime.upstreams
    return [
        ProviderOut(
            name=name,
            title=upstreams[name].title,
            start=addresses.visible_path(request, f"/login/with/{name}"),
        )
        for name in upstreams
    ]


@router.post(
    "/login/with/{provider}",
    response_model=FlowOut,
    responses=_REDIRECT | problems(400, 403, 404, 408, 415, 422, 429, 503),
    openapi_extra=_BODY,
)
async def begin_login(provider: str, request: Request) -> Response:
    """Begin a login at a provider, for a page of this origin or of an allowed one.

    A form is led to the provider. A script gets the address, and leads the browser there. The
    response sets a cookie, without which the provider's answer is refused.
    """
    check_origin(request)
    by_form = is_form(request)
    sent = await _sent_form(request) if by_form else await _sent_json(request)
    url, headers = await _begin(request, provider, sent)
    return leading_to(url, headers, as_json=not by_form)


@router.get(
    "/login/with/{provider}",
    status_code=303,
    responses=_REDIRECT | problems(403, 404, 422, 429, 503),
    response_class=Response,
)
async def follow_login(
    provider: str,
    request: Request,
    continue_to: Annotated[str | None, Query(alias="continue", max_length=MAX_CONTINUE)] = None,
    strategy: Annotated[StrategyName, Query()] = None,
    remember: Annotated[bool, Query()] = False,
) -> Response:
    """Begin a login at a provider, by a link on a page of this origin.

    A link of another page is refused: it could log its visitor in to the account of an attacker.
    """
    check_own_link(request)
    sent = FlowRequest.model_construct(
        continue_to=continue_to, strategy=strategy, remember=remember, hint=None
    )
    url, headers = await _begin(request, provider, sent)
    return leading_to(url, headers)


def leading_to(url: str, headers: Headers, *, as_json: bool = False) -> Response:
    """Returns the response that leads the browser to `url`, or tells a script the address."""
    response = Response(status_code=303, headers={"location": url})
    if as_json:
        content = FlowOut(url=url).model_dump_json()
        response = Response(content, media_type="application/json")
    for name, value in headers:
        response.headers.append(name, value)
    response.headers["cache-control"] = "no-store"
    return response


async def _begin(request: Request, provider: str, sent: FlowRequest) -> tuple[str, Headers]:
    upstream_of(context_of(request).runtime, provider)
    continue_to = parse_continue(request, sent.continue_to)
    strategy = _strategy(request, sent.strategy, continue_to)
    start = FlowStart(provider, strategy, remember=sent.remember, continue_to=continue_to)
    hint = sent.hint.original if isinstance(sent.hint, EmailAddress) else None
    return await begin(request, start, hint=hint)


def _strategy(request: Request, name: str | None, continue_to: str | None) -> str:
    """Returns the name of the strategy of a login.

    Raises InvalidInput if it is unknown, or if the login has no page that exchanges its code.
    """
    issuer = issuer_of(context_of(request).runtime, name)
    if not issuer.ambient and continue_to is None:
        message = f"is required with the strategy {issuer.name}"
        raise InvalidInput(InputError(("body", "continue"), "missing", message))
    return issuer.name


async def _sent_form(request: Request) -> FlowRequest:
    fields: dict[str, object] = dict(await read_form(request))
    # A checkbox sends its value, or nothing.
    if "remember" in fields:
        fields["remember"] = fields["remember"] not in {"", "false", "off", "0"}
    # An empty field is one that was left empty.
    return _parse(request, {name: value for name, value in fields.items() if value != ""})


async def _sent_json(request: Request) -> FlowRequest:
    if not has_body(request):
        return FlowRequest()
    require_media_type(request, JSON)
    return _parse(request, await StrictRequest(request.scope, request.receive).json())


def _parse(request: Request, value: object) -> FlowRequest:
    settings = context_of(request).runtime.services.settings
    try:
        if settings.allow_reserved_addresses:
            with reserved_addresses_allowed():
                return FlowRequest.model_validate(value)
        return FlowRequest.model_validate(value)
    except ValidationError as error:
        errors = [{**item, "loc": ("body", *item["loc"])} for item in error.errors()]
        raise invalid_input(ValidationException(errors)) from None
