"""The application on a clean database for each test, with the fixtures of the plugin `authapi`."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import make_url

from authapi.testing import CleanDatabase, Client

EXAMPLES = Path(__file__).parents[2]
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg"}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """SQLAlchemy runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def authapi_prepare() -> Callable[[str], object]:
    """Creates the tables of the application beside those of authapi."""

    def prepare(url: str) -> None:
        parsed = make_url(url)
        engine_url = parsed.set(drivername=DRIVERS[parsed.get_backend_name()])
        os.environ["DATABASE_URL"] = engine_url.render_as_string(hide_password=False)
        command = "-m alembic -c async_app/alembic.ini upgrade head"
        subprocess.run([sys.executable, *command.split()], cwd=EXAMPLES, check=True)

    return prepare


@pytest.fixture
def authapi_app(authapi_database: CleanDatabase) -> FastAPI:
    """The application, which reads its settings when it is imported."""
    os.environ.update(authapi_database.environment)
    from async_app import main

    return main.app


@pytest.fixture
def api(authapi_client: Client) -> Client:
    """A client of the application, inside its lifespan."""
    return authapi_client
