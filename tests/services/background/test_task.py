"""A task beside the requests: it begins, it ends, and what went wrong in it is heard."""

import asyncio

import pytest

from authapi.services.background.task import BackgroundTask


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_it_runs_from_start_to_stop_and_again() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    task = BackgroundTask("test", work)
    await task.stop()  # which never began
    for turn in (1, 2):
        task.start()
        await asyncio.sleep(0)
        assert begun == turn
        assert "authapi-test" in names()
        await task.stop()
        assert "authapi-test" not in names()
        await task.stop()


async def test_stop_waits_until_the_work_has_tidied_up() -> None:
    tidied = False

    async def work() -> None:
        nonlocal tidied
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied = True

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert tidied


async def test_what_ended_the_work_is_raised_by_stop() -> None:
    async def work() -> None:
        raise OSError("a full disk")

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="a full disk"):
        await task.stop()


async def test_stop_lets_finish_what_is_not_to_be_cut_in_two() -> None:
    finished = False
    task: BackgroundTask

    async def work() -> None:
        nonlocal finished
        async with task.whole:
            await asyncio.sleep(0.05)
            finished = True
        await asyncio.Event().wait()

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert finished


async def test_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authapi.services.background.task._PATIENCE", 0.01)
    task: BackgroundTask

    async def work() -> None:
        async with task.whole:
            await asyncio.Event().wait()

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_task_that_is_stopped_before_its_first_step_never_works() -> None:
    async def work() -> None:
        raise OSError("it has begun")

    task = BackgroundTask("test", work)
    task.start()
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_stop_that_is_cancelled_ends_the_work_all_the_same() -> None:
    task: BackgroundTask

    async def work() -> None:
        async with task.whole:
            await asyncio.Event().wait()

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(task.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert "authapi-test" not in names()


async def test_a_cancellation_while_the_work_tidies_up_is_not_lost() -> None:
    go_on = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    task = BackgroundTask("test", work)
    task.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(task.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    go_on.set()
