"""Closing what was opened: every part of it, to its end, also after one has failed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)

Close = Callable[[], Awaitable[None]]


async def to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`, also if the caller is cancelled meanwhile; CancelledError is raised then.

    For what cannot be taken back half-way. An error of `work` is logged if it is not raised.
    """
    task = asyncio.create_task(work, name="authapi-to-its-end")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        _tell(None if task.cancelled() else task.exception())
        raise cancelled
    task.result()


async def close_all(*parts: Close) -> None:
    """Await each of `parts` in turn, also after one of them has failed.

    Raises the first error once all have been awaited; the others are logged. A caller that is
    cancelled waits as in `to_its_end`, as what is half closed stays open.
    """
    await to_its_end(_close(parts))


async def close_after_failure(close: Close) -> None:
    """Await `close`. An error of it is logged: the failure before it is the one to raise."""
    try:
        await close()
    except Exception as error:
        _tell(error)


async def _close(parts: tuple[Close, ...]) -> None:
    first: BaseException | None = None
    for close in parts:
        try:
            await close()
        except BaseException as error:  # a cancellation of this task too: the others are closed
            if first is None:
                first = error
            else:
                _tell(error)
    if first is not None:
        raise first


def _tell(error: BaseException | None) -> None:
    if error is not None:
        _log.error("an error while something was closed", exc_info=error)
