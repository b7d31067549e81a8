"""The names of tables for which the application uses `authapi.orm` in this process."""

from authapi.errors import ConfigurationError
from authapi.storage.schema.names import TableNames

_from_environment: set[TableNames] = set()
_from_code: set[TableNames] = set()


def note(names: TableNames, *, from_environment: bool) -> None:
    """Records that the application refers to tables with these names."""
    (_from_environment if from_environment else _from_code).add(names)


def require_described(names: TableNames) -> None:
    """Checks, at a start with `names`, that the application refers to the same tables.

    Raises ConfigurationError if it uses the names of `authapi.orm` itself, which reads the
    environment, and the settings in code choose others.
    """
    if _from_environment and names not in _from_environment | _from_code:
        other = next(iter(_from_environment))
        raise ConfigurationError(
            f"authapi.orm refers to {other.place(other.table('users'))}, as the environment says,"
            f" but the settings in code choose {names.place(names.table('users'))}: use"
            f" authapi.orm.ORM(prefix={names.prefix!r}, schema={names.schema!r}) in the models"
        )
