"""docs/one-database.md: its code runs, its settings and codes exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from authapi import Settings
from authapi.errors import AccountInUse, ReadOnlyRow
from authapi.storage import migrations
from tests.storage.rows import sql, sync_url, tables

PAGE = (Path(__file__).parents[1] / "docs" / "one-database.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
TEMPLATE = """import sqlalchemy as sa
from alembic import op
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
def upgrade():
    ${upgrades}
def downgrade():
    ${downgrades}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page, as a project with a folder of migrations."""
    folder = tmp_path / "project"
    (folder / "migrations" / "versions").mkdir(parents=True)
    for name, text in BLOCKS.items():
        (folder / "migrations" / name if name == "env.py" else folder / name).write_text(text)
    (folder / "migrations" / "script.py.mako").write_text(TEMPLATE)
    return folder


def run(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_each_block_is_used() -> None:
    assert BLOCKS.keys() == {"models.py", "sqlmodels.py", "other_names.py", "env.py"}
    assert PAGE.count("```python") == len(BLOCKS)


def test_models_refer_to_accounts(project: Path) -> None:
    code = (
        "from sqlalchemy.orm import configure_mappers; import models, sqlmodels, other_names;"
        "configure_mappers(); print(*[key.target_fullname for key in"
        " (*models.Item.__table__.foreign_keys, *sqlmodels.Note.__table__.foreign_keys,"
        " other_names.user_fk())])"
    )
    told = run(project, "-c", code)
    assert told == "authapi_users.id authapi_users.id auth.shop_users.id\n"


@pytest.mark.slow
def test_both_chains_in_one_database(project: Path, database_url: str) -> None:
    url = sync_url(database_url).render_as_string(hide_password=False)
    (project / "alembic.ini").write_text(
        "[alembic]\nscript_location = migrations\nprepend_sys_path = .\npath_separator = os\n"
        f"sqlalchemy.url = {url.replace('%', '%%')}\n"
    )
    before = tables(database_url)
    alembic = ("-m", "alembic")
    run(project, *alembic, "revision", "--autogenerate", "-m", "items", "--rev-id", "one")
    [revision] = (project / "migrations" / "versions").glob("*.py")
    assert "authapi_users.id" in revision.read_text()
    run(project, *alembic, "upgrade", "head")
    run(project, *alembic, "check")
    migrations.check(database_url)
    assert tables(database_url).keys() - before.keys() == {"items"}
    assert sql(database_url, "SELECT version_num FROM alembic_version") == [("one",)]
    run(project, *alembic, "downgrade", "base")
    assert tables(database_url) == before
    engine = sa.create_engine(url)
    with engine.begin() as connection:  # the tests of a folder may share the database
        connection.exec_driver_sql("DROP TABLE alembic_version")
    engine.dispose()


def test_settings_codes_and_errors_exist() -> None:
    documented = {name.lower() for name in re.findall(r"`AUTHAPI_(\w+)`", PAGE)}
    assert documented == {"table_prefix", "database_schema"}
    assert documented <= Settings.model_fields.keys()
    assert f"`{AccountInUse.code}`" in PAGE
    assert f"`{ReadOnlyRow.__name__}`" in PAGE
    assert str(Settings.model_fields["table_prefix"].default) in PAGE
