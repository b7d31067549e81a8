"""Logins that must add a second factor, and their first step."""

from collections.abc import Collection
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from authapi import Settings
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client
from tests.second_factors import words_of


def with_mail(database_url: str, tmp_path: Path) -> Settings:
    """Settings that require a second factor, and write mail into a folder."""
    return Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic parses it
        mfa="required",
        mail_url=SecretStr(f"folder:{tmp_path / 'mails'}"),
    )


async def begin(api: Client, strategy: str = "token", **more: object) -> httpx.Response:
    """The first step, by the password of Alice."""
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy, **more}
    answer = await api.post("/login", json=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "enrolment_required")
    return answer


def ticket_of(answer: httpx.Response) -> dict[str, str]:
    """The body that goes on with a login. The client sends the cookie of a browser itself."""
    return {"ticket": answer.json()["ticket"]} if "ticket" in answer.json() else {}


async def sessions(api: Client, user: User) -> int:
    return len(await api.services.sessions.list_for_user(user.id))


async def check_kept_secret(
    api: Client, user: User, secrets: Collection[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No log line and no event of the account has one of these."""
    assert not set(secrets) & words_of(caplog.records)
    for event in await api.services.audit.page(user.id, before=None, limit=50):
        assert not any(secret in str(event) for secret in secrets)
