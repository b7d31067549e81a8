"""What the OpenAPI document says of security, and it is true: derived from the gates themselves.

FastAPI collects security from `Security(...)` sub-dependencies, each of which costs every request.
Here it is written into the document when the document is made, and requests pay nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

from authapi.web.context import Runtime
from authapi.web.resolver import Gate
from authapi.web.routing import gates_of
from authapi.web.schemas import Problem

Document = dict[str, Any]

_DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "No good credential for this route; `WWW-Authenticate` says which would be.",
    403: "Not allowed.",
    404: "Not found, or somebody else's.",
    409: "Taken.",
    412: "Changed meanwhile.",
    413: "The body is too large.",
    415: "Another content type than the route reads.",
    422: "The input is not valid; `errors` says where.",
    429: "Too many attempts; `Retry-After` says when to try again.",
    431: "The request headers are too large.",
    503: "Temporarily unavailable; `Retry-After` says for how long.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may refuse with these statuses."""
    return {status: {"description": _DESCRIPTIONS[status]} for status in statuses}


def install(app: FastAPI, runtime: Runtime) -> None:
    """Make `app.openapi()` tell the security of each route and the form of each refusal."""
    make: Callable[[], Document] = app.openapi
    finished: list[Document] = []

    def openapi() -> Document:
        document = make()
        # FastAPI makes a new document when routes were added, and hands out the old one otherwise.
        if not finished or finished[0] is not document:
            _complete(document, app, runtime)
            finished[:] = [document]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def gated_routes(app: FastAPI) -> Iterator[tuple[RouteContext, tuple[Gate[object], ...]]]:
    """Every route of `app` that has dependencies, with the gates on its way."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None:
            yield route, tuple(gates_of(dependant))


def requirements_of(
    gates: Iterable[Gate[object]], runtime: Runtime
) -> list[dict[str, list[str]]] | None:
    """The `security` of a route with these gates, or None if it has none.

    Alternatives are items of the list, `{}` means that no credential is fine too. Several gates
    must all be content: what they have in common, or one credential for each if that is nothing.
    """
    bound = [(gate, gate.bind(runtime)) for gate in gates]
    if not bound:
        return None
    strict = [item for item in bound if not item[0].requirements.optional]
    scopes = sorted({scope for gate, _ in strict or bound for scope in gate.requirements.scopes})
    choices = [[strategy.name for strategy in binding.strategies] for _, binding in strict or bound]
    common = [name for name in choices[0] if all(name in names for names in choices[1:])]
    combinations = [(name,) for name in common] if common else list(product(*choices))
    alternatives = [{name: list(scopes) for name in names} for names in combinations]
    return alternatives if strict else [*alternatives, {}]


def _complete(document: Document, app: FastAPI, runtime: Runtime) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    used: set[str] = set()
    for route, gates in gated_routes(app):
        path: Mapping[str, Any] = document.get("paths", {}).get(route.path_format, {})
        security = requirements_of(gates, runtime)
        for method in route.methods or ():
            operation = path.get(method.lower())
            if operation is None or security is None:
                continue
            operation["security"] = security
            used.update(name for item in security for name in item)
    schemes = {item.name: dict(item.openapi()) for item in runtime.registry if item.name in used}
    if schemes:
        components["securitySchemes"] = components.get("securitySchemes", {}) | schemes
    _add_problem_schema(schemas)
    for path in document.get("paths", {}).values():
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                _describe_problems(operation["responses"])
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    _write_password_limits(schemas, runtime)


def _add_problem_schema(schemas: Document) -> None:
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas["Problem"] = schema


def _describe_problems(responses: Document) -> None:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if "431" not in responses:
        responses["431"] = {"description": _DESCRIPTIONS[431]}
    for status, response in responses.items():
        if status[0] in "45":
            response["content"] = content


def _write_password_limits(schemas: Document, runtime: Runtime) -> None:
    settings = runtime.settings
    for schema in schemas.values():
        for field in schema.get("properties", {}).values():
            if field.pop("x-new-password", False):
                field["minLength"] = settings.password_min_length
                field["maxLength"] = settings.password_max_length
