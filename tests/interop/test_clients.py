"""Clients that are generated from the OpenAPI document, with a running service; linters; Postman.

Each client logs in, refreshes, lists and ends a session. They are installed into a temporary
folder, with pinned versions. The programs for TypeScript are in `clients`, one of them in
docs/clients.md.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from authapi import create_app
from tests.conftest import SettingsFactory
from tests.environments import create_environment, install
from tests.interop.conftest import PASSWORD, Served
from tests.interop.table import HERE
from tests.web.documents.test_operations import every_feature

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("served", ["ES256"], indirect=True)]

FOLDER = HERE / "clients"
DOCS = HERE.parents[1] / "docs"
TEXT = (DOCS / "clients.md").read_text(encoding="utf-8")
URL = "http://127.0.0.1:8000"
"""The address of the service in the programs."""
[_GENERATE] = re.findall(r"^\$ npx (.+)$", TEXT, re.MULTILINE)
GENERATORS: Mapping[str, tuple[str, ...]] = {
    "openapi-fetch": tuple(_GENERATE.split()),
    "orval": ("orval", "--config", "orval.config.cjs"),
    "hey-api": (
        "openapi-ts",
        *("-i", "openapi.json", "-o", "generated/hey-api", "-c", "@hey-api/client-fetch"),
    ),
    "swagger-typescript-api": (
        *("swagger-typescript-api", "generate", "--path", "openapi.json"),
        *("--output", "generated", "--name", "swagger-typescript-api.ts"),
    ),
}
"""The program of each client, and the command that generates its code."""
DONE = {"sessions": 1, "ended": 204, "after": 401}
"""What each client prints: its sessions, and the statuses when it ends its own and lists again."""


def run(command: tuple[str, ...], folder: Path) -> str:
    """Runs a program that npm has installed in `folder`; returns its output."""
    program = str(folder / "node_modules" / ".bin" / command[0])
    quiet = {"CI": "1", "NO_COLOR": "1", "REDOCLY_TELEMETRY": "off", "DO_NOT_TRACK": "1"}
    quiet["REDOCLY_SUPPRESS_UPDATE_NOTICE"] = "true"
    done = subprocess.run(
        [program if Path(program).exists() else command[0], *command[1:]],
        cwd=folder,
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def email(served: Served) -> str:
    """The address of an account. Each client ends its own session only."""
    return served.register()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs and their modules. Fails without Node.js."""
    folder = tmp_path_factory.mktemp("clients")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    [block] = re.findall(r"```typescript\n(.*?)```", TEXT, re.DOTALL)
    (folder / "openapi-fetch.ts").write_text(block)
    # Without a lock file, which would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def compiled(installed: Path, served: Served, email: str) -> Path:
    """The folder with the compiled programs and the clients that they use."""
    (installed / "openapi.json").write_bytes(httpx.get(f"{served.url}/openapi.json").content)
    for name in GENERATORS:
        program = installed / f"{name}.ts"
        source = program.read_text().replace(URL, served.url)
        assert "alice@example.com" in source
        program.write_text(source.replace("alice@example.com", email))
    with ThreadPoolExecutor(2) as pool:
        commands = [
            tuple(word.replace(URL, served.url) for word in words) for words in GENERATORS.values()
        ]
        list(pool.map(lambda command: run(command, installed), commands))
    run(("tsc", "--project", "."), installed)
    return installed


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generated_client_ends_its_session(compiled: Path, name: str) -> None:
    printed = run(("node", f"compiled/{name}.js"), compiled)
    assert json.loads(printed) == DONE
    assert f"`{printed.strip()}`" in TEXT


def test_a_client_in_python_ends_its_session(tmp_path: Path, served: Served, email: str) -> None:
    python = create_environment(tmp_path / "venv")
    install(python, "-r", str(FOLDER / "requirements.txt"))
    generator = (str(python.with_name("openapi-python-client")), "generate", "--fail-on-warning")
    options = ("--meta", "none", "--output-path", "authapi_client")
    environment = {"PATH": f"{python.parent}:{os.defpath}", "PYTHONPATH": str(tmp_path)}

    def run_here(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run_here(*generator, "--url", f"{served.url}/openapi.json", *options)
    printed = run_here(str(python), str(FOLDER / "sessions.py"), served.url, email)
    assert json.loads(printed) == DONE


@pytest.mark.parametrize("features", ["default", "all"])
def test_linters_find_no_errors(
    compiled: Path, features: str, make_settings: SettingsFactory, tmp_path: Path
) -> None:
    document = compiled / "openapi.json"
    if features == "all":
        document = tmp_path / "openapi.json"
        document.write_text(
            json.dumps(create_app(every_feature(make_settings, tmp_path)).openapi())
        )
    run(("redocly", "lint", str(document), "--config", "redocly.yaml"), compiled)
    run(("spectral", "lint", str(document), "--ruleset", "spectral.yaml"), compiled)


def test_the_collection_for_postman_runs(compiled: Path, served: Served, email: str) -> None:
    assert "`npx newman run docs/authapi.postman_collection.json`" in TEXT
    collection = DOCS / "authapi.postman_collection.json"
    variables = {"url": served.url, "email": email, "password": PASSWORD}
    options = [item for name in variables for item in ("--env-var", f"{name}={variables[name]}")]
    report = ("--reporters", "json", "--reporter-json-export", "report.json")
    run(("newman", "run", str(collection), *options, *report), compiled)
    result = json.loads((compiled / "report.json").read_text())["run"]
    assert result["failures"] == []
    assert result["stats"]["requests"]["total"] == 5


def test_the_document_names_the_versions(compiled: Path) -> None:
    pins = json.loads((compiled / "package.json").read_text())["dependencies"]
    for name in ("orval", "@hey-api/openapi-ts", "swagger-typescript-api"):
        assert f"| {name} | {pins[name]} |" in TEXT
    assert f"| {pins['openapi-typescript']}, {pins['openapi-fetch']} |" in TEXT
    name, _, version = (FOLDER / "requirements.txt").read_text().strip().partition("==")
    assert f"| {name} | {version} |" in TEXT
