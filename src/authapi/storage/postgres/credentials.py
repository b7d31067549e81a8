"""The role and the password of a connection, from wherever libpq has them."""

from sqlalchemy.engine import URL


def credentials_in_use(url: URL) -> tuple[str, str]:
    """Returns the role and the password that libpq sends to the first host of `url`.

    Besides the URL, libpq reads the environment (`PGUSER`, `PGPASSWORD`), a password file and a
    service file. The values are empty if there are none, and if libpq cannot read one of them,
    which the next connection reports.
    """
    from psycopg import pq  # noqa: PLC0415  # an extra, installed wherever PostgreSQL is used
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415  # as above
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg  # noqa: PLC0415  # slow

    # The same arguments as the pool's: SQLAlchemy and libpq read some URLs differently.
    dialect = PGDialect_psycopg()  # type: ignore[no-untyped-call]  # SQLAlchemy
    _, arguments = dialect.create_connect_args(url)  # type: ignore[no-untyped-call]
    # Nothing waits for the server: libpq reads all values before it connects.
    connection = pq.PGconn.connect_start(make_conninfo(**arguments).encode())
    try:
        return (connection.user or b"").decode(), (connection.password or b"").decode()
    finally:
        connection.finish()
