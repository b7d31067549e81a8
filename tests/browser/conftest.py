"""A real Chromium, and a real `authapi serve` for it to visit."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.servers.process import ServeProcess, free_port

# Headless, as root or not, and without the calls home that Chromium makes by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Names below .lan are this machine, as in a local network without https; others are unknown.
    "--host-resolver-rules=MAP *.lan 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


# Of a module and no longer: Playwright keeps an event loop running, and other tests want their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Its absence is a failure: a skipped test would look like a docs page that works."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("there is no chromium in PATH: install Debian's package of that name")
    expect.set_options(timeout=20_000)  # of a busy machine; what is true is seen at once
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a process started by these tests knows: an empty data folder of its own."""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o700)
    return {"PATH": os.defpath, "HOME": str(folder), "AUTHAPI_DATA_DIR": str(folder)}


@pytest.fixture(scope="module")
def service(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `authapi serve`, with default settings."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    with ServeProcess(command, environment, tmp_path_factory.mktemp("serve")) as process:
        process.wait_ready(f"{url}/health/ready", timeout=30)
        yield url
        assert process.terminate() == 0, process.output()


PREFIXED = """
from fastapi import FastAPI
from authapi import AuthAPI

auth = AuthAPI()
inner = FastAPI(docs_url=None)
auth.install(inner)
app = FastAPI(lifespan=auth.lifespan, docs_url=None, openapi_url=None)
app.mount("/accounts", inner)
"""


@pytest.fixture(scope="module")
def prefixed_service(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an application that has authapi below a prefix."""
    folder: Path = tmp_path_factory.mktemp("prefixed")
    (folder / "prefixed.py").write_text(PREFIXED)
    port = free_port()
    url = f"http://127.0.0.1:{port}/accounts"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "prefixed:app"]
    with ServeProcess([*command, "--port", str(port)], environment, folder) as process:
        process.wait_ready(f"{url}/health/ready", timeout=30)
        yield url
