"""A migration beside a session that holds locks on the tables for long, such as a dump."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from authapi.errors import StorageUnavailable
from authapi.storage import migrations
from authapi.storage.schema import lock_retries
from tests.storage.rows import sql

WAITING = "the migration is tried again"


@pytest.fixture
def old_url(fresh_postgres_url: str) -> str:
    """A database whose next migration changes the table of accounts."""
    migrations.downgrade(fresh_postgres_url, "0002")
    return fresh_postgres_url


@contextmanager
def dump(url: str) -> Iterator[psycopg.Connection]:
    """A session that has read the accounts in a transaction that is open."""
    with psycopg.connect(url) as connection:
        connection.execute("SELECT count(*) FROM authapi_users")
        yield connection


def test_the_service_goes_on_while_a_migration_waits_for_a_dump(
    old_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock_retries, "_LOCK_TIMEOUT", 1)
    monkeypatch.setattr(lock_retries, "_PAUSE", 0.3)
    migration = threading.Thread(target=migrations.upgrade, args=(old_url,), daemon=True)
    waits: list[float] = []
    with dump(old_url) as dumping, psycopg.connect(old_url, autocommit=True) as service:
        migration.start()
        ends_at = time.monotonic() + 5
        while time.monotonic() < ends_at:
            begun = time.monotonic()
            service.execute("SELECT count(*) FROM authapi_users")
            waits.append(time.monotonic() - begun)
        assert migration.is_alive()
        dumping.rollback()
        migration.join(30)
    assert not migration.is_alive()
    assert migrations.current(old_url) == migrations.head()
    assert max(waits) > 0.5, "the migration did not wait"
    assert max(waits) < 2.5
    found = [record for record in caplog.records if WAITING in record.getMessage()]
    assert [record.levelno for record in found] == [logging.WARNING], "once"


@pytest.mark.parametrize("step", ["upgrade", "downgrade"])
def test_a_dump_that_does_not_end_is_reported_and_nothing_is_changed(
    old_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(lock_retries, "_LOCK_TIMEOUT", 1)
    monkeypatch.setattr(lock_retries, "_PATIENCE", 0.5)
    if step == "downgrade":
        migrations.upgrade(old_url, "0003")
    before = migrations.current(old_url)
    revision = {"upgrade": "head", "downgrade": "0002"}[step]
    with dump(old_url), pytest.raises(StorageUnavailable, match="such as a dump"):
        getattr(migrations, step)(old_url, revision)
    assert migrations.current(old_url) == before
    getattr(migrations, step)(old_url, revision)
    assert migrations.current(old_url) != before


def test_other_errors_are_not_tried_again(
    old_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock_retries, "_PAUSE", 60)
    sql(old_url, "ALTER TABLE authapi_users RENAME TO taken")
    begun = time.monotonic()
    with pytest.raises(Exception, match="authapi_users"):
        migrations.upgrade(old_url)
    assert time.monotonic() - begun < 30
    assert not [record for record in caplog.records if WAITING in record.getMessage()]
