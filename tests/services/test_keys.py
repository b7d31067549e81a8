"""The signing key: from a configured secret, or from a file that is made once and kept private."""

import os
import stat
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from authapi.crypto import jws
from authapi.errors import ConfigurationError, TokenError
from authapi.services.keys import Keys, prepare_data_dir
from authapi.settings import Settings
from tests.servers.process import ServeProcess
from tests.storage.rows import AT, a_session, a_user

HOUR = timedelta(hours=1)


def keys(**settings: Any) -> Keys:
    found = Keys(Settings(**settings))
    found.start()
    return found


def kid(found: Keys) -> str:
    [key] = found.jwk_set()["keys"]
    return key["kid"]


def token(found: Keys, **session: Any) -> str:
    user = a_user()
    return found.sign_access_token(user, a_session(user, **session), issued=AT, expires=AT + HOUR)


def test_our_own_token_is_good_until_it_ends() -> None:
    ours = keys(secret="x" * 32, public_url="https://auth.example", jwt_audience="api")
    user = a_user()
    session = a_session(user)
    signed = ours.sign_access_token(user, session, issued=AT, expires=AT + HOUR)
    claims = ours.verify_access_token(signed, now=AT + HOUR / 2)
    second = int(AT.timestamp())
    assert {name: value for name, value in claims.items() if name != "jti"} == {
        "iss": "https://auth.example",
        "aud": "api",
        "sub": str(user.id),
        "sid": str(session.id),
        "iat": second,
        "exp": second + 3600,
        "auth_time": second,
        "amr": ["pwd"],
        "scope": "a b",
    }
    with pytest.raises(TokenError):
        ours.verify_access_token(signed, now=datetime.fromtimestamp(second + 3600, UTC))
    assert "scope" not in ours.verify_access_token(token(ours, scopes=frozenset()), now=AT)


def test_no_two_tokens_are_alike() -> None:
    ours = keys(secret="x" * 32)
    assert token(ours) != token(ours)


def test_equal_secrets_are_one_key_on_every_host() -> None:
    first, second = (keys(secret="x" * 32, data_dir=f"/nowhere/{n}") for n in range(2))
    assert kid(first) == kid(second)
    assert second.verify_access_token(token(first), now=AT)
    stranger = keys(secret="y" * 32)
    with pytest.raises(TokenError):
        stranger.verify_access_token(token(first), now=AT)


@pytest.mark.parametrize(
    "other",
    [{"public_url": "https://other.example"}, {"jwt_audience": "other"}],
    ids=["iss", "aud"],
)
def test_a_token_is_for_one_issuer_and_audience(other: dict[str, str]) -> None:
    ours = {"secret": "x" * 32, "public_url": "https://auth.example", "jwt_audience": "api"}
    with pytest.raises(TokenError):
        keys(**(ours | other)).verify_access_token(token(keys(**ours)), now=AT)


def test_the_key_set_is_public() -> None:
    [key] = keys(secret="x" * 32).jwk_set()["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_without_a_secret_one_is_made_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    made = kid(keys(data_dir=folder))
    secret = folder / "secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(secret.read_text().strip()) == 43
    assert list(folder.iterdir()) == [secret]
    assert kid(keys(data_dir=folder)) == made
    secret.unlink()
    assert kid(keys(data_dir=folder)) != made


def test_a_configured_secret_touches_no_file(tmp_path: Path) -> None:
    keys(secret="x" * 32, data_dir=tmp_path / "unused")
    assert not (tmp_path / "unused").exists()


def test_processes_that_start_at_once_have_one_secret(tmp_path: Path) -> None:
    code = """
from authapi.services.keys import Keys
from authapi.settings import Settings
keys = Keys(Settings())
keys.start()
print(keys.jwk_set()["keys"][0]["kid"])
"""
    folder = tmp_path / "shared"
    environment = {**os.environ, "AUTHAPI_DATA_DIR": str(folder)}
    with ExitStack() as stack:
        started = [
            stack.enter_context(ServeProcess([sys.executable, "-c", code], environment, tmp_path))
            for _ in range(4)
        ]
        ended = {(process.wait(), process.output()) for process in started}
    assert ended == {(0, kid(keys(data_dir=folder)) + "\n")}
    assert [path.name for path in folder.iterdir()] == ["secret"]


def test_losing_the_race_for_the_file_reads_the_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = "w" * 43
    link = os.link

    def another_was_first(source: Path, target: Path) -> None:
        Path(target).write_text(winner)
        link(source, target)

    monkeypatch.setattr(os, "link", another_was_first)
    assert kid(keys(data_dir=tmp_path)) == jws.derive_signing_key(winner.encode()).verifying.kid
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 31, b"\xff" * 64, b" " * 64], ids=range(5))
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match="secret file") as caught:
        keys(data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "secret").read_bytes() == content


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(ConfigurationError, match="secret file"):
        keys(data_dir=tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/authapi")):
        with pytest.raises(ConfigurationError, match="data folder") as caught:
            prepare_data_dir(folder)
        assert str(folder) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(ConfigurationError, match="not writable"):
        prepare_data_dir(tmp_path)


def test_what_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="lifespan"):
        token(Keys(Settings()))
    with pytest.raises(TokenError):
        Keys(Settings()).verify_access_token("a.b.c", now=AT)
