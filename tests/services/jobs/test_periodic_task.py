"""Background tasks: start, stop, and errors of the work."""

import asyncio

import pytest

from authapi.services.jobs.periodic_task import PeriodicTask


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_a_task_runs_from_start_to_stop_and_again() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    task = PeriodicTask("test", work)
    await task.stop()  # before the first start
    for turn in (1, 2):
        task.start()
        await asyncio.sleep(0)
        assert begun == turn
        assert "authapi-test" in names()
        await task.stop()
        assert "authapi-test" not in names()
        await task.stop()


async def test_stop_waits_for_the_finally_blocks_of_the_work() -> None:
    has_cleaned_up = False

    async def work() -> None:
        nonlocal has_cleaned_up
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            has_cleaned_up = True

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert has_cleaned_up


async def test_stop_raises_the_error_of_the_work() -> None:
    async def work() -> None:
        raise OSError("a full disk")

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="a full disk"):
        await task.stop()


async def test_stop_waits_for_an_uninterrupted_block() -> None:
    finished = False
    task: PeriodicTask

    async def work() -> None:
        nonlocal finished
        async with task.uninterrupted:
            await asyncio.sleep(0.05)
            finished = True
        await asyncio.Event().wait()

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert finished


async def test_stop_waits_for_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authapi.services.jobs.periodic_task._GRACE", 0.01)
    task: PeriodicTask

    async def work() -> None:
        async with task.uninterrupted:
            await asyncio.Event().wait()

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_task_stopped_before_its_first_step_does_not_run() -> None:
    async def work() -> None:
        raise OSError("it has run")

    task = PeriodicTask("test", work)
    task.start()
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_cancelled_stop_still_ends_the_work() -> None:
    task: PeriodicTask

    async def work() -> None:
        async with task.uninterrupted:
            await asyncio.Event().wait()

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(task.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert "authapi-test" not in names()


async def test_a_cancellation_of_stop_during_a_finally_block_is_raised() -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    task = PeriodicTask("test", work)
    task.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(task.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    go_on.set()
