"""Rows: the only floor that speaks SQL.

`Database` opens transactions, a `Store` is the tables inside one, and each noun has one file of
queries. What comes out are the frozen values of `identity.py`, never rows.
"""

from authapi.storage.database import Database, Store

__all__ = ["Database", "Store"]
