"""Inserts with `ON CONFLICT`, which is not standard SQL: each dialect has its own insert."""

from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

_Insert = Callable[[sa.Table], sqlite.Insert | postgresql.Insert]

INSERTS: Mapping[str, _Insert] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
"""The insert of each dialect, by the name of the dialect."""
