"""Errors as answers: the class of an error decides the status; the body is RFC 9457.

Every refusal of one kind has the same body, and none repeats what the caller sent. `answer` is for
all who answer a request: on the form pages, a person gets a page instead (`web.pages.refusals`); on
the OAuth endpoints, a client gets the JSON of RFC 6749 (`web.answers.oauth`).
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
    websocket_request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.routing import iter_route_contexts
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from authapi import errors
from authapi.errors import AuthAPIError, InputError, InvalidInput, Refusal, Unavailable
from authapi.identity import current_client
from authapi.strategies.base import Challenge
from authapi.web.answers import oauth, sockets
from authapi.web.challenges import challenges_of, extended, is_bearer
from authapi.web.context import RequestContext, context_of
from authapi.web.pages.refusals import page_of, wants_page

PROBLEM = "application/problem+json"

STATUS: Mapping[type[AuthAPIError], int] = {
    errors.Unavailable: 503,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RequestTimeout: 408,
    errors.EmailTaken: 409,
    errors.LastSuperuser: 409,
    errors.NotInvited: 409,
    errors.TooManyTokens: 409,
    errors.PreconditionFailed: 412,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidInput: 422,
    errors.TooManyAttempts: 429,
    errors.TooManyRequests: 429,
    errors.HeadersTooLarge: 431,
    errors.TargetTooLong: 414,
    errors.HTTPVersionNotSupported: 505,
    errors.MalformedRequest: 400,
    errors.PreflightRefused: 400,
    errors.InvalidOneTimeSecret: 400,
    errors.InvalidGrant: 400,
}
"""The status of a class and of those below it in the tree."""

_TOLD = (
    errors.Forbidden,
    errors.InvalidCredential,
    errors.InactiveAccount,
    errors.StaleAuthentication,
    errors.TooManyAttempts,
    errors.TooManyRequests,
    errors.MalformedRequest,
    errors.HeadersTooLarge,
    errors.TargetTooLong,
    errors.HTTPVersionNotSupported,
    errors.Unavailable,
)
"""What the log hears of."""

_WRITTEN_DOWN = (
    errors.InsufficientScope,
    errors.UnconfirmedEmail,
    errors.SuperuserRequired,
    errors.ForeignOrigin,
)
"""What is an event as well, as somebody may have to look into it (OWASP ASVS 16.3.2, 16.3.3)."""

_log = logging.getLogger("authapi.refusals")

_MAX_ERRORS = 100
_MESSAGES = {
    "uuid_parsing": "must be a UUID",
    "union_tag_invalid": "names none of the kinds that there are",
    "literal_error": "is none of the values that there are",
}
"""In place of pydantic's own, which repeat some of the input."""
_OF_BODY = frozenset({b"content-type", b"content-length"})
_PLAIN_CODE = re.compile(r"[^a-z]+")


class Refused(HTTPException):
    """Carries a Refusal through FastAPI's reading of bodies, which turns other errors into 400."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_of(refusal), refusal.title)
        self.refusal = refusal


class ProblemDocument(Response):
    """A response that describes an error as RFC 9457 says; `code` names the error."""

    media_type = PROBLEM

    def __init__(self, content: Mapping[str, object], status: int, code: str) -> None:
        super().__init__(json.dumps(content).encode(), status)
        self.content = content
        self.code = code


def status_of(error: AuthAPIError) -> int:
    """The HTTP status of an error; 500 for one that no caller should see."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def understood_by(error: Refusal) -> list[tuple[str, str]]:
    """The header that names the version of WebSocket, if another was asked for (RFC 6455, 4.4)."""
    version = error.websocket_version if isinstance(error, errors.MalformedRequest) else None
    return [] if version is None else [("sec-websocket-version", version)]


def problem(
    status: int,
    code: str,
    title: str,
    *,
    request_id: str,
    detail: object = None,
    headers: Iterable[tuple[str, str]] = (),
    **members: object,
) -> ProblemDocument:
    """A problem document (RFC 9457). `code` is stable and `title` goes with it."""
    body = {
        "type": f"urn:authapi:error:{code}",
        "title": title,
        "status": status,
        "detail": title if detail is None else detail,
        "code": code,
        "request_id": request_id,
        **members,
    }
    response = ProblemDocument(body, status, code)
    for name, value in headers:
        response.headers.append(name, value)
    return response


def answer(error: Exception, scope: Scope) -> Response:
    """The answer to an error of this request, for the exception handlers and the edge alike.

    It is a problem document, or a page where a person reads it. An error that is none of ours is
    answered by `internal_error`.
    """
    context = context_of(HTTPConnection(scope))
    if isinstance(error, AuthAPIError):
        return _for_reader(problem_for(error, context), scope)
    return _for_reader(internal_error(context.request_id), scope)


def document_for(error: AuthAPIError, scope: Scope) -> Response:
    """The answer to a refusal for a program: a problem document, or what OAuth clients read."""
    return _for_client(problem_for(error, context_of(HTTPConnection(scope))), scope)


def _for_reader(document: ProblemDocument, scope: Scope) -> Response:
    if wants_page(scope):
        return page_of(document, document.code, scope)
    return _for_client(document, scope)


def _for_client(document: ProblemDocument, scope: Scope) -> Response:
    if not oauth.wants_oauth_error(scope, context_of(HTTPConnection(scope)).runtime.units):
        return document
    challenges = document.headers.getlist("www-authenticate")
    content = {**document.content, **oauth.oauth_members(document.content, challenges)}
    response = Response(
        json.dumps(content).encode(), document.status_code, media_type=oauth.MEDIA_TYPE
    )
    kept = [pair for pair in document.raw_headers if pair[0] not in _OF_BODY]
    response.raw_headers.extend(kept)
    return response


def problem_for(error: AuthAPIError, context: RequestContext) -> ProblemDocument:
    """What a refusal or failure looks like to the caller of this request."""
    status, headers, members = status_of(error), [], dict[str, object]()
    _tell_log(error, context)
    if isinstance(error, Unavailable | errors.TooManyAttempts | errors.TooManyRequests):
        headers.append(("retry-after", str(error.retry_after)))
    elif isinstance(error, errors.RequestTimeout):
        # RFC 9110, section 15.5.9. What is still to come would be read as the next request.
        headers.append(("connection", "close"))
    elif isinstance(error, errors.UnsupportedMediaType):
        if error.accept_encoding is not None:
            headers.append(("accept-encoding", error.accept_encoding))
    elif isinstance(error, errors.MalformedRequest):
        headers += understood_by(error)
    elif not isinstance(error, Refusal):
        return internal_error(context.request_id)
    elif isinstance(error, InvalidInput):
        members["errors"] = [
            {"loc": list(item.loc), "code": item.code, "message": item.message}
            for item in error.errors
        ]
    elif isinstance(error, errors.InvalidGrant):
        members["error"] = error.code
    headers += [("www-authenticate", str(item)) for item in _challenges(error, context)]
    headers += context.discards
    return problem(
        status,
        error.code,
        error.title,
        request_id=context.request_id,
        detail=error.detail if isinstance(error, Refusal) else None,
        headers=headers,
        **members,
    )


def _tell_log(error: AuthAPIError, context: RequestContext) -> None:
    # What somebody tried and may not, and what is away behind us. Plain bad input is no event, and
    # would drown the others.
    # So is an id that somebody is known not to own; an unknown path is not.
    if isinstance(error, _TOLD) or (isinstance(error, errors.NotFound) and context.identity):
        identity, cause = context.identity, error.__cause__
        away = isinstance(error, Unavailable)
        _log.log(
            logging.WARNING if away else logging.INFO,
            "unavailable" if away else "refused",
            extra={
                "code": getattr(error, "code", None),
                # Its class only: what a driver says may repeat values.
                "cause": type(cause).__name__ if cause else None,
                "request_id": context.request_id,
                "user_id": str(identity.user.id) if identity else None,
                "strategy": identity.strategy if identity else None,
                "ip": current_client().ip,
            },
        )


def internal_error(request_id: str) -> ProblemDocument:
    """The answer to what nobody foresaw: the reason is in the log, under the request id."""
    return problem(500, "internal_error", "Internal server error", request_id=request_id)


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem document, where it has no handler of its own."""
    stock = {
        HTTPException: (http_exception_handler, _on_http_exception),
        RequestValidationError: (request_validation_exception_handler, _on_invalid_request),
        WebSocketRequestValidationError: (
            websocket_request_validation_exception_handler,
            _on_invalid_websocket,
        ),
    }
    for kind, (default, ours) in stock.items():
        if app.exception_handlers.get(kind) in (default, None):
            app.exception_handlers[kind] = ours  # type: ignore[assignment]  # Starlette: Request only
    app.exception_handlers[AuthAPIError] = _on_authapi_error  # type: ignore[assignment]  # the same


def allowed_methods(request: HTTPConnection) -> str:
    """All methods that this path has, for `Allow`: the router only tells those of one route."""
    path = get_route_path(request.scope)
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        pattern = getattr(route, "path_regex", None)
        if route.methods and pattern is not None and pattern.match(path):
            found |= route.methods
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found))


async def _on_authapi_error(connection: HTTPConnection, error: AuthAPIError) -> Response | None:
    context = context_of(connection)
    if isinstance(error, _WRITTEN_DOWN):
        whose = context.identity or context.misused
        await context.runtime.access_refused(error.code, whose)
    if isinstance(connection, WebSocket):
        return await _for_socket(problem_for(error, context), connection)
    return answer(error, connection.scope)


async def _for_socket(document: ProblemDocument, websocket: WebSocket) -> Response | None:
    is_accepted = context_of(websocket).is_accepted
    if sockets.can_answer(websocket.scope, is_accepted=is_accepted):
        return document
    await websocket.send(sockets.closing(document.status_code, document.code))
    return None


async def _on_http_exception(connection: HTTPConnection, error: HTTPException) -> Response | None:
    if isinstance(connection, WebSocket):
        return await _for_socket(_problem_of(error, connection), connection)
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=error.headers)
    return _for_reader(_problem_of(error, connection), connection.scope)


def _problem_of(error: HTTPException, connection: HTTPConnection) -> ProblemDocument:
    context = context_of(connection)
    if isinstance(error, Refused):
        return problem_for(error.refusal, context)
    status, headers = error.status_code, dict(error.headers or {})
    if status == 404:
        # An unknown path and somebody else's row look the same.
        return problem_for(errors.NotFound(), context)
    if status < 400:
        return problem_for(errors.Forbidden(), context)  # of a WebSocket: it is not accepted
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    if status == 405:
        headers["Allow"] = allowed_methods(connection)
    detail = error.detail if error.detail != phrase else None
    code = _PLAIN_CODE.sub("_", phrase.lower()).strip("_")
    return problem(
        status, code, phrase, request_id=context.request_id, detail=detail, headers=headers.items()
    )


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    # A body of thousands of unknown members must not be answered by thousands of errors.
    found = error.errors()[:_MAX_ERRORS]
    return answer(InvalidInput(*map(_input_error, found)), request.scope)


async def _on_invalid_websocket(
    websocket: WebSocket, error: WebSocketRequestValidationError
) -> Response | None:
    found = error.errors()[:_MAX_ERRORS]
    refusal = InvalidInput(*map(_input_error, found))
    return await _for_socket(problem_for(refusal, context_of(websocket)), websocket)


def _input_error(error: Mapping[str, Any]) -> InputError:
    loc, code = tuple(error["loc"]), error["type"]
    if code == "extra_forbidden":
        # The name of an unknown member is input too.
        loc = (*loc[:-1], "?")
    message = _MESSAGES.get(code) or error["msg"].removeprefix("Value error, ")
    return InputError(loc, code, message)


def _challenges(error: AuthAPIError, context: RequestContext) -> tuple[Challenge, ...]:
    if not isinstance(error, errors.Unauthenticated | errors.InsufficientScope):
        return ()
    offered = context.challenges
    if offered is None:
        offered = challenges_of(context.runtime.registry, context.runtime)
    if isinstance(error, errors.StaleAuthentication):
        # RFC 9470, section 3.
        extra = {"error": "insufficient_user_authentication", "max_age": str(error.max_age)}
        return tuple(extended(item, extra) for item in offered)
    if isinstance(error, errors.InsufficientScope):
        # RFC 6750, section 3.1: a challenge on a 403, for bearer credentials only.
        extra = {"error": "insufficient_scope", "scope": " ".join(error.required)}
        return tuple(extended(item, extra) for item in offered if is_bearer(item))
    return offered
