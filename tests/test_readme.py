"""README: its commands print the documented output, its programs run, and its links are valid."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.process import ServeProcess, free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "UUID7"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "TIME"),
    (re.compile(r'"request_id": "[0-9a-f]{32}"'), '"request_id": "ID"'),
)


def blocks(language: str, page: str = README) -> list[str]:
    """Returns the fenced blocks of a page, by default README, in one language."""
    return [text for name, text in _BLOCK.findall(page) if name == language]


def comparable(text: str) -> str:
    """Replaces the parts of `text` that differ between runs by placeholders."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text.strip()


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Returns the commands of a console block with their output."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, printed = [], part
        while True:
            line, _, printed = printed.partition("\n")
            command.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                break
        yield " ".join(command), printed


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a command in `folder` with a separate environment; returns its output."""
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(folder / "served")}
    return subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """Runs a real service; yields its address."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "served")}
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with ServeProcess(command, environment, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        yield f"http://127.0.0.1:{port}"


def test_curl_commands_print_the_documented_output(service: str, tmp_path: Path) -> None:
    compared = 0
    for block in blocks("console"):
        for command, printed in steps(block):
            if not command.startswith("curl"):
                continue
            words = shlex.split(command.replace("http://127.0.0.1:8000", service))
            result = run(words, tmp_path)
            assert result.returncode == 0, result.stderr
            assert comparable(result.stdout) == comparable(printed), command
            compared += 1
    assert compared == 5


def test_example_protects_a_route(tmp_path: Path) -> None:
    program = next(text for text in blocks("python") if "@app.get" in text)
    assert len([line for line in program.splitlines() if line.strip()]) <= 12
    (tmp_path / "yourmodule.py").write_text(program, encoding="utf-8")
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "served")}
    command = [sys.executable, "-m", "uvicorn", "yourmodule:app", "--port", str(port)]
    with ServeProcess(command, environment, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            assert http.get("/reports").status_code == 401
            account = {"email": "alice@example.com", "password": "correct horse battery staple"}
            assert http.post("/register", json=account).status_code == 201
            token = http.post("/login", json={**account, "strategy": "jwt"}).json()["access_token"]
            http.cookies.clear()
            answer = http.get("/reports", headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()) == (200, "Reports for alice@example.com")
            assert http.post("/login", json=account).status_code == 200
            assert http.get("/reports").status_code == 401, "a cookie is not among its strategies"
            document = http.get("/openapi.json").json()
            security = document["paths"]["/reports"]["get"]["security"]
            assert security == [{"jwt": []}, {"token": []}]


def test_test_example_runs(tmp_path: Path) -> None:
    program, example = blocks("python")
    (tmp_path / "yourmodule.py").write_text(program, encoding="utf-8")
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-o", "anyio_mode=auto", "."]
    result = run(command, tmp_path)
    assert "passed" in result.stdout, result.stdout


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_are_valid(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_decisions_have_five_headings_and_one_page() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert records
    for record in records:
        lines = record.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 50, record.name
        assert sum(line.startswith("## ") for line in lines) == 5, record.name
