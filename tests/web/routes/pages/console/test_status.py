"""/console/status: what the checks found, numbers, versions and settings."""

import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partialmethod
from pathlib import Path

import pytest

from authapi import Settings, create_app
from authapi.diagnostics.background import BackgroundChecks
from authapi.domain.monitoring.statistics import EventCount, EventCounts
from authapi.settings.descriptions import changed_settings, described_settings
from authapi.testing import Client, client
from authapi.web.routes.pages.console.status import Sparkline, as_text
from tests.servers.process import free_port
from tests.web.pages.anatomy import page_of
from tests.web.pages.browser import Browser, Page
from tests.web.routes.pages.people import sign_in_by_page

ROOT = "root@example.com"
MARKER = "hunter2hunter2hunter2hunter2hunter2x"


@pytest.fixture(autouse=True)
def _checks_may_take_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # The bound of three seconds, which a busy machine may exceed, is tested with the checks.
    bounded = BackgroundChecks.__init__
    monkeypatch.setattr(BackgroundChecks, "__init__", partialmethod(bounded, timeout=60.0))


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        await found.create_user(ROOT, is_superuser=True)
        await sign_in_by_page(found, ROOT)
        yield found


async def test_the_page_shows_findings_numbers_and_versions(api: Client) -> None:
    page = await Browser(api).open("/console/status")
    assert page.status == 200
    text = words(page)
    assert "✓ Passed database reachable, schema at" in text
    name = "SQLite" if api.services.database.is_sqlite else "PostgreSQL"
    versions = await api.services.statistics.versions()
    assert versions.database.startswith(name)
    for value in (versions.authapi, versions.python, versions.database, versions.schema):
        assert value in text
    assert "1 sign-ins, 0 refused" in text
    assert "AUTHAPI_DATABASE_URL=(hidden)" in text
    assert "AUTHAPI_PORT" not in text


async def test_each_verdict_has_a_sign_and_a_word(api: Client) -> None:
    async with client(
        create_app(
            Settings(
                database_url=api.services.settings.database_url,
                strategies=("session", "basic"),
                redis_url=f"redis://127.0.0.1:{free_port()}/0",  # type: ignore[arg-type]  # pydantic parses it
            )
        )
    ) as other:
        await sign_in_by_page(other, ROOT)
        text = words(await Browser(other).open("/console/status"))
    assert "✓ Passed mail" in text
    assert "! Warning strategies basic sends the password" in text
    assert "✕ Error limits the rate limit storage does not respond" in text


async def test_all_settings_are_listed(api: Client) -> None:
    browser = Browser(api)
    page = await browser.open("/console/status?show=settings")
    for setting in type(api.services.settings).model_fields:
        assert f"AUTHAPI_{setting.upper()}=" in page.text
    korean = await browser.open("/console/status?show=settings&lang=ko")
    assert "AUTHAPI_PORT=" in korean.text
    page_of(korean.answer)


def words(page: Page) -> str:
    """The text of a page, in the order in which it is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.answer.text)).split())


def secret_settings() -> set[str]:
    """The settings whose values are hidden."""
    fields = Settings.model_fields.items()
    return {name for name, field in fields if "SecretStr" in str(field.annotation)}


async def test_no_page_contains_a_secret(database_url: str) -> None:
    named = f"{database_url}{'&' if '?' in database_url else '?'}application_name={MARKER}"
    is_postgres = database_url.startswith("postgres")
    secrets = {
        "secret": MARKER,
        "secret_previous": MARKER[::-1],
        "database_url": named if is_postgres else database_url,
        "database_direct_url": named if is_postgres else None,
        "redis_url": f"redis://me:{MARKER}@127.0.0.1:{free_port()}/0",
        "mail_url": f"smtp://me:{MARKER}@127.0.0.1:{free_port()}",
        "webhook_secret": "whsec_" + "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==",
    }
    assert secret_settings() == secrets.keys() | {"clients"} & secret_settings()
    other = Settings(
        **secrets,  # type: ignore[arg-type]  # pydantic parses it
        webhook_urls=(f"https://hooks.example.com/{MARKER}?key={MARKER}",),
        public_url="http://127.0.0.1:8000",
        providers={"google": {"client_id": "me", "client_secret": MARKER}},
    )
    async with client(create_app(other)) as shown:
        await shown.create_user(ROOT, is_superuser=True)
        await sign_in_by_page(shown, ROOT)
        for path in ("/console/status", "/console/status?show=settings"):
            answer = await shown.get(path)
            assert answer.status_code == 200
            assert "(hidden)" in answer.text
            assert "AUTHAPI_WEBHOOK_URLS=https://hooks.example.com\n" in answer.text
            for marker in (MARKER, MARKER[::-1], "hunter2", "aHVudGVyM"):
                assert marker not in answer.text


def test_settings_are_described_as_the_environment_has_them(tmp_path: Path) -> None:
    settings = Settings(secret=MARKER, port=9000, data_dir=tmp_path)  # type: ignore[arg-type]  # pydantic parses it
    described = described_settings(settings)
    assert described["secret"] == "(hidden)"
    assert described["token_lifetime"] == settings.token_lifetime // timedelta(seconds=1)
    assert {"secret", "port", "data_dir"} <= {*changed_settings(settings)}
    assert "host" not in changed_settings(settings)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (["a", "b"], "a, b"),
        (frozenset({"b", "a"}), "a, b"),
        ({"a": frozenset({"y", "x"})}, '{"a": ["x", "y"]}'),
        (3, "3"),
    ],
)
def test_values_are_texts(value: object, text: str) -> None:
    assert as_text(value) == text


def test_the_highest_count_has_the_highest_bar() -> None:
    hours = [EventCount()] * 22 + [EventCount(1, 1, 0), EventCount(2_000, 0, 1_000)]
    chart = Sparkline.of(EventCounts(hours, is_complete=True))
    assert chart.highest == 1_000
    assert chart.refused == "M235 60v-60h4v60z"
    assert chart.sign_ins == "M221 60v-1h4v1z"
    empty = Sparkline.of(EventCounts([EventCount()] * 24, is_complete=True))
    assert (empty.sign_ins, empty.refused, empty.highest) == ("", "", 0)
