"""tools/check_migrations.py refuses migrations that cannot run beside a service."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "check_migrations.py"

FIRST = """
revision = "0001"
down_revision = None

def upgrade():
    op.create_table(users, sa.Column("id", sa.Uuid()))
    op.create_index("ix_users_id", users, ["id"])
"""
SECOND_STEP = 'removes_what_code_before_needs = "0005"\n'


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("check_migrations", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chain(body: str, *, revision: str = "0006_beside_0005", extra: str = "") -> dict[str, str]:
    """Five migrations, and a sixth with these statements."""
    found = {"0001_first.py": FIRST}
    for number in range(2, 6):
        text = f'revision = "{number:04}"\ndown_revision = "{number - 1:04}"\ndef upgrade(): pass\n'
        found[f"{number:04}_x.py"] = text
    statements = "".join(f"    {line}\n" for line in body.splitlines())
    found["0006_last.py"] = (
        f'revision = "{revision}"\ndown_revision = "0005"\n{extra}\ndef upgrade():\n{statements}'
    )
    return found


@pytest.mark.parametrize(
    "body",
    [
        'op.create_table(t, sa.Column("id", sa.Uuid()))\nop.create_index("ix", t, ["id"])',
        'op.add_column(users, sa.Column("a", sa.String(length=9)), schema=schema)',
        'op.add_column(users, sa.Column("a", sa.Integer(), server_default="0", nullable=False))',
        'op.add_column(users, sa.Column("a", sa.Boolean(), server_default=sa.false()))',
        'build_index("ix", users, ["id"])',
        (
            'op.add_column(users, sa.Column("a", sa.Uuid()), if_not_exists=is_repeatable())\n'
            'build_index("ix", users, ["a"])\nop.add_column(users, sa.Column("b", sa.Uuid()))'
        ),
    ],
)
def test_additive_migrations_are_accepted(tool: Any, body: str) -> None:
    assert tool.check_sources(chain(body)) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('op.create_index("ix", users, ["id"])', "use build_index"),
        ('op.create_index(op.f("ix"), table_name=users, columns=["id"])', "use build_index"),
        (
            'op.add_column(users, sa.Column("a", sa.Uuid()))\nbuild_index("ix", users, ["a"])',
            "if_not",
        ),
        ('op.add_column(users, sa.Column("a", sa.Uuid(), nullable=False))', "server_default"),
        ('op.add_column(users, sa.Column("a", sa.Uuid(), server_default=sa.func.f()))', "computed"),
        ('op.add_column(users, sa.Column("a", sa.Uuid(), unique=True))', "use build_index"),
        ('op.add_column(users, sa.Column("a", sa.ForeignKey("b.id")))', "constraint"),
        ("op.add_column(users, column)", "literal"),
        ('op.alter_column(users, "id", type_=sa.Text())', "rewrites"),
        ('op.alter_column(users, "id", nullable=False)', "rewrites"),
        ('op.create_unique_constraint("uq", users, ["id"])', "may lock"),
        ('op.create_foreign_key("fk", users, other, ["id"], ["id"])', "may lock"),
        ('op.execute("UPDATE users SET a = 1")', "may lock"),
        ("with op.batch_alter_table(users) as batch: pass", "may lock"),
        ('op.drop_column(users, "id")', "no second step"),
        ("op.drop_table(users)", "no second step"),
        ('op.drop_index("ix", users)', "no second step"),
        ('op.drop_constraint("uq", users)', "no second step"),
        ('op.rename_table(users, "other")', "no second step"),
        ('op.alter_column(users, "id", new_column_name="b")', "no second step"),
        ("\n".join(f'op.add_column({t}, sa.Column("a", sa.Uuid()))' for t in "pqrs"), "4 tables"),
    ],
)
def test_migrations_that_lock_or_break_are_refused(tool: Any, body: str, words: str) -> None:
    found = tool.check_sources(chain(body))
    assert len(found) == 1
    assert found[0].startswith("0006_last.py:")
    assert words in found[0]


def test_a_removal_excludes_the_code_that_needs_what_it_removes(tool: Any) -> None:
    removal = 'op.drop_column(users, "id")'
    assert tool.check_sources(chain(removal, extra=SECOND_STEP)) == []
    needed = SECOND_STEP.replace("0005", "0006")
    assert "no second step" in tool.check_sources(chain(removal, extra=needed))[0]
    early = chain(removal, revision="0006_beside_0004", extra=SECOND_STEP)
    assert "breaks code at 0004" in " ".join(tool.check_sources(early))


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        ("0006", "does not name the oldest code"),
        ("beef", "is not named"),
        ("0006_beside_0009", "0009 is no earlier revision"),
        ("0006_beside_0003", "excludes code at 0003"),
    ],
)
def test_the_name_says_which_code_may_run(tool: Any, revision: str, words: str) -> None:
    (problem,) = tool.check_sources(chain("pass", revision=revision))
    assert words in problem


def test_the_migrations_of_the_project_are_accepted(tool: Any) -> None:
    sources = {path.name: path.read_text("utf-8") for path in tool.VERSIONS.glob("*.py")}
    assert len(sources) >= 5
    assert tool.check_sources(sources) == []
