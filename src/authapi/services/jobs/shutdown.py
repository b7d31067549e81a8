"""Closing several parts in turn: a part that fails does not keep the others from being closed."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

_log = logging.getLogger(__name__)

Close = Callable[[], Awaitable[None]]


async def run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Awaits `work` to its end, also if the caller is cancelled meanwhile.

    For work that must not stop half-way. Raises the error of `work`. If the caller was cancelled,
    raises CancelledError instead, and logs the error of `work`.
    """
    task = asyncio.create_task(work, name="authapi-run-to-completion")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        _log_error(None if task.cancelled() else task.exception())
        raise cancelled
    task.result()


async def close_all(*parts: Close) -> None:
    """Awaits each of `parts` in turn, also after one of them has failed.

    Raises the first error after all parts have been awaited; logs the others. A cancelled caller
    waits for the end as in `run_to_completion`: otherwise the remaining parts would stay open.
    """
    await run_to_completion(_close(parts))


async def close_after_failure(close: Close) -> None:
    """Awaits `close` and logs its error, so that the caller can raise the original failure."""
    try:
        await close()
    except Exception as error:
        _log_error(error)


async def _close(parts: tuple[Close, ...]) -> None:
    first: BaseException | None = None
    for close in parts:
        try:
            await close()
        except BaseException as error:  # a cancellation of this task too: close the other parts
            if first is None:
                first = error
            else:
                _log_error(error)
    if first is not None:
        raise first


def _log_error(error: BaseException | None) -> None:
    if error is not None:
        _log.error("error during shutdown", exc_info=error)
