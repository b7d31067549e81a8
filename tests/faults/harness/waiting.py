"""Waiting for what has to come, until a deadline and no longer."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.faults.harness.wire import Answer, Client, Lost


async def until(condition: Callable[[], bool], *, within: float, what: str) -> float:
    """Seconds until `condition()` held. Raises TimeoutError with `what`."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + within:
            raise TimeoutError(f"not within {within} s: {what}")
        await asyncio.sleep(0.005)
    return time.monotonic() - began


async def until_answered(
    ask: Callable[[], Awaitable[Answer]], *, status: int = 200, within: float
) -> Answer:
    """The first answer with this status. Raises TimeoutError if there is none in time."""
    deadline, last = time.monotonic() + within, "no answer"
    while time.monotonic() < deadline:
        try:
            answer = await ask()
        except Lost as error:
            last = str(error)
        else:
            if answer.status == status:
                return answer
            last = str(answer.status)
        await asyncio.sleep(0.01)
    raise TimeoutError(f"not {status} within {within} s: {last}")


async def until_ready(client: Client, *, within: float) -> float:
    """Seconds until the service says that it is ready."""
    began = time.monotonic()
    await until_answered(lambda: client.get("/health/ready"), within=within)
    return time.monotonic() - began
