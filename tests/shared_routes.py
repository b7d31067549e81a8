"""Shares FastAPI's analysis of authapi's routes between all applications of a test worker.

FastAPI analyses the signature of a route and builds models of its parameters for every application
that includes it, always with the same result. This takes 30 ms, and most tests create an
application. The overrides of an application and the handler that reads them are still created for
each. Routes that an application includes with a prefix or other options are left to FastAPI.

This patches private names of FastAPI, so it is a plugin of the option `--shared-analysis` only.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest
from fastapi import routing
from fastapi._body_limit import wrap_app_with_body_limit
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute

from authapi.web.routes.units import UNITS

_Context = routing._EffectiveRouteContext

_OWN_ROUTES = frozenset(id(route) for unit in UNITS.values() for route in unit.routes)


@pytest.fixture(scope="session", autouse=True)
def _shared_routes() -> Iterator[None]:
    build, cache = _Context.from_api_route, dict[object, Any]()

    def from_api_route(*, original_route: APIRoute, include_context: Any) -> Any:
        if id(original_route) not in _OWN_ROUTES or _has_overrides(include_context):
            return build(original_route=original_route, include_context=include_context)
        key = id(original_route), *_options(include_context)
        if key not in cache:
            cache[key] = build(original_route=original_route, include_context=include_context)
        context = copy(cache[key])
        context.dependency_overrides_provider = include_context.dependency_overrides_provider
        token = routing._effective_route_context_var.set(context)
        try:
            handler = routing.request_response(original_route.get_route_handler())
            context.app = wrap_app_with_body_limit(handler, context.max_body_size)
        finally:
            routing._effective_route_context_var.reset(token)
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Context, "from_api_route", from_api_route)
        yield


def _has_overrides(include_context: Any) -> bool:
    special = ("prefix", "tags", "dependencies", "responses", "callbacks")
    return any(getattr(include_context, name) for name in special)


def _options(include_context: Any) -> Iterator[object]:
    for name in (
        *("default_response_class", "generate_unique_id_function", "strict_content_type"),
        *("deprecated", "include_in_schema", "max_body_size"),
    ):
        value = getattr(include_context, name)
        yield value.value if isinstance(value, DefaultPlaceholder) else value
