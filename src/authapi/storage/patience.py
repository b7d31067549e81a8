"""A PostgreSQL connection that is given up when its time is over, and not ten seconds later."""

from typing import TYPE_CHECKING

from authapi.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg import AsyncConnection


def impatient_connection() -> "type[AsyncConnection]":
    """The class of connections to open. Raises ConfigurationError without the extra `postgres`.

    Whoever cancels a statement of ours has waited as long as the settings allow. psycopg would then
    ask the server to cancel it, and wait again for both: a server that is silent answers neither.
    The connection is dropped instead; the server's `statement_timeout` ends the statement.
    """
    try:
        from psycopg import AsyncConnection  # noqa: PLC0415  # an extra
    except ImportError:
        raise ConfigurationError(
            "PostgreSQL needs the extra: pip install 'authapi[postgres]'"
        ) from None

    class Impatient(AsyncConnection):
        async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109
            self.pgconn.finish()

    return Impatient
