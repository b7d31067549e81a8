"""Whether a database can serve this release, for readiness probes."""

import logging

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.errors import StorageUnavailable
from authapi.storage import migrations
from authapi.storage.models import Tables
from authapi.storage.schema.writability import READ_ONLY_QUERY, noop_write

_log = logging.getLogger(__name__)


async def require_ready(connection: AsyncConnection, tables: Tables) -> None:
    """Checks that the database accepts writes, and that its schema was not downgraded.

    A later revision is accepted: an upgrade begins while processes of this release still run.
    Raises StorageUnavailable if the database is read-only, or if its schema is older than this
    release needs or cannot be read.
    """
    if connection.dialect.name == "sqlite":
        await connection.execute(noop_write(tables))
    elif await connection.scalar(sa.text(READ_ONLY_QUERY)):
        raise StorageUnavailable
    names, version = tables.names, sa.column("version_num", sa.String)
    versions = sa.table(names.version, version, schema=names.schema)
    try:
        found = await connection.execute(sa.select(versions.c.version_num).limit(1))
    except (OperationalError, ProgrammingError) as error:  # the table is missing, for example
        raise StorageUnavailable from error
    revision = found.scalar_one_or_none()
    if revision is None or revision in migrations.earlier():
        _log.error(
            "the database schema is at %s, this version needs %s: run `authapi db upgrade`",
            revision or "nothing",
            migrations.head(),
        )
        raise StorageUnavailable
