"""Docstrings of public functions name the errors that the function raises itself."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import authapi

PACKAGE = Path(authapi.__file__).parent
# Their docstrings are for other readers: descriptions in the OpenAPI document, and help texts.
ELSEWHERE = ("web/routes/", "cli/")
PROGRAMMING_ERRORS = {"AssertionError", "TypeError"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Documented(NamedTuple):
    """A public function, with the docstrings in which a reader finds its errors."""

    place: str
    text: str
    errors: frozenset[str]


def raised(node: ast.AST) -> Iterator[str]:
    """The classes in `raise` statements of a function, without those of functions inside it.

    A class that a handler around the statement catches by its name does not count.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            error = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(error).rpartition(".")[2]
            if name[:1].isupper() and name not in PROGRAMMING_ERRORS:
                yield name
        if isinstance(child, ast.Try):
            caught = {
                name.id
                for handler in child.handlers
                if handler.type is not None
                for name in ast.walk(handler.type)
                if isinstance(name, ast.Name)
            }
            yield from set(raised(ast.Module(child.body, []))) - caught
            for part in (*child.handlers, *child.orelse, *child.finalbody):
                yield from raised(ast.Module([part], []))  # type: ignore[list-item]  # a handler is no statement
        else:
            yield from raised(child)


def public_functions(path: Path) -> Iterator[Documented]:
    place = path.relative_to(PACKAGE)
    dotted = ".".join(["authapi", *place.with_suffix("").parts]).removesuffix(".__init__")
    module = importlib.import_module(dotted)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes: list[ast.ClassDef | None] = [
        None,
        *(node for node in tree.body if isinstance(node, ast.ClassDef)),
    ]
    for owner in classes:
        if owner is not None and owner.name.startswith("_"):
            continue
        holder = module if owner is None else getattr(module, owner.name)
        shared = [module.__doc__] if owner is None else [module.__doc__, holder.__doc__]
        for node in (tree if owner is None else owner).body:
            if not isinstance(node, Function) or (
                node.name.startswith("_") and node.name != "__init__"
            ):
                continue
            # `getdoc` also finds the docstring of the method that this one overrides.
            found = inspect.getattr_static(holder, node.name)
            function = getattr(found, "__func__", found)
            own = inspect.getdoc(getattr(holder, node.name, function)) or ""
            text = "\n".join(filter(None, [own, *shared]))
            yield Documented(f"{place}: {node.name}", text, frozenset(raised(node)))


MODULES = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not str(path.relative_to(PACKAGE)).startswith(ELSEWHERE)
]


def test_public_functions_name_the_errors_that_they_raise() -> None:
    functions = [function for path in MODULES for function in public_functions(path)]
    missing = {
        function.place: sorted(error for error in function.errors if error not in function.text)
        for function in functions
    }
    assert {place: errors for place, errors in missing.items() if errors} == {}
    found = {function.place: function.errors for function in functions if function.errors}
    assert len(found) > 80
    assert found["strategies/session.py: authenticate"] == {"InvalidCredential"}
