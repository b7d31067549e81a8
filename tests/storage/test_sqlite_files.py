"""Operations on a SQLite file in use: requests are answered with 503 and logged."""

import asyncio
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from authapi.cli.doctor import examine
from authapi.domain.monitoring.findings import Finding
from authapi.testing import PASSWORD
from tests.storage.rows import sql
from tests.storage.serving import refused, serving

UNPRIVILEGED = 65534
PAGE = 4096


@contextmanager
def not_root() -> Iterator[None]:
    """Runs as a user to whom file modes apply. All modules must be imported before."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def file(sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A migrated database in its own folder, owned by the user of `not_root`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "authapi.db")
        shutil.copy(sqlite_template, path)
        if os.geteuid() == 0:
            os.chown(folder, UNPRIVILEGED, UNPRIVILEGED)
            os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("AUTHAPI_DATA_DIR", f"{folder}/data")
        yield path
        monkeypatch.chdir("/")


def change_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def remove_journals(path: Path) -> None:
    for journal in path.parent.glob(f"{path.name}-*"):
        journal.unlink()


def damage(path: Path, first: int) -> bytes:
    """Overwrites the pages from `first` on. Returns the previous content."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    path.write_bytes(whole[: first * PAGE] + b"\xa5" * (len(whole) - first * PAGE))
    return whole


@contextmanager
def moved_away(path: Path, *, with_folder: bool) -> Iterator[None]:
    """Removes the file with its journals, or its folder, inside this block."""
    folder = path.parent
    kept = folder.with_name(f"{folder.name}-kept")
    if with_folder:
        folder.rename(kept)
        yield
        kept.rename(folder)
        return
    kept.mkdir()
    for found in folder.glob(f"{path.name}*"):
        found.rename(kept / found.name)
    yield
    assert not path.exists()
    for found in kept.iterdir():
        found.rename(folder / found.name)
    kept.rmdir()


def replace_by_backup(path: Path, *statements: str) -> None:
    """Replaces the file by a changed copy, as an operator restores a backup."""
    backup = path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(backup)) as new:
        old.backup(new)
    sql(f"sqlite:///{backup}", *statements, "PRAGMA journal_mode=DELETE")
    remove_journals(path)
    backup.replace(path)


def state_of_database() -> Finding:
    return next(item for item in examine() if item.check == "database")


async def test_read_only_file_is_503(
    file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{file}"
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", url)
    # Without the identity cache, whose open file descriptor would still be used.
    async with serving(url, identity_cache_size=0) as api:
        assert (await api.get("/health/ready")).status_code == 200
        assert (await asyncio.to_thread(state_of_database)).verdict == "ok"
        await api.services.database.close()
        change_mode(file, 0o400)
        with not_root():
            await refused(api, caplog, "readonly database")
            assert (await api.get("/health/ready")).status_code == 503
            assert (await api.get("/health/live")).status_code == 200
            finding = await asyncio.to_thread(state_of_database)
        assert (finding.verdict, "readonly" in finding.message) == ("error", True)
        change_mode(file, 0o600)
        await api.services.database.close()
        assert (await api.patch("/me", json={"name": "x"})).status_code == 200


async def test_read_only_folder_is_503(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(f"sqlite:///{file}", identity_cache_size=0) as api:
        assert (await api.get("/health/ready")).status_code == 200
        await api.services.database.close()
        remove_journals(file)
        change_mode(file.parent, 0o500)
        with not_root():
            await refused(api, caplog, "the database is not available")
            assert (await api.get("/health/ready")).status_code == 503
        change_mode(file.parent, 0o700)
        assert (await api.patch("/me", json={"name": "x"})).status_code == 200


async def test_full_disk_is_503(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(sqlite_url) as api:
        path = Path(sa.make_url(sqlite_url).database or "")
        log = path.with_name(path.name + "-wal")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size, hard))
        try:
            await refused(api, caplog, "the database is not available")
            assert (await api.get("/me")).status_code == 200
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (await api.patch("/me", json={"name": "x"})).status_code == 200


@pytest.mark.parametrize("first", [0, 1], ids=["header", "pages"])
async def test_damaged_file_is_503(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, first: int
) -> None:
    async with serving(sqlite_url, identity_cache_size=0) as api:
        path = Path(sa.make_url(sqlite_url).database or "")
        await api.services.database.close()
        whole = damage(path, first)
        words = "malformed" if first else "not a database"
        await refused(api, caplog, words)
        login = {"email": "alice@example.com", "password": PASSWORD}
        assert (await api.post("/login", json=login)).status_code == 503
        await asyncio.to_thread(path.write_bytes, whole)
        await api.services.database.close()
        assert (await api.patch("/me", json={"name": "x"})).status_code == 200


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_removed_file_loses_no_write(
    file: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    async with serving(f"sqlite:///{file}") as api:
        assert (await api.patch("/me", json={"name": "before"})).status_code == 200
        with moved_away(file, with_folder=what == "folder"):
            await refused(api, caplog, "the database file is missing")
            assert (await api.get("/health/ready")).status_code == 503
            assert (await api.get("/health/live")).status_code == 200
            assert (await api.get("/me")).status_code == 503
        assert (await api.get("/me")).json()["name"] == "before"
        assert (await api.patch("/me", json={"name": "after"})).status_code == 200
        assert sql(f"sqlite:///{file}", "SELECT name FROM authapi_users") == [("after",)]


async def test_restored_backup_is_served(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Changes of another process are noticed within five milliseconds; own changes at once.
    monkeypatch.setattr("authapi.storage.sqlite._CHECK_INTERVAL", 0.0)
    path = Path(sa.make_url(sqlite_url).database or "")
    async with serving(sqlite_url) as api:
        assert (await api.get("/me")).status_code == 200  # cached from now on
        replace_by_backup(path, "UPDATE authapi_users SET name = 'from the backup'")
        assert (await api.get("/me")).json()["name"] == "from the backup"
        assert (await api.patch("/me", json={"name": "new"})).status_code == 200
        assert sql(sqlite_url, "SELECT name FROM authapi_users") == [("new",)]
        replace_by_backup(path, "DELETE FROM authapi_sessions")
        assert (await api.get("/me")).status_code == 401
