"""The pytest plugin, loaded by its entry point in a pytest of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

_SLOW = ("hypothesispytest", "schemathesis", "pytest_cov")
UNUSED = """
import sys

def test_the_service_is_not_imported():
    loaded = {name for name in sys.modules if name.startswith("authapi")}
    assert loaded == {"authapi", "authapi.pytest_plugin"}
"""
TWO_APPLICATIONS = """
import pytest
from authapi import create_app
from authapi.testing import CleanDatabase, acting_as, sync_client

@pytest.fixture(scope="session")
def other_database():
    with CleanDatabase() as database:
        yield database

@pytest.fixture
def other(other_database):
    other_database.clean()
    with sync_client(create_app(other_database.settings())) as api:
        yield api

@pytest.mark.parametrize("number", range(3))
def test_two(authapi_sync_client, other, number):
    users = [api.create_user("ada@shop.test") for api in (authapi_sync_client, other)]
    assert users[0].id != users[1].id
    for api, user in zip((authapi_sync_client, other), users):
        api.login(user)
        assert api.get("/me").json()["id"] == str(user.id)
    with acting_as(users[0]):
        assert other.get("/me").json()["id"] == str(users[0].id)
"""
FIXTURES = """
import pytest
from authapi.testing import acting_as

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture(scope="session")
async def loop_of_the_session(anyio_backend):
    yield

@pytest.fixture
def signed_in():
    from datetime import UTC, datetime
    from uuid import UUID
    from authapi import User
    now = datetime.now(UTC)
    with acting_as(User(UUID(int=7), "ada@shop.test", None, True, False, now, now, now)):
        yield

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(2))
async def test_signed_in(loop_of_the_session, signed_in, authapi_client, number):
    assert (await authapi_client.get("/me")).json()["email"] == "ada@shop.test"

@pytest.mark.anyio
@pytest.mark.parametrize("number", range(2))
async def test_signed_out(loop_of_the_session, authapi_client, number):
    assert (await authapi_client.get("/me")).status_code == 401
    await authapi_client.create_user("ada@shop.test")

def test_signed_in_sync(signed_in, authapi_sync_client):
    assert authapi_sync_client.get("/me").json()["email"] == "ada@shop.test"
"""


def run_pytest(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs the tests in `folder` with warnings as errors, and without slow plugins of others."""
    others = [part for name in _SLOW for part in ("-p", f"no:{name}")]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-W",
            "error",
            "-p",
            "no:cacheprovider",
            *others,
            *arguments,
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def outcome(done: "subprocess.CompletedProcess[str]") -> str:
    """Returns the counts in the last line, and all output if a test did not pass."""
    last = done.stdout.rstrip().rpartition("\n")[2]
    passed = re.fullmatch(r"(\d+ passed) in .*", last)
    return done.stdout + done.stderr if passed is None else passed[1]


def test_the_service_is_not_imported_without_a_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_unused.py").write_text(UNUSED)
    assert outcome(run_pytest(tmp_path)) == "1 passed"


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2"])
def test_fixtures_work_in_any_order(tmp_path: Path, seed: str) -> None:
    (tmp_path / "test_two.py").write_text(TWO_APPLICATIONS)
    (tmp_path / "test_fixtures.py").write_text(FIXTURES)
    done = run_pytest(tmp_path, f"--randomly-seed={seed}")
    assert outcome(done) == "8 passed"


def test_an_unreachable_server_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TWO_APPLICATIONS)
    url = "postgresql://tests@127.0.0.1:1/postgres"
    done = run_pytest(tmp_path, "-x", "--authapi-server", url)
    assert done.returncode == 1
    assert "StorageUnavailable: the database is not available: connection" in done.stdout


@pytest.mark.slow
def test_each_worker_has_its_own_database(tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(TWO_APPLICATIONS)
    assert outcome(run_pytest(tmp_path, "-n", "2")) == "3 passed"
