"""The database: a synchronous engine, and a Session for each request."""

import os
import sqlite3
from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends
from sqlalchemy import event
from sqlmodel import Session, create_engine

DATABASE_URL = os.environ.get("DATABASE_URL", "sqlite:///sync_app.db")
engine = create_engine(DATABASE_URL)


@event.listens_for(engine, "connect")
def enforce_foreign_keys(connection: object, _: object) -> None:
    """Makes SQLite check foreign keys, as PostgreSQL does."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA foreign_keys=ON")


def get_session() -> Iterator[Session]:
    """Yields a Session, whose transaction is rolled back unless the handler commits it."""
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]
