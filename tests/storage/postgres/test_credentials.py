"""The role and the password of a connection, from each place where libpq reads them."""

from pathlib import Path

import pytest

from authapi.storage.postgres.credentials import credentials_in_use
from authapi.storage.urls import parse_url


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGUSER", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))


def found(text: str) -> tuple[str, str]:
    return credentials_in_use(parse_url(text))


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:apple%40tree@127.0.0.1:1/d",
        "postgresql://127.0.0.1:1/d?user=ann&password=apple%40tree",
        "postgresql://127.0.0.1:1,127.0.0.1:2/d?user=ann&password=apple%40tree",
    ],
)
def test_of_the_url(text: str) -> None:
    assert found(text) == ("ann", "apple@tree")


def test_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "ann")
    monkeypatch.setenv("PGPASSWORD", "pear")
    assert found("postgresql://127.0.0.1:1/d") == ("ann", "pear")
    assert found("postgresql://bob:plum@127.0.0.1:1/d") == ("bob", "plum")


def test_of_a_password_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    file.write_text("127.0.0.1:1:d:ann:quince\n*:*:*:bob:fig\n")
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert found("postgresql://ann@127.0.0.1:1/d") == ("ann", "quince")
    monkeypatch.delenv("PGPASSFILE")
    assert found(f"postgresql://bob@127.0.0.1:1/d?passfile={file}") == ("bob", "fig")


def test_of_a_service_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text("[accounts]\nuser=ann\npassword=medlar\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    monkeypatch.setenv("PGSERVICE", "accounts")
    assert found("postgresql://127.0.0.1:1/d") == ("ann", "medlar")


def test_without_a_password() -> None:
    assert found("postgresql://ann@127.0.0.1:1/d") == ("ann", "")
