"""What FastAPI works out of each of our routes, worked out once for all applications of a worker.

It reads a route's signature and makes models of its parameters for every application that includes
it, always with the same result: 30 ms each time, and most tests make an application. What is an
application's own, its overrides and the handler that asks for them, is still made for each. Routes
that an application includes in its own way, under a prefix for instance, are left to FastAPI.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import pytest
from fastapi import routing
from fastapi._body_limit import wrap_app_with_body_limit
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute

from authapi.web.routes import UNITS

_Context = routing._EffectiveRouteContext

_OURS = frozenset(id(route) for unit in UNITS.values() for route in unit.routes)


@pytest.fixture(scope="session", autouse=True)
def _shared_routes() -> Iterator[None]:
    make, made = _Context.from_api_route, dict[object, Any]()

    def from_api_route(*, original_route: APIRoute, include_context: Any) -> Any:
        if id(original_route) not in _OURS or _is_special(include_context):
            return make(original_route=original_route, include_context=include_context)
        key = id(original_route), *_given(include_context)
        if key not in made:
            made[key] = make(original_route=original_route, include_context=include_context)
        context = copy(made[key])
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


def _is_special(include_context: Any) -> bool:
    special = ("prefix", "tags", "dependencies", "responses", "callbacks")
    return any(getattr(include_context, name) for name in special)


def _given(include_context: Any) -> Iterator[object]:
    for name in (
        *("default_response_class", "generate_unique_id_function", "strict_content_type"),
        *("deprecated", "include_in_schema", "max_body_size"),
    ):
        value = getattr(include_context, name)
        yield value.value if isinstance(value, DefaultPlaceholder) else value
