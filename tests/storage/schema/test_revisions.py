"""Which schemas this code may use: its own, and newer ones that only add to it."""

import pytest

from authapi.errors import ConfigurationError
from authapi.storage import migrations
from authapi.storage.schema import revisions
from tests.storage.rows import sql

OWN = revisions.number(migrations.head())
USABLE = f"9999_beside_{OWN}"
EXCLUDING = "9999_beside_9998"


def move(url: str, revision: str) -> None:
    sql(url, f"UPDATE authapi_version SET version_num = '{revision}'")


@pytest.mark.parametrize("revision", [migrations.head(), USABLE, "9999_beside_0001"])
def test_usable(revision: str) -> None:
    revisions.require_usable(revision)
    assert revisions.is_newer(revision) == (revision != migrations.head())


@pytest.mark.parametrize("revision", [None, *sorted(migrations.earlier())])
def test_too_old(revision: str | None) -> None:
    with pytest.raises(ConfigurationError, match=f"is at {revision or 'nothing'}, this") as caught:
        revisions.require_usable(revision)
    assert caught.value.hint == "run `authapi db upgrade`"


@pytest.mark.parametrize(
    ("revision", "oldest"),
    [(EXCLUDING, "9998"), ("9999", "9999"), ("f00d", "f00d"), ("", ""), ("9999_beside_", "9999_")],
)
def test_too_new(revision: str, oldest: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        revisions.require_usable(revision)
    assert f"is at {revision}, which code before {oldest}" in str(caught.value)
    assert f"and this version is at {OWN}: start a newer" in str(caught.value)
    assert caught.value.hint == "start a newer release, or run `authapi db downgrade` of one"


def test_every_name_of_a_revision_says_how_old_code_may_be() -> None:
    for revision in (migrations.head(), *migrations.earlier()):
        assert revisions.number(revision).isdigit()
        assert revisions.oldest_code(revision) <= revisions.number(revision)


def test_a_usable_newer_schema_stays_as_it_is(database_url: str) -> None:
    move(database_url, USABLE)
    migrations.require_current(database_url)
    migrations.upgrade(database_url)
    assert migrations.current(database_url) == USABLE
    with pytest.raises(ConfigurationError, match="newer than this version"):
        migrations.check(database_url)


def test_an_excluding_newer_schema_is_refused(database_url: str) -> None:
    move(database_url, EXCLUDING)
    for refuse in (migrations.require_current, migrations.upgrade, migrations.check):
        with pytest.raises(ConfigurationError, match="which code before 9998 cannot use"):
            refuse(database_url)
    assert migrations.current(database_url) == EXCLUDING
