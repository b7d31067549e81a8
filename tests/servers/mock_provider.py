"""oidc-provider-mock of PyPI, which answers as an OpenID provider, by Authlib."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import ServeProcess


@contextmanager
def mock_provider(folder: Path, port: int, people: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Runs the provider on `port`, in another process, because it warns. Yields its issuer.

    `people` are the claims of those who can log in there, by `sub`. It requires a nonce.
    """
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    command += ["--require-nonce", "true"]
    for person in people:
        command += ["--user-claims", json.dumps(person)]
    environment = {"PATH": os.environ["PATH"], "AUTHLIB_INSECURE_TRANSPORT": "1"}
    with ServeProcess(command, environment, folder) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{url}/jwks", timeout=60)
        yield url
