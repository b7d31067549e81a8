"""Import of accounts: `lines` parses lines, `importer` adds accounts, `id_map` writes their ids."""

from authapi.services.accounts.importing.importer import (
    AccountImporter,
    OnProgress,
    Summary,
    lines_from_fastapi_users,
)

__all__ = ["AccountImporter", "OnProgress", "Summary", "lines_from_fastapi_users"]
