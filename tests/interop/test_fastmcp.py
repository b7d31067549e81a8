"""FastMCP, in its own virtual environment, with a running service."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.environments import create_environment, install
from tests.interop.conftest import Gateway, Served
from tests.interop.table import HERE, does

pytestmark = pytest.mark.slow

FOLDER = HERE / "fastmcp"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the pinned version of FastMCP."""
    found = create_environment(tmp_path_factory.mktemp("fastmcp"))
    install(found, "-r", str(FOLDER / "requirements.txt"))
    return found


@does("FastMCP", "verify ES256", "verify RS256", "introspect")
def test_fastmcp_verifiers_accept_tokens(python: Path, served: Served, gateway: Gateway) -> None:
    held, opaque = served.login(), served.login("token")["access_token"]
    metadata = served.metadata()
    given = {
        **{name: metadata[name] for name in ("issuer", "jwks_uri", "introspection_endpoint")},
        "algorithm": served.algorithm,
        "id": gateway.id,
        "secret": gateway.secret,
        "tokens": [held["access_token"], opaque, "aat_x", f"{held['access_token'][:-4]}AAAA"],
    }
    done = subprocess.run(
        [str(python), str(FOLDER / "verifiers.py")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    good = {"client_id": "authapi", "scopes": ["reports:read"]}
    assert json.loads(done.stdout) == {
        "client_secret_basic": [good, good, None, None],
        "client_secret_post": [good, good, None, None],
        "jwt": [good, None, None, None],
    }
