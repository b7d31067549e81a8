"""Replaces the marks in the schemas of our bodies by what the settings allow."""

from typing import Any

from authapi.web.answers.descriptions import Document
from authapi.web.context import Runtime
from authapi.web.schemas.fields import LIMIT

_NAMES = frozenset({"login_email", "login_username", "new_username", "username"})
"""Marks of fields that depend on the setting `login_identifier`."""


def apply_settings(document: Document, schemas: Document, runtime: Runtime) -> None:
    """Replaces the marks in `schemas`, and in the bodies of `document`, in place."""
    for name in [name for name, schema in schemas.items() if not _is_enabled(schema, runtime)]:
        del schemas[name]
        _remove_alternative(document, {"$ref": f"#/components/schemas/{name}"})
    for path in document["paths"].values():
        for operation in path.values():
            if isinstance(operation, dict):
                _choose_grants(operation, runtime)
    for schema in schemas.values():
        _choose_names(schema, runtime)
        for field in schema.get("properties", {}).values():
            if isinstance(field, dict):
                _write_limit(field, runtime)


def _is_enabled(schema: Document, runtime: Runtime) -> bool:
    """Whether the settings enable the feature that `schema` belongs to."""
    if schema.get(LIMIT) != "jwt_audiences":
        return True
    del schema[LIMIT]
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
        if LIMIT not in schema:
            continue
        # A copy: the documents of all applications share what the route declares.
        schema = {name: value for name, value in schema.items() if name != LIMIT}
        if not runtime.services.settings.allows_password_grant:
            of_password, of_refresh = schema.pop("then"), schema.pop("else")
            bounds = {"grant_type": {"enum": ["refresh_token"]}, **of_refresh["properties"]}
            schema["properties"] = {
                name: field | bounds.get(name, {})
                for name, field in schema["properties"].items()
                if name not in of_password["required"]
            }
            schema["required"] = [*schema["required"], *of_refresh["required"]]
            del schema["if"]
        content["schema"] = schema


def _choose_names(schema: Document, runtime: Runtime) -> None:
    """Keeps the addresses and user names of a schema that the setting `login_identifier` allows."""
    fields = schema.get("properties", {})
    marked = {name: field[LIMIT] for name, field in fields.items() if field.get(LIMIT) in _NAMES}
    if not marked:
        return
    accepted = runtime.services.settings.login_identifier
    is_login = "login_email" in marked.values()
    for name, limit in marked.items():
        field = fields[name]
        del field[LIMIT]
        if not (accepted in ("both", name) if is_login else accepted != "email"):
            del fields[name]
            continue
        if is_login:
            field.pop("default", None)
        if accepted == "username":
            _remove_alternative(field, {"type": "null"})
        if accepted != "both" and limit != "username":
            schema["required"] = sorted({*schema.get("required", ()), name})
    if is_login and accepted == "both":
        schema["oneOf"] = [{"required": [name]} for name in marked]


def _write_limit(field: Document, runtime: Runtime) -> None:
    """Writes the limit that the mark names from the settings into `field`."""
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
