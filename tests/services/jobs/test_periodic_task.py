"""Periodic tasks: start, stop, pauses, and errors of the work."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from authapi.services.jobs import periodic_task
from authapi.services.jobs.periodic_task import PeriodicTask


def a_task(
    work: Callable[[], Awaitable[None]],
    *,
    on_error: Callable[[Exception], None] | None = None,
    interval: float = 60.0,
    at_once: bool = True,
    wakeup: asyncio.Event | None = None,
) -> PeriodicTask:
    """A task that by default runs at once, and whose work must not fail."""

    def fail(error: Exception) -> None:
        raise error

    return PeriodicTask(
        "test",
        work,
        interval=interval,
        on_error=on_error or fail,
        at_once=at_once,
        wakeup=wakeup,
    )


def names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_a_task_runs_from_start_to_stop_and_again() -> None:
    begun = 0

    async def work() -> None:
        nonlocal begun
        begun += 1
        await asyncio.Event().wait()

    task = a_task(work)
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

    task = a_task(work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert has_cleaned_up


async def test_stop_raises_the_error_that_ended_the_task() -> None:
    async def work() -> None:
        raise OSError("a full disk")

    task = a_task(work)  # which raises it again
    task.start()
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="a full disk"):
        await task.stop()


async def test_an_error_of_the_work_is_reported_and_the_next_run_follows() -> None:
    errors: list[Exception] = []
    failures = iter([OSError("a full disk"), ValueError("another")])
    done = asyncio.Event()

    async def work() -> None:
        for failure in failures:
            raise failure
        done.set()

    task = a_task(work, on_error=errors.append, interval=0.001)
    task.start()
    async with asyncio.timeout(10):
        await done.wait()
    await task.stop()
    assert [str(error) for error in errors] == ["a full disk", "another"]


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_pause_precedes_each_run_but_one_at_once(at_once: bool) -> None:
    began, runs = time.monotonic(), list[float]()
    done = asyncio.Event()

    async def work() -> None:
        runs.append(time.monotonic() - began)
        if len(runs) == 2:
            done.set()
        await asyncio.sleep(0.05)

    task = a_task(work, interval=0.1, at_once=at_once)
    task.start()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(runs) == at_once
    async with asyncio.timeout(10):
        await done.wait()
    await task.stop()
    assert at_once or runs[0] >= 0.099
    assert runs[1] - runs[0] >= 0.149, "the pause begins at the end of a run"


async def test_a_wakeup_ends_a_pause_and_is_cleared() -> None:
    wakeup, runs = asyncio.Event(), asyncio.Queue[None]()

    async def work() -> None:
        runs.put_nowait(None)

    task = a_task(work, at_once=False, wakeup=wakeup)
    task.start()
    async with asyncio.timeout(10):
        for _ in range(3):
            wakeup.set()
            await runs.get()
            assert not wakeup.is_set()
    await task.stop()
    assert runs.empty()


async def test_a_wakeup_during_a_run_causes_another() -> None:
    wakeup, runs = asyncio.Event(), asyncio.Queue[None]()

    async def work() -> None:
        if runs.empty():
            wakeup.set()
        runs.put_nowait(None)

    task = a_task(work, wakeup=wakeup)
    task.start()
    async with asyncio.timeout(10):
        while runs.qsize() < 2:  # noqa: ASYNC110  # the runs are the event
            await asyncio.sleep(0)
    await task.stop()


async def test_without_a_wakeup_the_next_run_follows_after_the_interval() -> None:
    runs = asyncio.Queue[None]()

    async def work() -> None:
        runs.put_nowait(None)

    task = a_task(work, interval=0.001, at_once=False, wakeup=asyncio.Event())
    task.start()
    async with asyncio.timeout(10):
        for _ in range(3):
            await runs.get()
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

    task = a_task(work)
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

    task = a_task(work)
    task.start()
    await asyncio.sleep(0)
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_task_stopped_before_its_first_step_does_not_run() -> None:
    async def work() -> None:
        raise OSError("it has run")

    task = a_task(work)
    task.start()
    await task.stop()
    assert "authapi-test" not in names()


async def test_a_cancelled_stop_still_ends_the_work() -> None:
    task: PeriodicTask

    async def work() -> None:
        async with task.uninterrupted:
            await asyncio.Event().wait()

    task = a_task(work)
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

    task = a_task(work)
    task.start()
    await asyncio.sleep(0)
    stopping = asyncio.create_task(task.stop())
    for _ in range(5):
        await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    go_on.set()


async def test_stop_ends_a_task_whose_work_loses_a_cancellation() -> None:
    """Such as psycopg with `wait_for` of Python 3.11, when a response arrives at that moment."""
    begun, lost = 0, 0

    async def work() -> None:
        nonlocal begun, lost
        begun += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lost += 1

    task = a_task(work, interval=0)
    task.start()
    await asyncio.sleep(0)
    with anyio.fail_after(1):  # it is not cancelled again
        await task.stop()
    assert (begun, lost) == (1, 1)
    assert "authapi-test" not in names()


async def test_stop_cancels_work_that_goes_on_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic_task, "_CANCEL_AGAIN", 0.01)
    lost = 0

    async def work() -> None:
        nonlocal lost
        while lost < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    task = a_task(work)
    task.start()
    await asyncio.sleep(0)
    with anyio.fail_after(30):
        await task.stop()
    assert lost == 3
    assert "authapi-test" not in names()
