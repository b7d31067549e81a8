"""Runs the example of two services as its README describes, and compares the output."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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

README = (ROOT / "examples" / "two_services" / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Starts both services as in README; maps the addresses in README to the real ones."""
    prepare(tmp_path)
    ports = {"8000": str(free_port()), "8001": str(free_port())}
    hosts = {f"http://127.0.0.1:{old}": f"http://127.0.0.1:{new}" for old, new in ports.items()}
    issuer, orders = hosts.values()
    given = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_PORT": ports["8000"],
        "ORDERS_ISSUER": issuer,
    }
    serve, uvicorn = [c for c, _ in commands(README) if program_of(c) in STARTED]
    with ServeProcess(in_folder(tmp_path, serve), given, tmp_path) as first:
        first.wait_ready(f"{issuer}/health/ready", timeout=60)
        second = in_folder(tmp_path, uvicorn.replace("8001", ports["8001"]))
        with ServeProcess(second, given, tmp_path) as next_:
            next_.wait_ready(f"{orders}/health/live", timeout=60)
            yield hosts


def test_readme_commands_print_the_documented_output(
    started: dict[str, str], tmp_path: Path
) -> None:
    walked = [(c, printed) for c, printed in commands(README) if program_of(c) not in STARTED]
    assert len(walked) == 18
    check_output(walked, started, tmp_path)
