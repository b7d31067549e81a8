"""Shares FastAPI's analysis of routes and models between all applications of a test worker.

FastAPI analyses the signature of a route and builds models of its parameters for every application
that includes it, always with the same result. This takes 30 ms, and most tests create an
application. The overrides of an application and the handlers that read them are still created for
each, a handler with the first request to its route. Routes that an application includes with a
prefix or other options are left to FastAPI. An OpenAPI document is made for each application that
is asked for one, from fields of models that are analysed once: half of the time.

This patches private names of FastAPI, so it is a plugin of the option `--shared-analysis` only.
"""

import functools
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pytest
from fastapi import routing
from fastapi._body_limit import wrap_app_with_body_limit
from fastapi._compat import v2
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from authapi.web.routes.units import PAGE_FILES, UNITS

_Context = routing._EffectiveRouteContext

_OWN_ROUTES = frozenset(
    id(route) for unit in (*UNITS.values(), PAGE_FILES) for route in unit.routes
)


@pytest.fixture(scope="session", autouse=True)
def _shared_routes() -> Iterator[None]:
    build, cache = _Context.from_api_route, dict[object, Any]()

    def from_api_route(*, original_route: APIRoute, include_context: Any) -> Any:
        if id(original_route) not in _OWN_ROUTES or _has_overrides(include_context):
            return build(original_route=original_route, include_context=include_context)
        key = id(original_route), *_options(include_context)
        if key not in cache:
            built = build(original_route=original_route, include_context=include_context)
            built.dependency_overrides_provider = built.app = None  # would keep the application
            cache[key] = built
        context = _copy(cache[key])
        context.dependency_overrides_provider = include_context.dependency_overrides_provider
        handler = _lazy(original_route, context)
        context.app = wrap_app_with_body_limit(handler, context.max_body_size)
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Context, "from_api_route", from_api_route)
        patch.setattr(v2, "get_model_fields", functools.cache(v2.get_model_fields))
        yield


def _copy(context: Any) -> Any:
    """As `copy`, which asks every object how to copy it: a fifth of the start of an application."""
    copied = object.__new__(_Context)
    vars(copied).update(vars(context))
    return copied


def _lazy(route: APIRoute, context: Any) -> ASGIApp:
    """Returns the handler, which is created for the first request: few routes get one."""
    handler: ASGIApp | None = None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal handler
        if handler is None:
            token = routing._effective_route_context_var.set(context)
            try:
                handler = routing.request_response(route.get_route_handler())
            finally:
                routing._effective_route_context_var.reset(token)
        await handler(scope, receive, send)

    return app


def _has_overrides(include_context: Any) -> bool:
    return any(_special_of(include_context))


# An application asks for both some hundred times, so that loops over names would take a while.
_special_of = attrgetter("prefix", "tags", "dependencies", "responses", "callbacks")
_options_of = attrgetter(
    *("default_response_class", "generate_unique_id_function", "strict_content_type"),
    *("deprecated", "include_in_schema", "max_body_size"),
)


def _options(include_context: Any) -> list[object]:
    return [
        value.value if isinstance(value, DefaultPlaceholder) else value
        for value in _options_of(include_context)
    ]
