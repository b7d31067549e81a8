"""A migrated database for all tests, and a client of the application for each test."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from authapi.testing import Client, client

EXAMPLES = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """SQLAlchemy runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application on the database of DATABASE_URL, by default an empty SQLite file."""
    folder = tmp_path_factory.mktemp("async_app")
    os.environ.setdefault("DATABASE_URL", f"sqlite+aiosqlite:///{folder}/test.db")
    os.environ["AUTHAPI_DATA_DIR"] = str(folder)
    for command in (
        ["authapi", "--app", "async_app.main:auth", "db", "upgrade"],
        ["alembic", "-c", "async_app/alembic.ini", "upgrade", "head"],
    ):
        subprocess.run([sys.executable, "-m", *command], cwd=EXAMPLES, check=True)
    from async_app import main

    return main.app


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[Client]:
    """A client of the application, inside its lifespan."""
    async with client(app) as found:
        yield found
