"""The ids and summaries of our operations in the OpenAPI document.

Generators of clients name functions by the ids. FastAPI makes ids of the path and the name of a
Python function; ours are short, and stay when either changes.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from authapi.web.answers.descriptions import Document


class Name(NamedTuple):
    """The names of an operation."""

    id: str
    summary: str


@cache
def names() -> Mapping[str, Name]:
    """Returns the names of each operation, by method and path, such as `GET /me`."""
    text = (files(__package__) / "operations.toml").read_text("utf-8")
    groups = tomllib.loads(text).values()
    return {key: Name(**names) for group in groups for key, names in group.items()}


def name_operations(
    document: Document, own_operations: Mapping[tuple[str, str], Document], *, prefix: str
) -> None:
    """Gives our operations their names. Their keys are method and path.

    An id stays that another `generate_unique_id_function` than FastAPI's has made, or that an
    operation of the application has already. `prefix` is that of our routes.
    """
    ours = {id(operation) for operation in own_operations.values()}
    taken = {
        operation.get("operationId")
        for operation in _operations(document)
        if id(operation) not in ours
    }
    for (method, path), operation in own_operations.items():
        # The prefix is the end of the path of the metadata on the host (RFC 8414, section 3.1).
        name = names().get(f"{method} {path.removeprefix(prefix).removesuffix(prefix)}")
        if name is None:
            continue
        operation["summary"] = name.summary
        of_fastapi = re.sub(r"\W", "_", path) + f"_{method.lower()}"
        # An application may generate the document by a function of its own, without ids.
        if operation.get("operationId", of_fastapi).endswith(of_fastapi) and name.id not in taken:
            operation["operationId"] = name.id


def _operations(document: Document) -> Iterator[Document]:
    for path in document["paths"].values():
        yield from (item for item in path.values() if isinstance(item, dict))
