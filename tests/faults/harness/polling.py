"""Waits for a condition, up to a deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from tests.faults.harness.http_client import Client, Lost, Response


async def until(condition: Callable[[], bool], *, within: float, what: str) -> float:
    """Waits until `condition()`. Returns the seconds. Raises TimeoutError with `what`."""
    started_at = time.monotonic()
    while not condition():
        if time.monotonic() > started_at + within:
            raise TimeoutError(f"not within {within} s: {what}")
        await asyncio.sleep(0.005)
    return time.monotonic() - started_at


async def until_answered(
    ask: Callable[[], Awaitable[Response]], *, status: int = 200, within: float
) -> Response:
    """Returns the first response with this status. Raises TimeoutError without one in time."""
    deadline, last = time.monotonic() + within, "no response"
    while time.monotonic() < deadline:
        try:
            response = await ask()
        except Lost as error:
            last = str(error)
        else:
            if response.status == status:
                return response
            last = str(response.status)
        await asyncio.sleep(0.01)
    raise TimeoutError(f"not {status} within {within} s: {last}")


async def until_ready(client: Client, *, within: float) -> float:
    """Waits until the service is ready. Returns the seconds."""
    started_at = time.monotonic()
    await until_answered(lambda: client.get("/health/ready"), within=within)
    return time.monotonic() - started_at
