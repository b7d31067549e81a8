"""Completes the OpenAPI document: security of routes, error responses, limits from settings.

The security of a route is derived from its gates. FastAPI collects it from `Security(...)`
dependencies, which cost every request. This module writes it when the document is generated, so
requests cost nothing.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

from authapi.strategies.base import Strategy
from authapi.strategies.registry import built_in_name
from authapi.web.answers import oauth_errors
from authapi.web.answers.descriptions import DESCRIPTIONS, Document
from authapi.web.answers.step_up import REQUIRES, describe_requirements
from authapi.web.context import Runtime
from authapi.web.documents.examples import add_examples
from authapi.web.documents.features import omit_disabled
from authapi.web.documents.logins import describe_logins
from authapi.web.documents.operations import name_operations
from authapi.web.documents.settings import apply_settings
from authapi.web.documents.tags import describe_tags
from authapi.web.requirements import Gate, Requirements, gates_of, login_requirements
from authapi.web.schemas.problem import OAuthError, Problem

_HEADERS: Mapping[str, Document] = {
    "X-Request-ID": {
        "description": "The id of this request in the log. The server generates it.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    "WWW-Authenticate": {
        "description": "A challenge for each accepted scheme (RFC 9110, section 11.6.1).",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "Retry-After": {
        "description": "Seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
}
_HEADERS_OF: Mapping[str, tuple[str, ...]] = {
    "401": ("WWW-Authenticate",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}

_DEFAULT_CONTENT = {
    "application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}
}
"""FastAPI's default content of a 422 response."""
_SCHEMAS = "#/components/schemas/"
_SCHEMA_NAMES = frozenset(
    {
        *(Problem.__name__, OAuthError.__name__),
        *Problem.model_json_schema().get("$defs", {}),
        *OAuthError.model_json_schema().get("$defs", {}),
    }
)
"""The names of the schemas of error responses."""
_REFUSALS_OF_ALL = (400, 431)
"""The refusals of any route: ambiguous or too large headers."""
_REFUSALS_OF_GATES = (*_REFUSALS_OF_ALL, 401, 403, 503)


def install(
    app: FastAPI,
    runtime: Runtime,
    own: APIRouter | None = None,
    *,
    before: Callable[[], None] | None = None,
    governs_app: bool = False,
) -> None:
    """Makes `app.openapi()` return a complete document.

    `own` has the routes of authapi. Other routes get their security and the refusals of their
    gates, and stay as they are otherwise; with `governs_app`, they get the error responses that
    authapi sends for them. `before` is called before the document is generated.
    """
    generate: Callable[[], Document] = app.openapi
    finished: list[Document] = []

    def openapi() -> Document:
        if before is not None:
            before()
        document = generate()
        # FastAPI generates a new document after routes were added, and returns a cached one
        # otherwise.
        if not finished or finished[0] is not document:
            ours = frozenset(map(id, own.routes if own else ()))
            _complete(document, app, runtime, ours, governs_app=governs_app)
            finished[:] = [document]
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def gated_routes(app: FastAPI) -> Iterator[tuple[RouteContext, tuple[Gate[object], ...]]]:
    """Yields every route of `app` with dependencies, and the gates among these."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if dependant is not None:
            yield route, tuple(gates_of(dependant))


def requirements_of(
    gates: Iterable[Gate[object]], runtime: Runtime
) -> list[dict[str, list[str]]] | None:
    """Returns the `security` of a route with these gates, or None without gates.

    The items of the list are alternatives; `{}` means that no credential is required. Several gates
    must all accept the request: by one of their common strategies, or by one credential for each
    gate if they have no strategy in common. Raises ConfigurationError for an unknown strategy.
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


def _complete(
    document: Document,
    app: FastAPI,
    runtime: Runtime,
    ours: frozenset[int],
    *,
    governs_app: bool,
) -> None:
    """Completes `document` in place.

    `ours` are the `id`s of the routes of authapi. With `governs_app`, authapi sends the error
    responses of all routes.
    """
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    paths = document.setdefault("paths", {})
    names = _Names(components)
    used: set[str] = set()
    own_operations: dict[tuple[str, str], Document] = {}
    without_strategy: list[Document] = []
    strategies = {item.name: item for item in runtime.registry}
    for route, gates in gated_routes(app):
        path: Document = paths.get(route.path_format, {})
        security = requirements_of(gates, runtime)
        is_oauth = oauth_errors.is_endpoint(route, runtime.settings.prefix)
        content = names.oauth if is_oauth else names.problem
        for gate in gates:
            # Credentials of OAuth clients are a strategy that no setting names.
            strategies |= {item.name: item for item in gate.bind(runtime).strategies}
        for method in route.methods or ():
            operation = path.get(method.lower())
            if operation is None:
                continue
            if security == []:
                # Without any of its strategies, the route answers 404: the document omits it.
                del path[method.lower()]
                if id(route.original_route) in ours:
                    without_strategy.append(operation)
                continue
            if security is not None:
                operation["security"] = [names.of_schemes(item) for item in security]
                used.update(name for item in security for name in item)
                _describe_login(operation, gates, runtime)
            responses = operation.setdefault("responses", {})
            refusals = _refusals(strategies[name] for item in security or () for name in item)
            is_own = id(route.original_route) in ours
            if is_own:
                own_operations[method, str(route.path_format)] = operation
                operation.setdefault("security", [])  # public
            if governs_app or is_own:
                _describe_responses(responses, content, (*_REFUSALS_OF_ALL, *refusals))
            elif security is not None:
                _describe_refusals(responses, content, (*_REFUSALS_OF_GATES, *refusals))
        if not path:
            paths.pop(route.path_format, None)
    omit_disabled(document, own_operations, runtime, without_strategy=without_strategy)
    schemes = {name: dict(item.openapi()) for name, item in strategies.items() if name in used}
    if schemes:
        components["securitySchemes"] = components.get("securitySchemes", {}) | {
            names.of_scheme(name): scheme for name, scheme in schemes.items()
        }
    text = json.dumps(document)
    for model in (Problem, OAuthError):
        if f'"{names.ref_of(model)}"' in text:
            names.add_schema(model, schemas)
    if "#/components/headers/" in text:
        components["headers"] = _HEADERS | components.get("headers", {})
    if f'"{_SCHEMAS}HTTPValidationError"' not in text:
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
    apply_settings(document, schemas, runtime)
    describe_logins(schemas, runtime.registry.issuers.values())
    add_examples(own_operations.values(), schemas)
    describe_tags(document, own_operations.values(), governs_app=governs_app)
    name_operations(document, own_operations, prefix=runtime.settings.prefix)


class _Names:
    """The names of our components in a document that may have others with the same names."""

    def __init__(self, components: Document) -> None:
        taken = components.get("schemas", {})
        self._prefix = "AuthAPI" if any(name in taken for name in _SCHEMA_NAMES) else ""
        self._schemes = frozenset(components.get("securitySchemes", ()))
        self.problem = _content("application/problem+json", self.ref_of(Problem))
        self.oauth = _content(oauth_errors.MEDIA_TYPE, self.ref_of(OAuthError))

    def ref_of(self, model: type[Problem]) -> str:
        """Returns the reference to the schema of `model`."""
        return f"{_SCHEMAS}{self._prefix}{model.__name__}"

    def of_scheme(self, strategy: str) -> str:
        """Returns the name of the security scheme of a strategy."""
        return f"authapi_{strategy}" if strategy in self._schemes else strategy

    def of_schemes(self, requirement: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """Returns a security requirement with the names of the schemes."""
        return {self.of_scheme(name): scopes for name, scopes in requirement.items()}

    def add_schema(self, model: type[Problem], schemas: Document) -> None:
        """Adds the schema of `model`, and those that it refers to."""
        schema = model.model_json_schema(ref_template=f"{_SCHEMAS}{self._prefix}{{model}}")
        definitions = schema.pop("$defs", {})
        for name, definition in {**definitions, model.__name__: schema}.items():
            schemas[f"{self._prefix}{name}"] = definition


def _content(media_type: str, ref: str) -> Document:
    return {media_type: {"schema": {"$ref": ref}}}


def _refusals(strategies: Iterable[Strategy[Any]]) -> tuple[int, ...]:
    """Returns the statuses that only these strategies answer.

    A password in each request is a login in each request, which the limits of logins count.
    """
    kinds = (kind for item in strategies for kind in type(item).__mro__)
    return (429,) if any(built_in_name(kind) == "basic" for kind in kinds) else ()


def _describe_responses(responses: Document, content: Document, refusals: Iterable[int]) -> None:
    """Completes the responses of a route of authapi."""
    for status in refusals:
        responses.setdefault(str(status), {"description": DESCRIPTIONS[status]})
    for code, response in responses.items():
        names = ("X-Request-ID", *_HEADERS_OF.get(code, ()))
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = response.get("headers", {}) | headers
        if code[0] in "45" and response.get("content", _DEFAULT_CONTENT) == _DEFAULT_CONTENT:
            response["content"] = content


def _describe_login(operation: Document, gates: Iterable[Gate[object]], runtime: Runtime) -> None:
    """Describes the age and strength of the login that the gates of a route require."""
    # Optional ones refuse a weak login too.
    wanted = [_with_settings(gate, runtime) for gate in gates]
    required = login_requirements(wanted, fresh_max_age=runtime.settings.fresh_max_age)
    if required:
        operation[REQUIRES] = required
        text, sentence = operation.get("description"), describe_requirements(required)
        operation["description"] = f"{text}\n\n{sentence}" if text else sentence


def _with_settings(gate: Gate[object], runtime: Runtime) -> Requirements:
    """Returns the requirements of a gate, with the second factor that the settings add for logins.

    Without a credential, an optional gate is open: the settings add nothing to its route.
    """
    wanted, binding = gate.requirements, gate.bind(runtime)
    is_closed = binding.refuses_one_factor or binding.ranks_by_factors
    has_accounts = any(strategy.users_are_accounts for strategy in binding.strategies)
    if wanted.optional or not is_closed or not has_accounts:
        return wanted
    return replace(wanted, mfa=wanted.mfa if isinstance(wanted.mfa, timedelta) else True)


def _describe_refusals(responses: Document, content: Document, refusals: Iterable[int]) -> None:
    """Adds the refusals of a gate to a route of the application, unless it describes them."""
    for status in refusals:
        names = _HEADERS_OF.get(str(status), ())
        refusal: Document = {"description": DESCRIPTIONS[status], "content": content}
        if names:
            refusal["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        responses.setdefault(str(status), refusal)
