"""Storage: the only layer that uses SQL.

`Database` opens transactions, `Store` holds the tables inside one, and `tables/` has a module of
queries for each table. Queries return the frozen values of `domain/` and of the table
modules, never rows.
"""

from authapi.storage.database import Database, Store
from authapi.storage.transaction import Transaction

__all__ = ["Database", "Store", "Transaction"]
