"""Completes the OpenAPI document: security of routes, error responses, limits from settings.

The security of a route is derived from its gates. FastAPI collects it from `Security(...)`
dependencies, which cost every request. This module writes it when the document is generated, so
requests cost nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

from authapi.web.answers import oauth_errors
from authapi.web.answers.descriptions import DESCRIPTIONS, Document
from authapi.web.context import Runtime
from authapi.web.requirements import Gate, gates_of
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
_PROBLEM_CONTENT = {"application/problem+json": {"schema": {"$ref": f"{_SCHEMAS}Problem"}}}
_OAUTH_CONTENT = {oauth_errors.MEDIA_TYPE: {"schema": {"$ref": f"{_SCHEMAS}OAuthError"}}}

_NAMES = frozenset({"login_email", "login_username", "new_username", "username"})
"""Marks of fields that depend on the setting `login_identifier`."""
LIMIT = "x-limit"
"""Marks a field of a schema whose limit is a setting. The finished document does not have it."""


def install(app: FastAPI, runtime: Runtime) -> None:
    """Makes `app.openapi()` return a complete document."""
    generate: Callable[[], Document] = app.openapi
    finished: list[Document] = []

    def openapi() -> Document:
        document = generate()
        # FastAPI generates a new document after routes were added, and returns a cached one
        # otherwise.
        if not finished or finished[0] is not document:
            _complete(document, app, runtime)
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


def _complete(document: Document, app: FastAPI, runtime: Runtime) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    paths = document.setdefault("paths", {})
    used: set[str] = set()
    strategies = {item.name: item for item in runtime.registry}
    oauth_paths: set[str] = set()
    for route, gates in gated_routes(app):
        if oauth_errors.is_endpoint(route, runtime.settings.prefix):
            oauth_paths.add(str(route.path_format))
        path: Document = paths.get(route.path_format, {})
        security = requirements_of(gates, runtime)
        for gate in gates:
            # Credentials of OAuth clients are a strategy that no setting names.
            strategies |= {item.name: item for item in gate.bind(runtime).strategies}
        for method in route.methods or ():
            operation = path.get(method.lower())
            if operation is None or security is None:
                continue
            if not security:
                # Without any of its strategies, the route answers 404: the document omits it.
                del path[method.lower()]
                continue
            operation["security"] = security
            used.update(name for item in security for name in item)
        if not path:
            paths.pop(route.path_format, None)
    schemes = {name: dict(item.openapi()) for name, item in strategies.items() if name in used}
    if schemes:
        components["securitySchemes"] = components.get("securitySchemes", {}) | schemes
    _add_schema(Problem, schemas)
    if not oauth_paths.isdisjoint(paths):
        _add_schema(OAuthError, schemas)
    components["headers"] = components.get("headers", {}) | _HEADERS
    for name, path in paths.items():
        content = _OAUTH_CONTENT if name in oauth_paths else _PROBLEM_CONTENT
        for operation in path.values():
            if isinstance(operation, dict) and "responses" in operation:
                _describe_responses(operation["responses"], content)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for name in [name for name, schema in schemas.items() if not _is_enabled(schema, runtime)]:
        del schemas[name]
        _remove_alternative(document, {"$ref": f"#/components/schemas/{name}"})
    for path in paths.values():
        for operation in path.values():
            if isinstance(operation, dict):
                _choose_grants(operation, runtime)
    for schema in schemas.values():
        _choose_names(schema, runtime)
        for field in schema.get("properties", {}).values():
            _write_limit(field, runtime)


def _add_schema(model: type[Problem], schemas: Document) -> None:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    schemas[model.__name__] = schema


def _describe_responses(responses: Document, content: Document) -> None:
    for common in (400, 431):  # any route: ambiguous or too large headers
        responses.setdefault(str(common), {"description": DESCRIPTIONS[common]})
    for status, response in responses.items():
        names = ("X-Request-ID", *_HEADERS_OF.get(status, ()))
        headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        response["headers"] = response.get("headers", {}) | headers
        if status[0] in "45" and response.get("content", _DEFAULT_CONTENT) == _DEFAULT_CONTENT:
            response["content"] = content


def _is_enabled(schema: Document, runtime: Runtime) -> bool:
    """Whether the settings enable the feature that `schema` belongs to."""
    if schema.pop(LIMIT, None) != "jwt_audiences":
        return True
    return bool(runtime.services.settings.jwt_audiences)


def _remove_alternative(node: Any, alternative: Document) -> None:
    """Removes `alternative` from each `anyOf` below `node`, and inlines a single remaining one."""
    if isinstance(node, dict) and alternative in (choices := node.get("anyOf", ())):
        choices.remove(alternative)
        if len(choices) == 1:
            node |= node.pop("anyOf")[0]
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list):
            _remove_alternative(child, alternative)


def _choose_grants(operation: Document, runtime: Runtime) -> None:
    """Removes the password grant from the body of an operation if the settings disable it."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        choices = [dict(choice) for choice in schema.get("oneOf", ())]
        if not any(LIMIT in choice for choice in choices):
            continue
        is_allowed = runtime.services.settings.allows_password_grant
        kept = [choice for choice in choices if choice.pop(LIMIT, None) is None or is_allowed]
        content["schema"] = kept[0] if len(kept) == 1 else {**schema, "oneOf": kept}


def _choose_names(schema: Document, runtime: Runtime) -> None:
    """Keeps the addresses and user names of a schema that the setting `login_identifier` allows."""
    fields = schema.get("properties", {})
    marked = {name: field[LIMIT] for name, field in fields.items() if field.get(LIMIT) in _NAMES}
    if not marked:
        return
    accepted = runtime.services.settings.login_identifier
    is_login = "login_email" in marked.values()
    for name, limit in marked.items():
        field = fields.pop(name)
        del field[LIMIT]
        if not (accepted in ("both", name) if is_login else accepted != "email"):
            continue
        fields[name] = field
        if is_login:
            field.pop("default", None)
        if accepted == "username":
            _remove_alternative(field, {"type": "null"})
        if accepted != "both" and limit != "username":
            schema["required"] = sorted({*schema.get("required", ()), name})
    if is_login and accepted == "both":
        schema["oneOf"] = [{"required": [name]} for name in marked]


def _write_limit(field: Document, runtime: Runtime) -> None:
    """Writes the limit that `x-limit` names from the settings into `field`."""
    limit = field.pop(LIMIT, None)
    if limit is None:
        return
    settings = runtime.services.settings  # only authapi's own schemas have such limits
    if limit == "new_password":
        field["minLength"] = settings.password_min_length
        field["maxLength"] = settings.password_max_length
    elif limit == "strategy":
        field["anyOf"][0]["enum"] = list(runtime.registry.issuers)
        field["examples"] = [settings.default_strategy]
    elif limit == "locale":
        field["anyOf"][0] |= {
            "enum": list(settings.locales),
            "examples": [settings.locales[0]],
        }
    elif limit == "expires_in":
        longest = int(settings.personal_token_max_lifetime.total_seconds())
        field["anyOf"][0]["maximum"] = longest
    elif limit == "jwt_expires_in":
        longest = int(settings.jwt_lifetime.total_seconds())
        field["anyOf"][0] |= {"maximum": longest, "examples": [longest]}
    elif limit == "audience":
        field["enum"] = list(settings.jwt_audiences)
    elif limit == "scopes":
        array = field["anyOf"][0]
        array["maxItems"] = min(array["maxItems"], len(settings.scopes))
        if settings.scopes:
            array["items"] |= {"enum": list(settings.scopes), "examples": [*settings.scopes][:1]}
    elif limit == "roles":
        field["maxItems"] = min(field["maxItems"], len(settings.roles))
        if settings.roles:
            field["items"] |= {"enum": list(settings.roles), "examples": [*settings.roles][:1]}
        else:
            del field["items"]["examples"]
