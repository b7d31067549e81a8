"""Deletion in batches, and who watches it."""

from authapi.services import Services
from authapi.services.jobs import pruning
from authapi.services.jobs.pruning import prune_in_batches, watch_pruning
from authapi.settings import Settings
from authapi.storage import Store


async def test_each_batch_is_told_to_the_watcher_of_the_task(sqlite_url: str) -> None:
    services = Services.build(Settings.isolated(database_url=sqlite_url))
    batches = [pruning.BATCH, pruning.BATCH, 7]
    seen: list[tuple[str, int]] = []

    async def prune() -> int:
        left = iter(batches)

        async def delete(_: Store, limit: int) -> int:
            assert limit == pruning.BATCH
            return next(left)

        return await prune_in_batches(services.database, "sessions", delete)

    with watch_pruning(lambda table, count: seen.append((table, count))):
        assert await prune() == 1007
    assert seen == [("sessions", 500), ("sessions", 1000), ("sessions", 1007)]
    assert await prune() == 1007
    assert len(seen) == 3, "nothing watches any more"
    await services.stop()
