"""Import of accounts: `lines` parses lines, `importer` adds accounts, `id_map` writes their ids."""

from authapi.services.accounts.importing.importer import (
    AccountImporter,
    Summary,
    lines_from_fastapi_users,
)

__all__ = ["AccountImporter", "Summary", "lines_from_fastapi_users"]
