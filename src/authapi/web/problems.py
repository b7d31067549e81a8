"""Error responses: problem documents (RFC 9457), and the exception handlers that send them.

The class of an error decides the status. Refusals of one kind have the same body, and no body
repeats input of the client. `error_response` selects the representation: a page for browsers on the
form pages (`web.pages.error_pages`), the JSON of RFC 6749 on the OAuth endpoints
(`web.answers.oauth_errors`), and a problem document elsewhere.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from authapi import errors
from authapi.domain.client import current_client
from authapi.errors import AuthAPIError, InvalidInput, Refusal, Unavailable
from authapi.errors.second_factors import IncompleteLogin
from authapi.strategies.base import Challenge
from authapi.web.answers import oauth_errors, websocket_messages
from authapi.web.answers.private_responses import with_headers_of_gate
from authapi.web.answers.route_ownership import allowed_methods
from authapi.web.answers.step_up import (
    login_members,
    step_up_members,
    step_up_parameters,
)
from authapi.web.answers.validation import invalid_input
from authapi.web.challenges import build_challenges, is_bearer, with_parameters
from authapi.web.context import RequestContext, context_of, disabled_members
from authapi.web.pages.error_pages import error_page, wants_page

PROBLEM = "application/problem+json"

STATUS: Mapping[type[AuthAPIError], int] = {
    errors.Unavailable: 503,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RequestTimeout: 408,
    errors.EmailTaken: 409,
    errors.AccountInUse: 409,
    errors.FactorExists: 409,
    errors.TooManyFactors: 409,
    errors.LastFactor: 409,
    errors.LastWayIn: 409,
    errors.LinkRequired: 409,
    errors.IdentityTaken: 409,
    errors.LoginFlowInvalid: 400,
    errors.ProfileTaken: 409,
    errors.UsernameTaken: 409,
    errors.LastSuperuser: 409,
    errors.NotInvited: 409,
    errors.AccountDeactivated: 409,
    errors.TooManyTokens: 409,
    errors.KeyNotPublished: 409,
    errors.FormAlreadySent: 409,
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
"""The status of an error class and its subclasses."""

_LOGGED = (
    errors.Forbidden,
    errors.InvalidCredential,
    errors.InactiveAccount,
    errors.InsufficientAuthentication,
    errors.StaleAuthentication,
    errors.TooManyAttempts,
    errors.TooManyRequests,
    errors.MalformedRequest,
    errors.HeadersTooLarge,
    errors.TargetTooLong,
    errors.HTTPVersionNotSupported,
    errors.Unavailable,
)
"""Errors that are logged."""

_AUDITED = (
    errors.InsufficientScope,
    errors.UnconfirmedEmail,
    errors.SuperuserRequired,
    errors.ForeignOrigin,
)
"""Errors that are recorded as events, for investigations (OWASP ASVS 16.3.2, 16.3.3)."""

_log = logging.getLogger("authapi.refusals")
_errors = logging.getLogger("authapi")

_BODY_HEADERS = frozenset({b"content-type", b"content-length"})
_PLAIN_CODE = re.compile(r"[^a-z]+")


class RefusalHTTPException(HTTPException):
    """Wraps a Refusal raised while FastAPI reads a body: FastAPI turns other errors into 400."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(status_of(refusal), refusal.title)
        self.refusal = refusal


class ProblemDocument(Response):
    """A response with a problem document (RFC 9457); `code` identifies the error."""

    media_type = PROBLEM

    def __init__(self, content: Mapping[str, object], status: int, code: str) -> None:
        super().__init__(json.dumps(content).encode(), status)
        self.content = content
        self.code = code


def status_of(error: AuthAPIError) -> int:
    """Returns the HTTP status of an error; 500 for an internal error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def websocket_version_header(error: Refusal) -> list[tuple[str, str]]:
    """Returns the header with the supported WebSocket version, if `error` is about the version.

    See RFC 6455, section 4.4.
    """
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
    """Returns a problem document (RFC 9457). `code` is stable; each code has one `title`."""
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


def error_response(error: Exception, scope: Scope) -> Response:
    """Returns the response to an error: a page, an OAuth error or a problem document.

    An exception that is no AuthAPIError becomes `internal_error`. Raises RuntimeError if authapi is
    not installed.
    """
    context = context_of(HTTPConnection(scope))
    if isinstance(error, AuthAPIError):
        return _represent(problem_from_error(error, context), scope)
    return _represent(internal_error(context.request_id), scope)


def error_document(error: AuthAPIError, scope: Scope) -> Response:
    """Returns the response to an error for a program: an OAuth error or a problem document.

    Raises RuntimeError if authapi is not installed.
    """
    return _represent_as_json(problem_from_error(error, context_of(HTTPConnection(scope))), scope)


def _represent(document: ProblemDocument, scope: Scope) -> Response:
    if wants_page(scope, context_of(HTTPConnection(scope)).runtime.settings.prefix):
        return error_page(document, document.code, scope)
    return _represent_as_json(document, scope)


def _represent_as_json(document: ProblemDocument, scope: Scope) -> Response:
    runtime = context_of(HTTPConnection(scope)).runtime
    if not oauth_errors.wants_oauth_error(scope, runtime.units, runtime.settings.prefix):
        return document
    challenges = document.headers.getlist("www-authenticate")
    content = {**document.content, **oauth_errors.oauth_members(document.content, challenges)}
    response = Response(
        json.dumps(content).encode(), document.status_code, media_type=oauth_errors.MEDIA_TYPE
    )
    others = [pair for pair in document.raw_headers if pair[0] not in _BODY_HEADERS]
    response.raw_headers.extend(others)
    return response


def problem_from_error(error: AuthAPIError, context: RequestContext) -> ProblemDocument:
    """Returns the problem document for an error of this request, and logs the error."""
    status, headers, members = status_of(error), [], dict[str, object](step_up_members(error))
    _log_error(error, context)
    if isinstance(error, Unavailable | errors.TooManyAttempts | errors.TooManyRequests):
        headers.append(("retry-after", str(error.retry_after)))
    elif isinstance(error, errors.RequestTimeout):
        # RFC 9110, section 15.5.9. The server would parse the rest of the body as a request.
        headers.append(("connection", "close"))
    elif isinstance(error, errors.UnsupportedMediaType):
        if error.accept_encoding is not None:
            headers.append(("accept-encoding", error.accept_encoding))
    elif isinstance(error, errors.MalformedRequest):
        headers += websocket_version_header(error)
    elif not isinstance(error, Refusal):
        return internal_error(context.request_id)
    elif isinstance(error, InvalidInput):
        members["errors"] = [
            {"loc": list(item.loc), "code": item.code, "message": item.message}
            for item in error.errors
        ]
    elif isinstance(error, errors.InvalidGrant):
        members["error"] = error.code
    elif isinstance(error, IncompleteLogin | errors.EmailNeeded):
        headers += error.headers
    members |= login_members(error)
    headers += [("www-authenticate", str(item)) for item in _challenges(error, context)]
    headers += context.discards
    detail = error.detail if isinstance(error, Refusal) else None
    more: dict[str, Any] = {"detail": detail, "headers": headers, **members}
    return problem(status, error.code, error.title, request_id=context.request_id, **more)


def _log_error(error: AuthAPIError, context: RequestContext) -> None:
    # Refused access and unavailable backends are logged. Invalid input is not: it would hide them.
    # NotFound is logged for authenticated callers, who may have tried ids of other accounts.
    if isinstance(error, _LOGGED) or (isinstance(error, errors.NotFound) and context.identity):
        identity, cause = context.identity, error.__cause__
        is_unavailable = isinstance(error, Unavailable)
        _log.log(
            logging.WARNING if is_unavailable else logging.INFO,
            "unavailable" if is_unavailable else "refused",
            extra={
                "code": getattr(error, "code", None),
                # The class only: the message of a driver may contain values.
                "cause": type(cause).__name__ if cause else None,
                "request_id": context.request_id,
                "user_id": str(identity.user.id) if identity else None,
                "strategy": identity.strategy if identity else None,
                "ip": current_client().ip,
            },
        )


def internal_error(request_id: str) -> ProblemDocument:
    """Returns the problem document for an unhandled exception, which the log has by request id."""
    return problem(500, "internal_error", "Internal server error", request_id=request_id)


def install(app: FastAPI) -> None:
    """Adds the exception handlers of the service, which answers every path of `app`."""
    app.exception_handlers.update(own_handlers())


def install_for_gates(app: FastAPI) -> None:
    """Adds the handler for refusals of gates to an application in which authapi is a guest.

    A handler of the application for AuthAPIError or a subclass wins, also one that it adds later.
    """
    app.exception_handlers.setdefault(AuthAPIError, _on_error_of_gate)  # type: ignore[arg-type]  # Starlette: Request only


def own_handlers() -> dict[Any, Any]:
    """Returns the exception handlers for routes of authapi."""
    return {
        HTTPException: _on_http_exception,
        RequestValidationError: _on_invalid_request,
        WebSocketRequestValidationError: _on_invalid_websocket,
        AuthAPIError: _on_authapi_error,
    }


async def answer(error: Exception, request: Request) -> Response | None:
    """Returns the response of a route of authapi to an error that no handler has answered."""
    if isinstance(error, AuthAPIError):
        return await _on_authapi_error(request, error)
    if isinstance(error, HTTPException):
        return await _on_http_exception(request, error)
    return unhandled_error(error, request.scope)


def unhandled_error(error: Exception, scope: Scope) -> Response:
    """Logs an unhandled exception, and returns the response 500 to its request.

    Raises RuntimeError if authapi is not installed.
    """
    _errors.exception(
        "unhandled error",
        exc_info=error,
        extra={"request_id": context_of(HTTPConnection(scope)).request_id},
    )
    return error_response(error, scope)


async def _on_error_of_gate(connection: HTTPConnection, error: AuthAPIError) -> Response | None:
    if not isinstance(error, Refusal | Unavailable):
        raise error  # a failure of the process: the application handles its errors
    context = context_of(connection)
    context.is_private = True
    response = await _on_authapi_error(connection, error)
    if response is not None and not context.is_gated:
        # A call such as `auth.log_in` was refused, and no gate has marked the response.
        response.raw_headers = with_headers_of_gate(response.raw_headers, is_private=True)
    return response


async def _on_authapi_error(connection: HTTPConnection, error: AuthAPIError) -> Response | None:
    context = context_of(connection)
    if isinstance(error, _AUDITED):
        account = context.identity or context.csrf_target
        await context.runtime.record_access_refused(error.code, account)
    if isinstance(connection, WebSocket):
        return await _refuse_websocket(problem_from_error(error, context), connection)
    return error_response(error, connection.scope)


async def _refuse_websocket(document: ProblemDocument, websocket: WebSocket) -> Response | None:
    is_accepted = context_of(websocket).is_accepted
    if websocket_messages.can_send_response(websocket.scope, is_accepted=is_accepted):
        return document
    await websocket.send(websocket_messages.close_message(document.status_code, document.code))
    return None


async def _on_http_exception(connection: HTTPConnection, error: HTTPException) -> Response | None:
    if isinstance(connection, WebSocket):
        return await _refuse_websocket(_problem_from_http(error, connection), connection)
    if error.status_code < 400:
        return Response(status_code=error.status_code, headers=error.headers)
    return _represent(_problem_from_http(error, connection), connection.scope)


def _problem_from_http(error: HTTPException, connection: HTTPConnection) -> ProblemDocument:
    context = context_of(connection)
    if isinstance(error, RefusalHTTPException):
        return problem_from_error(error.refusal, context)
    status, headers = error.status_code, dict(error.headers or {})
    if status == 404:
        # The response must not show whether a row of another account exists.
        return problem_from_error(errors.NotFound(), context)
    if status < 400:
        return problem_from_error(errors.Forbidden(), context)  # WebSockets only
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Error"
    if status == 405:
        headers["Allow"] = allowed_methods(connection, context.runtime.settings.prefix)
    detail = error.detail if error.detail != phrase else None
    code = _PLAIN_CODE.sub("_", phrase.lower()).strip("_")
    return problem(
        status, code, phrase, request_id=context.request_id, detail=detail, headers=headers.items()
    )


async def _on_invalid_request(request: Request, error: RequestValidationError) -> Response:
    disabled = disabled_members(request.scope)
    return error_response(invalid_input(error, disabled=disabled), request.scope)


async def _on_invalid_websocket(
    websocket: WebSocket, error: WebSocketRequestValidationError
) -> Response | None:
    document = problem_from_error(invalid_input(error), context_of(websocket))
    return await _refuse_websocket(document, websocket)


def _challenges(error: AuthAPIError, context: RequestContext) -> tuple[Challenge, ...]:
    if not isinstance(error, errors.Unauthenticated | errors.InsufficientScope):
        return ()
    challenges = context.challenges
    if challenges is None:
        challenges = build_challenges(context.runtime.registry, context.runtime)
    if extra := step_up_parameters(error):
        return tuple(with_parameters(item, extra) for item in challenges)
    if isinstance(error, errors.InsufficientScope):
        # RFC 6750, section 3.1: only bearer credentials have a challenge in a 403 response.
        extra = {"error": "insufficient_scope", "scope": " ".join(error.required)}
        return tuple(with_parameters(item, extra) for item in challenges if is_bearer(item))
    return challenges
