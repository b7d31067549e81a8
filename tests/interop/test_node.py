"""Clients and resource servers from npm with a running service.

They are installed into a temporary folder, with pinned versions.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import PASSWORD, Gateway, Served
from tests.interop.table import HERE, does

pytestmark = pytest.mark.slow

Told = dict[str, Any]


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the scripts, with their modules. Fails without Node.js."""
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
    # Without a lock file, which would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=300)
    return folder


def run(scripts: Path, name: str, **given: object) -> Any:
    """Runs a script with JSON on standard input; returns its JSON output."""
    done = subprocess.run(
        ["node", str(scripts / f"{name}.js")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def jose(scripts: Path, served: Served) -> Iterator[Callable[[str], Told]]:
    """Verifies tokens with jose, in one process that caches the keys."""
    command = ["node", str(scripts / "verify.js"), served.url, served.algorithm]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        given, printed = process.stdin, process.stdout
        assert given
        assert printed

        def verify(token: str) -> Told:
            print(token, file=given, flush=True)
            found: Told = json.loads(printed.readline())
            return found

        try:
            yield verify
        finally:
            given.close()
    assert process.returncode == 0


@does("jose (Node.js)", "metadata", "verify ES256", "verify RS256", "after a rotation")
def test_jose_verifies_from_the_published_keys(scripts: Path, served: Served) -> None:
    before = served.login()["access_token"]
    with jose(scripts, served) as verify:
        told = verify(before)
        assert told["claims"]["iss"] == served.url
        assert told["header"]["alg"] == served.algorithm
        after = served.rotated()
        # The key that signs now was published before, so jose did not read the keys again.
        assert verify(after)["reads"] == verify(before)["reads"] == 1
        assert verify(after)["header"]["kid"] != told["header"]["kid"]
        head, claims, _ = after.split(".")
        forged = f"{head}.{claims}.{before.rpartition('.')[2]}"
        assert verify(forged)["error"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
        assert verify(served.login()["refresh_token"])["error"] == "ERR_JWS_INVALID"


@does(
    "oauth4webapi (Node.js)",
    *("metadata", "verify ES256", "verify RS256", "refresh", "revoke", "introspect"),
)
def test_oauth4webapi(scripts: Path, served: Served, gateway: Gateway) -> None:
    held = served.login()
    told = run(
        scripts,
        "oauth4webapi",
        issuer=served.url,
        algorithm=served.algorithm,
        access_token=held["access_token"],
        refresh_token=held["refresh_token"],
        id=gateway.id,
        secret=gateway.secret,
    )
    assert told["server"]["issuer"] == told["resource"]["resource"] == served.url
    assert told["claims"]["client_id"] == "authapi"
    assert told["refused"] == {
        "code": "OAUTH_RESPONSE_BODY_ERROR",
        "error": "invalid_grant",
        "error_description": "The grant was refused",
        "status": 400,
        "challenges": [],
    }
    assert told["renewed"]["refresh_token"] != held["refresh_token"]
    for active in (told["by_basic"], told["by_post"]):
        assert (active["active"], active["client_id"]) == (True, "authapi")
        assert active["sub"] == told["claims"]["sub"]
    assert told["wrong"]["status"] == 401
    assert [item["scheme"] for item in told["wrong"]["challenges"]][:1] == ["basic"]
    assert told["after"] == {"active": False}


@does("openid-client (Node.js)", "metadata", "refresh", "revoke", "introspect")
def test_openid_client(scripts: Path, served: Served, gateway: Gateway) -> None:
    token = served.login()["refresh_token"]
    told = run(
        scripts,
        "openid-client",
        issuer=served.url,
        refresh_token=token,
        id=gateway.id,
        secret=gateway.secret,
    )
    assert told["server"]["issuer"] == served.url
    assert told["refused"]["error"] == "invalid_grant"
    assert told["refused"]["error_description"] == "The grant was refused"
    assert told["renewed"]["refresh_token"] != token
    assert [item["token_type"] for item in told["before"]] == ["Bearer", "refresh_token"]
    assert told["wrong"]["status"] == 401
    assert told["after"] == {"active": False}


@does("express-oauth2-jwt-bearer (Node.js)", "metadata", "verify ES256", "verify RS256")
def test_express_oauth2_jwt_bearer(scripts: Path, served: Served) -> None:
    good = served.login()["access_token"]
    head, claims, signature = served.login()["access_token"].split(".")
    forged = f"{head}.{claims}.{good.rpartition('.')[2]}"
    told = run(
        scripts,
        "express-oauth2-jwt-bearer",
        issuer=served.url,
        algorithm=served.algorithm,
        tokens=[good, f"{head}.{claims}.{signature}", forged],
    )
    for found in told[:2]:
        assert found["claims"]["status"] == 200, found
        assert found["claims"]["body"]["client_id"] == "authapi"
        assert found["scoped"]["status"] == 200
    assert told[2]["claims"]["status"] == 401
    assert told[2]["claims"]["body"]["code"] == "invalid_token"


@does("simple-oauth2 (Node.js)", "password", "refresh", "revoke")
def test_simple_oauth2(scripts: Path, served: Served) -> None:
    username = served.register()
    told = run(scripts, "simple-oauth2", issuer=served.url, username=username, password=PASSWORD)
    assert told == {
        "refused": {"status": 400, "error": "invalid_grant"},
        "scope": "reports:read",
        "rotated": True,
        "before": 200,
        "after": 401,
        "dead": {"status": 400, "error": "invalid_grant"},
    }
