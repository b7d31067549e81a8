"""Conflicts between transactions, and retries after a conflict.

All transactions of this package take their locks in the same order, so they do not deadlock with
each other. A transaction of another program may use a different order. A distributed database may
also abort a transaction with a serialization failure in READ COMMITTED.
"""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from secrets import randbelow
from typing import Any, Final, ParamSpec, TypeVar

from authapi.errors import StorageUnavailable

_log = logging.getLogger(__name__)

_CONFLICTS = frozenset({"40001", "40P01"})
"""SQLSTATE `serialization_failure` and `deadlock_detected`: the transaction was rolled back, and a
retry may succeed (PostgreSQL manual, section 13.5)."""

_PAUSES: Final = (0.02, 0.1)
"""Seconds before the second and the third attempt, on average."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def is_conflict(error: StorageUnavailable) -> bool:
    """Returns whether `error` reports a conflict, after which the transaction can be retried.

    A lost connection is not a conflict, because its transaction may have been committed.
    """
    cause = error.__cause__
    return getattr(getattr(cause, "orig", None), "sqlstate", None) in _CONFLICTS


def retry_on_conflict(call: Callable[_P, Awaitable[_R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """Decorates `call` so that it runs up to three times while its transaction ends in a conflict.

    Suitable only for calls whose effects are all in the transaction: other effects, such as a
    counted login attempt, would be repeated. Raises the error of the last attempt, and every error
    that is not a conflict.
    """

    @functools.wraps(call)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for pause in _PAUSES:
            try:
                return await call(*args, **kwargs)
            except StorageUnavailable as error:
                if not is_conflict(error):
                    raise
            _log.warning("retrying %s after a conflict in the database", call.__qualname__)
            # 50 to 150 % of the pause, so that two conflicting calls do not collide again.
            await asyncio.sleep(pause * (0.5 + randbelow(1000) / 1000))
        return await call(*args, **kwargs)

    return run
