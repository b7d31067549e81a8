"""Chromium, and a real `authapi serve` process."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.accessibility import axe_script
from tests.servers.process import ServeProcess, free_port

# Names below .lan resolve to this machine, as in a local network, and so does localhost. Other
# names do not resolve.
RESOLVED = "MAP *.lan 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"

# These arguments also work as root, and disable background requests of Chromium.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules={RESOLVED}",
]


# Module scope: Playwright keeps an event loop running, which other tests cannot use.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Without it the test fails: a skipped test would look like a working page."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("there is no chromium in PATH: install Debian's package of that name")
    expect.set_options(timeout=20_000)  # for a busy machine; `expect` returns as soon as possible
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core."""
    return axe_script(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of the processes: a new, empty data folder."""
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
        process.wait_ready(f"{url}/health/ready", timeout=60)
        yield url
        assert process.terminate() == 0, process.output()


PREFIXED = """
from fastapi import FastAPI
from authapi import AuthAPI

auth = AuthAPI()
inner = FastAPI(docs_url=None)
auth.install(inner, prefix="{prefix}")
app = FastAPI(lifespan=auth.lifespan, docs_url=None, openapi_url=None)
app.mount("/accounts", inner)
"""


@pytest.fixture(scope="module", params=["", "/api/auth"])
def prefixed_service(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, str]]:
    """The URL of a mounted application, and the prefix of authapi in it."""
    prefix: str = request.param
    folder: Path = tmp_path_factory.mktemp("prefixed")
    (folder / "prefixed.py").write_text(PREFIXED.format(prefix=prefix))
    port = free_port()
    url = f"http://127.0.0.1:{port}/accounts"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(folder), "prefixed:app"]
    with ServeProcess([*command, "--port", str(port)], environment, folder) as process:
        process.wait_ready(f"{url}{prefix}/health/ready", timeout=60)
        yield url, prefix
