"""What a command does around its connection: it creates the file of SQLite, and explains errors."""

from pathlib import Path

from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from authapi.errors import AuthAPIError, ConfigurationError, StorageUnavailable


def translated(error: DBAPIError, target: URL) -> AuthAPIError:
    """Returns the error that tells an operator what the driver has reported."""
    reason = " ".join(str(error.orig).split())
    is_sqlite = target.get_backend_name() == "sqlite"
    if is_sqlite and "unable to open" in reason:
        return ConfigurationError(f"cannot open the database file {target.database}")
    if is_sqlite and "not a database" in reason:
        return ConfigurationError(f"{target.database} is not a SQLite database")
    if isinstance(error, OperationalError) and (not is_sqlite or "locked" in reason):
        return StorageUnavailable(f"the database is not available: {reason}")
    return ConfigurationError(f"the database reports an error: {reason}")


def create_private(path: Path) -> None:
    """Creates the file of a database, which only its owner reads. Raises ConfigurationError."""
    # SQLite would apply the umask. Its journal files inherit the mode of the database file.
    try:
        path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(
            f"cannot open the database file {path}: {error.strerror}"
        ) from None
