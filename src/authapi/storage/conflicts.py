"""Conflicts between transactions: what they look like, and calls that are run again after one.

All transactions of this package take their locks in one order, so no deadlocks are expected among
them. A foreign transaction may take them in another, and a distributed engine may end a transaction
by a serialization failure in READ COMMITTED as well.
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
"""SQLSTATE `serialization_failure` and `deadlock_detected`: nothing of the transaction is kept,
and the same transaction may succeed when it is run again (PostgreSQL manual, section 13.5)."""

_PAUSES: Final = (0.02, 0.1)
"""Seconds before the second and the third run, on average."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def is_conflict(error: StorageUnavailable) -> bool:
    """Whether the transaction that `error` ended is known to be undone, and can be run again.

    A lost connection is not that: whether its transaction was committed is not known.
    """
    cause = error.__cause__
    return getattr(getattr(cause, "orig", None), "sqlstate", None) in _CONFLICTS


def retried(call: Callable[_P, Awaitable[_R]]) -> Callable[_P, Coroutine[Any, Any, _R]]:
    """`call`, run up to three times while its transaction ends in a conflict.

    Only for calls whose whole effect is in transactions that may be run again: what else a call
    does, such as hashing a password or counting an attempt, would be done again too. Raises what
    the last run raises.
    """

    @functools.wraps(call)
    async def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for pause in _PAUSES:
            try:
                return await call(*args, **kwargs)
            except StorageUnavailable as error:
                if not is_conflict(error):
                    raise
            _log.warning("%s is run again after a conflict in the database", call.__qualname__)
            # Between half and one and a half: two that met once would meet again.
            await asyncio.sleep(pause * (0.5 + randbelow(1000) / 1000))
        return await call(*args, **kwargs)

    return run
