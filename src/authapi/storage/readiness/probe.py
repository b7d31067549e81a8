"""Whether a database can serve this release, for readiness probes."""

import asyncio
import logging
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.storage.database import Database
from authapi.storage.schema.revisions import require_usable

_log = logging.getLogger(__name__)

_TIMEOUT: Final = 2.0
"""Seconds for the look at the schema."""


async def require_ready(database: Database) -> None:
    """Checks that the database accepts writes, and that this release can use its schema.

    A newer schema is accepted if it only adds to that of this release (`schema.revisions`): an
    upgrade begins while processes of this release still run. Raises StorageUnavailable if the
    database does not answer within a few seconds or is read-only, if its schema is older than this
    release needs or newer and not for it, or if it cannot be read.
    """
    await database.ping()
    names, version = database.tables.names, sa.column("version_num", sa.String)
    versions = sa.table(names.version, version, schema=names.schema)
    try:
        async with asyncio.timeout(_TIMEOUT), database.read() as store:
            found = await store.connection.execute(sa.select(versions.c.version_num).limit(1))
            revision = found.scalar_one_or_none()
    except (OperationalError, ProgrammingError, TimeoutError) as error:  # the table may be missing
        raise StorageUnavailable from error
    try:
        require_usable(revision)
    except ConfigurationError as error:
        _log.error("%s", error)
        raise StorageUnavailable from error
