"""The shipped app while its database fails, and what it is expected to say."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authapi import Settings, create_app
from authapi.testing import Client, client


@asynccontextmanager
async def serving(url: str, **changes: object) -> AsyncIterator[Client]:
    """The shipped app with a user who is logged in by a token."""
    settings = Settings(**{"database_url": url, **changes})  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await api.login(await api.create_user("alice@example.com"), strategy="token")
        yield api


async def refused(api: Client, caplog: pytest.LogCaptureFixture, words: str) -> None:
    """A change is answered 503, and one line of the log has its reason."""
    caplog.clear()
    answer = await api.patch("/me", json={"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    told = [it for it in caplog.records if words in it.getMessage()]
    mine = [it for it in told if it.__dict__.get("request_id") == answer.json()["request_id"]]
    assert len(mine) == 1, [it.getMessage() for it in caplog.records]
    assert mine[0].levelno == logging.ERROR
    assert words not in answer.text
    assert "canary" not in caplog.text
