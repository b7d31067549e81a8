"""Warnings about `AUTHAPI_*` variables that are not settings."""

import logging
from pathlib import Path

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings
from authapi.settings import EdgeSettings, load_settings, unknown_settings, unknown_variables
from authapi.verify import RemoteJWT, ResourceServer

CANARY = "canary"


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown_variables, "_reported", set())


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("AUTHAPI_SECERT", "AUTHAPI_SECRET"),
        ("AUTHAPI_JWT_LIFE_TIME", "AUTHAPI_JWT_LIFETIME"),
        ("AUTHAPI_DATABASE_URI", "AUTHAPI_DATABASE_URL"),
        ("AUTHAPI_DATABASE_URL_FIL", "AUTHAPI_DATABASE_URL_FILE"),
        ("AUTHAPI_SECRET_FILES", "AUTHAPI_SECRET_FILE"),
        ("AUTHAPI_ALLOWED_ORIGIN", "AUTHAPI_ALLOWED_ORIGINS"),
        ("AUTHAPI_TRUSTED_PROXY", "AUTHAPI_TRUSTED_PROXIES"),
        ("authapi_prot", "AUTHAPI_PORT"),
        ("AUTHAPI_XYZZY", None),
    ],
)
@pytest.mark.parametrize("place", ["environment", "dotenv"])
def test_most_similar_name_is_suggested(
    name: str, nearest: str | None, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place == "environment":
        monkeypatch.setenv(name, CANARY)
    else:
        (tmp_path / ".env").write_text(f"{name}={CANARY}\nOTHER_SECERT=x\n")
    for kind in (Settings, EdgeSettings):
        line = unknown_settings(kind)[name.upper()]
        assert line.startswith(f"{name.upper()} is not a setting and has no effect")
        assert line.endswith(f": did you mean {nearest}?" if nearest else "has no effect")
        assert CANARY not in line
    load_settings()  # not an error


def test_known_variables_cause_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, field in Settings.model_fields.items():
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", CANARY)
        if "SecretStr" in str(field.annotation):
            monkeypatch.setenv(f"AUTHAPI_{name.upper()}_FILE", CANARY)
    assert not unknown_settings(Settings)
    # A resource server may share its environment with the issuer.
    assert not unknown_settings(EdgeSettings)


def test_only_secrets_have_file_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_HOST_FILE", CANARY)
    assert list(unknown_settings(Settings)) == ["AUTHAPI_HOST_FILE"]


def test_kubernetes_service_variables_cause_no_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8000_TCP"),
        *("PORT_8000_TCP_ADDR", "PORT_8000_TCP_PORT", "PORT_8000_TCP_PROTO"),
    ):
        monkeypatch.setenv(f"AUTHAPI_{name}", CANARY)
    assert not unknown_settings(Settings)


def test_control_characters_in_names_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAPI_\x1b[2J\n" + "X" * 500, CANARY)
    [line] = unknown_settings(Settings).values()
    assert line.isprintable()
    assert len(line) < 200


async def test_application_logs_the_warning_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sqlite_url: str
) -> None:
    monkeypatch.setenv("AUTHAPI_SECERT", CANARY)
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", sqlite_url)
    for _ in range(2):
        auth = AuthAPI()
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)
        async with auth.lifespan(app):
            pass
    warnings = [record for record in caplog.records if record.name == "authapi.settings"]
    assert [(record.levelno, record.getMessage()) for record in warnings] == [
        (
            logging.WARNING,
            "AUTHAPI_SECERT is not a setting and has no effect: did you mean AUTHAPI_SECRET?",
        )
    ]


async def test_resource_server_logs_the_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AUTHAPI_ALLOWED_ORIGIN", CANARY)
    auth = ResourceServer(RemoteJWT(issuer="https://127.0.0.1:1", audience="orders"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with auth.lifespan(app):
        pass
    messages = [item.getMessage() for item in caplog.records if item.name == "authapi.settings"]
    [message] = messages
    assert message.startswith("AUTHAPI_ALLOWED_ORIGIN is not a setting and has no effect:")
    assert message.endswith("did you mean AUTHAPI_ALLOWED_ORIGINS?")
