"""Storage: the only layer that uses SQL.

`Database` opens transactions, `Store` holds the tables inside one, and `tables/` has a module of
queries for each table. Queries return the frozen values of `domain/` and of the table
modules, never rows.
"""

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import Session

from authapi.storage.application import engine as application_engine
from authapi.storage.application import session as session_joins
from authapi.storage.application.joining import joining, savepoint
from authapi.storage.application.session import BorrowedConnection, CallerThread
from authapi.storage.database import Database, Store
from authapi.storage.transaction import Transaction

__all__ = [
    "AsyncEngine",
    "BorrowedConnection",
    "CallerThread",
    "Database",
    "Session",
    "Store",
    "Transaction",
    "application_engine",
    "joining",
    "savepoint",
    "session_joins",
]
