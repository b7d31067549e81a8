"""The tables of the service."""

from authapi.storage.models.accounts import OWNER_CHANGES
from authapi.storage.models.tables import Tables, tables_of

__all__ = ["OWNER_CHANGES", "Tables", "tables_of"]
