"""Checks that migrations can run beside a service, and that they create the tables of the models.

The source of each migration is read first: see "Schema changes" in CONTRIBUTING.md. Then an empty
SQLite database is migrated and compared with the models. The tests do the same on PostgreSQL, for
which they have a server.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

AUTHAPI = Path(sys.executable).with_name("authapi")
VERSIONS = Path(__file__).parents[1] / "alembic" / "versions"

UNMARKED = "0005"
"""The last revision whose name does not say which code may run beside it."""
NAME = re.compile(r"(\d{4})(?:_beside_(\d{4}))?")
SECOND_STEP = "removes_what_code_before_needs"
"""In a migration that removes: the number of the first code that does without what it removes."""

REMOVALS = frozenset({"drop_column", "drop_constraint", "drop_index", "drop_table", "rename_table"})
FREE = frozenset({"create_table", "create_table_comment", "f", "get_bind", "get_context"})
"""They touch no table that has rows."""
LOCKS = 3
"""Tables with rows that a migration may lock: each lock delays requests by half a second."""


def main() -> int:
    """Returns 1 if a migration breaks a rule, or the exit code of a command that fails, or 0."""
    found = check_sources({path.name: path.read_text("utf-8") for path in VERSIONS.glob("*.py")})
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else check_models()


def check_models() -> int:
    """Returns the exit code of the first `authapi db` command that fails, or 0."""
    # The database must not depend on the developer's environment or on a .env of the checkout.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("AUTHAPI_")}
    with tempfile.TemporaryDirectory() as folder:
        environ["AUTHAPI_DATA_DIR"] = folder
        for command in ("upgrade", "check"):
            done = subprocess.run([AUTHAPI, "db", command], cwd=folder, env=environ, check=False)
            if done.returncode:
                print(f"authapi db {command}: exit code {done.returncode}", file=sys.stderr)
                return done.returncode
    return 0


def check_sources(sources: dict[str, str]) -> list[str]:
    """Returns what is wrong with the migrations, given as their texts by file name."""
    problems: list[str] = []
    oldest_before = ""
    numbers: list[str] = []
    for name in sorted(sources):
        tree = ast.parse(sources[name])
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        found = NAME.fullmatch(str(constants.get("revision")))
        if found is None:
            problems.append(f"{name}: the revision is not named NNNN_beside_NNNN")
            continue
        number, oldest = found[1], found[2] or found[1]
        numbers.append(number)
        if found[2] is None and number > UNMARKED:
            problems.append(
                f"{name}: the revision does not name the oldest code, as NNNN_beside_NNNN"
            )
        if oldest not in numbers:
            problems.append(f"{name}: {oldest} is no earlier revision")
        if oldest < oldest_before:
            problems.append(f"{name}: the revision before excludes code at {oldest}")
        oldest_before = oldest
        problems += (f"{name}:{text}" for text in _check(tree, constants, number, oldest))
    return problems


def _check(
    tree: ast.Module, constants: Mapping[str, object], number: str, oldest: str
) -> Iterator[str]:
    upgrade = next(
        (
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
        ),
        None,
    )
    if upgrade is None:
        yield "1: there is no upgrade()"
        return
    calls = sorted(
        (node for node in ast.walk(upgrade) if isinstance(node, ast.Call)),
        key=lambda node: (node.lineno, node.col_offset),
    )
    operations = [(call, name) for call in calls if (name := _operation(call))]
    own = {_first(call) for call, name in operations if name == "create_table"}
    builds = [call.lineno for call, name in operations if name == "build_index"]
    # A foreign key locks the table that it refers to against writes.
    is_first = constants.get("down_revision") is None
    keys = [call for call in calls if _last(call) == "ForeignKeyConstraint" and not is_first]
    locked = {ast.unparse(call.args[1]) for call in keys if len(call.args) > 1}
    for call, name in operations:
        where, keywords = call.lineno, {word.arg: word.value for word in call.keywords}
        is_read = name in {"build_index", "f", "get_bind", "get_context"}
        if where < max(builds, default=0) and not is_read and "if_not_exists" not in keywords:
            yield f"{where}: {name} before build_index has no if_not_exists=is_repeatable()"
        table = _table(call, name)
        if name in FREE or name == "build_index" or table in own:
            continue
        locked.add(table)
        if name in REMOVALS or (name == "alter_column" and "new_column_name" in keywords):
            first = constants.get(SECOND_STEP)
            if not isinstance(first, str) or not first < number:
                yield f"{where}: {name} is no second step: {SECOND_STEP} does not say of which code"
            elif oldest < first:
                yield f"{where}: {name} breaks code at {oldest}, which may run beside it"
        elif name == "create_index":
            yield f"{where}: create_index on a table with rows locks it: use build_index"
        elif name == "add_column":
            yield from (f"{where}: {text}" for text in _check_column(call))
        elif name == "alter_column":
            if rewriting := sorted({"type_", "nullable"} & set(filter(None, keywords))):
                yield f"{where}: alter_column with {rewriting[0]} rewrites or scans the table"
        else:
            yield f"{where}: {name} may lock a table with rows for long"
    if len(locked) > LOCKS:
        yield f"{upgrade.lineno}: it locks {len(locked)} tables with rows: {LOCKS} at most"


def _check_column(call: ast.Call) -> Iterator[str]:
    column = next((part for part in call.args[1:] if isinstance(part, ast.Call)), None)
    if column is None:
        yield "add_column without a literal sa.Column(...)"
        return
    keywords = {word.arg: word.value for word in column.keywords}
    nullable, default = keywords.get("nullable"), keywords.get("server_default")
    is_required = isinstance(nullable, ast.Constant) and nullable.value is False
    if is_required and default is None:
        yield "add_column of a required column without a server_default fails with rows"
    if default is not None and not (
        isinstance(default, ast.Constant) or ast.unparse(default) in {"sa.false()", "sa.true()"}
    ):
        yield "add_column with a computed server_default rewrites the table"
    if any(word in {"unique", "index", "primary_key"} for word in keywords):
        yield "add_column with an index locks the table: use build_index"
    if any(_last(part) in {"ForeignKey", "Computed", "Identity"} for part in column.args):
        yield "add_column with a constraint or computed values scans or rewrites the table"


def _operation(call: ast.Call) -> str | None:
    """Returns the name of an operation of Alembic or of `build_index`."""
    function = call.func
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "op":
        return function.attr
    if isinstance(function, ast.Name) and function.id == "build_index":
        return function.id
    return None


def _table(call: ast.Call, name: str) -> str:
    position = 1 if name.endswith(("_index", "_constraint", "_key")) else 0
    if len(call.args) > position:
        return ast.unparse(call.args[position])
    return next(
        (
            ast.unparse(word.value)
            for word in call.keywords
            if word.arg in {"table_name", "source_table"}
        ),
        ast.unparse(call),
    )


def _first(call: ast.Call) -> str:
    return ast.unparse(call.args[0]) if call.args else ""


def _last(node: ast.expr) -> str:
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


if __name__ == "__main__":
    sys.exit(main())
