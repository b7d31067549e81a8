"""Routes whose models have the own columns of an application."""

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, cast

from fastapi import APIRouter
from fastapi.routing import APIRoute

from authapi.services.own_columns import ProfileModels
from authapi.web.answers.descriptions import problems
from authapi.web.own_columns.models import Model, models_with


def with_own_columns(
    units: Mapping[str, APIRouter], models: ProfileModels | None
) -> Mapping[str, APIRouter]:
    """Returns the units, in which routes accept and show `profile`; unchanged without `models`.

    The handlers are the same. FastAPI reads the models of a route from its signature, so these
    routes have copies of the handlers with other annotations.
    """
    if models is None:
        return units
    replacements = models_with(models)
    return {name: _replaced(unit, replacements) for name, unit in units.items()}


def _replaced(unit: APIRouter, models: Mapping[Model, Model]) -> APIRouter:
    replaced = APIRouter()
    for route in unit.routes:
        replaced.routes.append(
            _route(route, models) if isinstance(route, APIRoute) and _uses(route, models) else route
        )
    return replaced


def _uses(route: APIRoute, models: Mapping[Model, Model]) -> bool:
    used = (route.response_model, *route.endpoint.__annotations__.values())
    return any(isinstance(model, type) and model in models for model in used)


def _route(route: APIRoute, models: Mapping[Model, Model]) -> APIRoute:
    response_model = route.response_model
    # Each route with a body can be refused with `profile_taken`.
    responses = {**(problems(409) if route.body_field else {}), **route.responses}
    return type(route)(
        route.path,
        _handler(route.endpoint, models),
        response_model=models.get(cast("Model", response_model), response_model),
        status_code=route.status_code,
        tags=route.tags,
        summary=route.summary,
        description=route.description,
        response_description=route.response_description,
        responses=responses,
        methods=route.methods,
        name=route.name,
        openapi_extra=route.openapi_extra,
        include_in_schema=route.include_in_schema,
    )


def _handler(handler: Callable[..., Any], models: Mapping[Model, Model]) -> Callable[..., Any]:
    plain = cast("FunctionType", handler)
    copy = FunctionType(
        plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__
    )
    copy.__kwdefaults__ = plain.__kwdefaults__
    copy.__doc__, copy.__module__, copy.__qualname__ = (
        plain.__doc__,
        plain.__module__,
        plain.__qualname__,
    )
    copy.__annotations__ = {
        name: models.get(value, value) if isinstance(value, type) else value
        for name, value in plain.__annotations__.items()
    }
    return copy
