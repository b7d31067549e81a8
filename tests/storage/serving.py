"""The application with a failing database, and its expected responses."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from authapi import Settings, create_app
from authapi.testing import Client, client


@asynccontextmanager
async def serving(url: str, **changes: object) -> AsyncIterator[Client]:
    """Runs the application with a user who is logged in with a token."""
    settings = Settings(**{"database_url": url, **changes})  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await api.login(await api.create_user("alice@example.com"), strategy="token")
        yield api


async def refused(api: Client, caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Asserts that a write is answered with 503, and that one log line contains the reason."""
    caplog.clear()
    answer = await api.patch("/me", json={"name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    request_id = answer.json()["request_id"]
    records = [
        record
        for record in caplog.records
        if words in record.getMessage() and record.__dict__.get("request_id") == request_id
    ]
    assert len(records) == 1, [record.getMessage() for record in caplog.records]
    assert records[0].levelno == logging.ERROR
    assert words not in answer.text
    assert "canary" not in caplog.text
