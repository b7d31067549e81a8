"""The result of a login in the OpenAPI document: a union with one schema for each strategy.

Programs that are generated from the document then know which members a login with `jwt` has. The
discriminator is `strategy`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from authapi.strategies.base import Strategy
from authapi.strategies.registry import built_in_name
from authapi.web.answers.descriptions import Document
from authapi.web.schemas.fields import LIMIT, LOGIN

_REFERENCE = "#/components/schemas/"
_CREDENTIAL = ("access_token", "token_type", "expires_in")
_REFRESH = ("refresh_token", "refresh_expires_in")
_MEMBERS: Mapping[str | None, tuple[str, tuple[str, ...]]] = {
    "session": ("Session", ()),
    "token": ("Token", _CREDENTIAL),
    "jwt": ("JWT", (*_CREDENTIAL, *_REFRESH)),
}
"""For each built-in strategy, the beginning of the name of the schema, and the members of the
credential. A subclass may have other members."""


def describe_logins(schemas: Document, strategies: Iterable[Strategy[Any]]) -> None:
    """Replaces the schema of each result of a login in `schemas` by a union.

    `strategies` are those that issue credentials.
    """
    issuers = tuple(strategies)
    for name in [name for name, schema in schemas.items() if schema.get(LIMIT) == LOGIN]:
        del schemas[name][LIMIT]
        if issuers:
            _make_union(name, schemas, issuers)


def _make_union(name: str, schemas: Document, strategies: tuple[Strategy[Any], ...]) -> None:
    base, mapping = schemas[name], dict[str, str]()
    others = [item.name for item in strategies if built_in_name(type(item)) not in _MEMBERS]
    other = _add(f"Other{name}", _with_own_members(base, others), schemas) if others else ""
    for strategy in strategies:
        prefix, members = _MEMBERS.get(built_in_name(type(strategy)), ("", ()))
        mapping[strategy.name] = _REFERENCE + (
            _add(f"{prefix}{name}", _with_members(base, strategy.name, members), schemas)
            if prefix
            else other
        )
    schemas[name] = {
        "title": base["title"],
        "description": base["description"].partition(" The optional members")[0],
        "oneOf": [{"$ref": reference} for reference in dict.fromkeys(mapping.values())],
        "discriminator": {"propertyName": "strategy", "mapping": mapping},
    }


def _add(name: str, schema: Document, schemas: Document) -> str:
    """Adds the schema under this name, or another one if the application has the name."""
    while name in schemas:
        name = f"AuthAPI{name}"
    schemas[name] = {**schema, "title": name}
    return name


def _with_members(base: Document, strategy: str, members: tuple[str, ...]) -> Document:
    """Returns the schema of a built-in strategy, whose answers always have the `members`."""
    fields = dict[str, Document]()
    for member, field in base["properties"].items():
        if member == "strategy":
            fields[member] = {"type": "string", "const": strategy, "title": field["title"]}
        elif member in members:
            [type_] = [choice for choice in field["anyOf"] if choice["type"] != "null"]
            fields[member] = {key: field[key] for key in field if key != "anyOf"} | type_
        elif member not in (*_CREDENTIAL, *_REFRESH):
            fields[member] = field
    return {
        "type": "object",
        "description": f"The result of a login with the strategy `{strategy}`.",
        "properties": fields,
        "required": [*base["required"], *members],
    }


def _with_own_members(base: Document, strategies: list[str]) -> Document:
    """Returns the schema of strategies of the operator, which may add members of their own."""
    field = {**base["properties"]["strategy"], "enum": strategies, "examples": strategies[:1]}
    return {
        **base,
        "description": "The result of a login with a strategy of the operator.",
        "properties": {**base["properties"], "strategy": field},
    }
