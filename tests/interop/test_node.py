"""npm's jose with a running service; it is installed into a temporary folder by its pinned name."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.conftest import Served
from tests.interop.table import HERE, does

pytestmark = pytest.mark.slow

Told = dict[str, Any]


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script that verifies, with jose beside it. Fails where there is no Node.js."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "verify.js"):
        shutil.copy(HERE / "node" / name, folder)
    # No lock: it would name the host that the module came from. It needs no other.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=120)
    return folder / "verify.js"


@contextmanager
def jose(script: Path, served: Served) -> Iterator[Callable[[str], Told]]:
    """Tells what jose makes of a token, in one process that keeps the keys it has read."""
    command = ["node", str(script), served.url, served.algorithm]
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
def test_jose_verifies_from_the_published_keys(script: Path, served: Served) -> None:
    before = served.login()["access_token"]
    with jose(script, served) as verify:
        told = verify(before)
        assert told["claims"]["iss"] == served.url
        assert told["header"]["alg"] == served.algorithm
        after = served.rotated()
        # The key that signs now had been published before: nobody had to read them again.
        assert verify(after)["reads"] == verify(before)["reads"] == 1
        assert verify(after)["header"]["kid"] != told["header"]["kid"]
        head, claims, _ = after.split(".")
        forged = f"{head}.{claims}.{before.rpartition('.')[2]}"
        assert verify(forged)["error"] == "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
        assert verify(served.login()["refresh_token"])["error"] == "ERR_JWS_INVALID"
