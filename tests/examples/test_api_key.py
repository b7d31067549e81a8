"""The example of an API-key strategy: the suite for strategies, and the commands of its README."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from authapi import User
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.testing.strategy_contract import Credential, Harness, Headers, StrategyContract
from tests.examples.documented import (
    ROOT,
    STARTED,
    check_output,
    commands,
    in_folder,
    prepare,
    program_of,
)
from tests.servers.process import ServeProcess, free_port

README = (ROOT / "examples" / "api_key" / "README.md").read_text(encoding="utf-8")
PYTEST = "pytest"


class TestAPIKey(StrategyContract):
    spec = "examples.api_key.reports:APIKeyStrategy"
    amr = ()  # a personal access token is no login
    is_cached = True

    async def obtain(self, harness: Harness, user: User) -> Credential:
        owner = await harness.cookie(user)
        answer = await harness.request("POST", "/me/tokens", owner, json={"name": "a key"})
        assert (await harness.request("POST", "/logout", owner)).status_code == 204
        key = str(answer.json()["access_token"])
        return Credential({"X-API-Key": key}, key)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {
            "empty": {"X-API-Key": ""},
            "cut": {"X-API-Key": good.secret[:-1]},
            "of another kind": {"X-API-Key": new_secret()},
        }

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"made up": {"X-API-Key": new_opaque_token()}}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Starts the application as in README; yields its address."""
    prepare(tmp_path)
    port = str(free_port())
    [uvicorn] = [c for c, _ in commands(README) if program_of(c) in STARTED]
    command = in_folder(tmp_path, uvicorn.replace("8002", port))
    given = {"PATH": os.environ["PATH"], "AUTHAPI_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    with ServeProcess(command, given, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        yield f"http://127.0.0.1:{port}"


def test_readme_commands_print_the_documented_output(address: str, tmp_path: Path) -> None:
    skipped = {*STARTED, PYTEST}
    walked = [(c, printed) for c, printed in commands(README) if program_of(c) not in skipped]
    assert len(walked) == 8
    check_output(walked, {"http://127.0.0.1:8002": address}, tmp_path)


def test_readme_names_the_suite() -> None:
    [command] = [c for c, _ in commands(README) if program_of(c) == PYTEST]
    assert Path(__file__).name in command
    assert TestAPIKey.__name__ in command
