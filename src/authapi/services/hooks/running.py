"""Runs one hook, within a time limit, and marks its errors with its name."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from authapi.domain.client import current_client
from authapi.errors import ConfigurationError, Unavailable

_log = logging.getLogger(__name__)

_NOTE = "raised by the hook "
_MAX_NAME = 100

T = TypeVar("T")
Hook = Callable[..., Coroutine[Any, Any, Any]]


class HookError(Exception):
    """A hook returned a value that authapi cannot use, or ran into a time limit of its own."""


def name_of(hook: object) -> str:
    """Returns the name of a hook for the log: its module and its qualified name."""
    module = getattr(hook, "__module__", type(hook).__module__)
    return f"{module}.{getattr(hook, '__qualname__', type(hook).__qualname__)}"[-_MAX_NAME:]


def check_hook(hook: Hook, *arguments: str) -> None:
    """Checks that `hook` is an `async def` that takes these positional arguments.

    Raises ConfigurationError.
    """
    call = hook if inspect.isroutine(hook) else getattr(hook, "__call__", hook)  # noqa: B004  # an object with `async def __call__` is a hook too
    if not (inspect.iscoroutinefunction(hook) or inspect.iscoroutinefunction(call)):
        raise ConfigurationError(f"the hook {name_of(hook)} must be an `async def`")
    try:
        inspect.signature(hook).bind(*arguments)
    except TypeError:
        expected = ", ".join(arguments)
        raise ConfigurationError(f"the hook {name_of(hook)} must take ({expected})") from None


async def run_hook(hook: object, call: Callable[[], Awaitable[T]], *, limit: float) -> T:
    """Returns the result of `call`, which calls `hook` and may take `limit` seconds.

    Raises Unavailable after that time, HookError in place of another TimeoutError, and every other
    error of the hook unchanged. Each error has a note with the name of the hook.
    """
    bound = asyncio.timeout(limit)
    try:
        async with bound:
            return await call()
    except TimeoutError as error:
        # The transaction around a hook reports its own TimeoutError as an unavailable database.
        if not bound.expired():
            raise _marked(HookError("a hook raised TimeoutError"), hook) from error
        extra = {"request_id": current_client().request_id}
        _log.error("the hook %s took more than %s s", name_of(hook), limit, extra=extra)
        raise _marked(Unavailable(), hook) from error
    except Exception as error:
        _marked(error, hook)
        raise


def hook_of(error: BaseException) -> str | None:
    """Returns the name of the hook that raised `error`, or None if no hook did."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note.removeprefix(_NOTE) for note in notes if note.startswith(_NOTE)), None)


def _marked(error: Exception, hook: object) -> Exception:
    if hook_of(error) is None:
        error.add_note(f"{_NOTE}{name_of(hook)}")
    return error
