"""Every operation of an application, from its OpenAPI document, so that tests cover new routes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from fastapi import FastAPI

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    template: str
    security: Sequence[Mapping[str, Sequence[str]]] = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    """Schemas of the request body by content type; empty if it has none."""
    example: Any = field(repr=False)
    """A valid body, as plain data, or None."""
    statuses: frozenset[int] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def path(self) -> str:
        """The path with an unused id."""
        return re.sub(r"\{[^}]+\}", str(UUID(int=7 << 76 | 2 << 62)), self.template)

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategies that it accepts."""
        return tuple(name for alternative in self.security for name in alternative)

    @property
    def is_open(self) -> bool:
        """Whether it is public."""
        return not self.security or {} in self.security

    @property
    def content_type(self) -> str | None:
        """The content type of the request body; None if it reads no body."""
        return next(iter(self.body), None)

    @property
    def reads_json(self) -> bool:
        return self.content_type == "application/json"


def operations(app: FastAPI) -> list[Operation]:
    """Returns every operation of `app`, in the order of its document."""
    return list(_operations(app.openapi()))


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                content = operation.get("requestBody", {}).get("content", {})
                body = {
                    name: _resolved(document, media["schema"]) for name, media in content.items()
                }
                yield Operation(
                    method=method.upper(),
                    template=path,
                    security=operation.get("security", ()),
                    body=body,
                    example=next((_example(document, schema) for schema in body.values()), None),
                    statuses=frozenset(map(int, operation["responses"])),
                )


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


def _example(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    schema = _resolved(document, schema)
    for name in ("examples", "enum"):
        if name in schema:
            return schema[name][0]
    if "const" in schema:
        return schema["const"]
    if schema.get("type") == "object":
        # `oneOf` says which members exclude one another; the example has the first of them.
        one, *others = [set(choice["required"]) for choice in schema.get("oneOf", ())] or [set()]
        excluded = set().union(*others) - one
        members = schema.get("properties", {}).items()
        return {
            name: _example(document, member) for name, member in members if name not in excluded
        }
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return _example(document, schema[name][0])
    plain = {"array": [], "boolean": False, "integer": schema.get("minimum", 0), "number": 0.5}
    if schema["type"] == "string":
        return _STRINGS.get(schema.get("format", ""), "")
    return plain[schema["type"]]


_STRINGS = {"email": "alice@example.com", "password": "correct horse battery staple"}
