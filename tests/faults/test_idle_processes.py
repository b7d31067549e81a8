"""44: what the heartbeats of many idle processes cost PostgreSQL."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from authapi.services.identity_cache import CacheInvalidation, IdentityCache, invalidation_of
from authapi.storage import Database
from benchmarks.processes import family_cpu_seconds
from tests.faults.conftest import Report
from tests.servers.postgres import PostgresCluster

pytestmark = pytest.mark.faults

PROCESSES = 200
SECONDS = 10.0
STALENESS = timedelta(seconds=2)  # the default of AUTHAPI_IDENTITY_CACHE_MAX_STALENESS


async def test_44_heartbeats_of_idle_processes(
    cluster: PostgresCluster, postgres_here: str, report: Report
) -> None:
    async with AsyncExitStack() as stack:
        databases, listening = list[Database](), list[CacheInvalidation]()
        for _ in range(PROCESSES):
            databases.append(Database(postgres_here, pool_size=1))
            cache = IdentityCache(size=9, ttl=timedelta(days=1))
            listening.append(invalidation_of(databases[-1], [cache.invalidate], STALENESS))
        for first in range(0, PROCESSES, 20):  # each connection is a process of the server
            some = listening[first : first + 20]
            await asyncio.gather(*(one.start() for one in some))
            for database in databases[first : first + 20]:
                await database.close()  # the pool of an idle process has told its server
            for one in some:
                stack.push_async_callback(one.stop)
        before, began = family_cpu_seconds(cluster.pid), time.monotonic()
        await asyncio.sleep(SECONDS)
        cores = (family_cpu_seconds(cluster.pid) - before) / (time.monotonic() - began)
        current = sum(one.is_current() for one in listening)
    report(f"{PROCESSES} idle processes, {current} with their cache: {cores:.3f} cores")
    assert current == PROCESSES
    assert cores < 0.05
