"""Two Alembic chains in one database: that of authapi, and that of an application."""

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from authapi.errors import ConfigurationError
from authapi.orm import ORM
from authapi.storage import migrations
from authapi.storage.schema.names import DEFAULT_NAMES, TableNames
from tests.storage.rows import sql, tables
from tests.storage.schema.guests import Guest, add_items, tables_with


@pytest.fixture(params=["default", "prefix", "schema"])
def names(request: pytest.FixtureRequest, empty_url: str) -> TableNames:
    chosen = {
        "default": DEFAULT_NAMES,
        "prefix": TableNames("x_"),
        "schema": TableNames(schema="auth"),
    }[request.param]
    return chosen if empty_url.startswith("postgresql") else replace(chosen, schema=None)


@pytest.fixture
def guest(names: TableNames, empty_url: str, tmp_path: Path) -> Guest:
    orm = ORM(prefix=names.prefix, schema=names.schema)
    return Guest(tmp_path / "theirs", empty_url, orm, tables_with(orm))


def ours(url: str, names: TableNames) -> dict[str, object]:
    if names.schema is None:
        return {name: it for name, it in tables(url).items() if name.startswith(names.prefix)}
    query = f"SELECT tablename FROM pg_tables WHERE schemaname = '{names.schema}' ORDER BY 1"
    return {name: None for (name,) in sql(url, query)}


def theirs(url: str, names: TableNames) -> dict[str, object]:
    return {name: it for name, it in tables(url).items() if not name.startswith(names.prefix)}


def test_ours_first(guest: Guest, names: TableNames) -> None:
    url = guest.url
    migrations.upgrade(url, names=names)
    before = ours(url, names)
    generated = guest.autogenerate("one")
    assert generated.count("create_table") == 2
    assert generated.count("drop_table") == 2  # in their downgrade
    assert names.table("sessions") not in generated
    guest.upgrade()
    guest.check()
    assert guest.is_current()
    migrations.check(url, names=names)
    assert ours(url, names) == before

    items = guest.metadata.tables["items"]
    items.append_column(sa.Column("price", sa.Integer))
    generated = guest.autogenerate("two")
    assert "price" in generated
    assert names.prefix not in generated
    guest.upgrade()
    guest.check()
    kept = theirs(url, names)
    assert migrations.current(url, names=names) == migrations.head()

    guest.downgrade()
    assert ours(url, names) == before
    migrations.check(url, names=names)
    guest.upgrade()
    assert theirs(url, names) == kept


def test_theirs_first(guest: Guest, names: TableNames) -> None:
    """Their first revision has no reference to accounts; authapi is added to the application."""
    url = guest.url
    guest.metadata = sa.MetaData()
    for name in ("users", "sessions", "events", "outbox"):
        sa.Table(name, guest.metadata, sa.Column("id", sa.Integer, primary_key=True))
    guest.autogenerate("one")
    guest.upgrade()
    sql(url, "INSERT INTO users VALUES (7)")
    before = theirs(url, names)

    migrations.upgrade(url, names=names)
    migrations.check(url, names=names)
    assert theirs(url, names) == before
    guest.check()

    add_items(guest.metadata, guest.orm)
    assert "drop" not in guest.autogenerate("two").partition("def downgrade")[0]
    guest.upgrade()
    guest.check()
    migrations.check(url, names=names)
    assert guest.is_current()
    own = ours(url, names)

    if url.startswith("postgresql"):  # SQLite drops a table that other tables refer to
        with pytest.raises(ConfigurationError, match="other objects depend on it"):
            migrations.downgrade(url, "base", names=names)
    assert ours(url, names) == own
    guest.downgrade()
    migrations.downgrade(url, "base", names=names)
    assert "items" not in tables(url)
    assert migrations.current(url, names=names) is None


def test_ours_alone_is_invisible_even_with_all_schemas(guest: Guest, names: TableNames) -> None:
    guest.include_schemas = guest.url.startswith("postgresql")
    migrations.upgrade(guest.url, names=names)
    guest.metadata = sa.MetaData()
    generated = guest.autogenerate("one")
    assert "op." not in generated
    guest.upgrade()
    guest.check()


def test_a_copy_of_our_table_in_their_metadata_is_not_altered(
    guest: Guest, names: TableNames
) -> None:
    migrations.upgrade(guest.url, names=names)
    guest.metadata = sa.MetaData()
    copy = guest.orm.users.to_metadata(guest.metadata)
    copy.append_column(sa.Column("shoe_size", sa.Integer))
    assert "op." not in guest.autogenerate("one")


def test_tables_with_our_names_in_another_schema_are_theirs(
    postgres_url: str, tmp_path: Path
) -> None:
    """An application in the schema `shop`, and authapi in `auth`."""
    migrations.upgrade(postgres_url, names=TableNames(schema="auth"))
    sql(postgres_url, "CREATE SCHEMA shop", "CREATE TABLE shop.authapi_users (id INTEGER)")
    try:
        orm = ORM(schema="auth")
        guest = Guest(tmp_path / "theirs", postgres_url, orm, sa.MetaData(), include_schemas=True)
        generated = guest.autogenerate("one")
        assert "op.drop_table('authapi_users', schema='shop')" in generated
        assert "auth'" not in generated
        migrations.check(postgres_url, names=TableNames(schema="auth"))
    finally:
        sql(postgres_url, "DROP SCHEMA shop CASCADE", "DROP SCHEMA auth CASCADE")
