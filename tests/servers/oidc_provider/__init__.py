"""oidc-provider of npm, where people of the tests log in with a page."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.servers.process import ServeProcess

SECRET = "the-secret-of-the-service"
CLIENTS = ("rs256", "es256", "ps256", "eddsa")
"""The ids of the clients, which are the algorithms of their ID tokens."""
_HERE = Path(__file__).parent


@contextmanager
def oidc_provider(
    folder: Path, port: int, redirect_uris: Sequence[str], *, claims_in_id_tokens: bool = False
) -> Iterator[str]:
    """Runs the provider on `port`, with its files in `folder`; fails without Node.js.

    Yields its issuer. `redirect_uris` are the addresses to which it leads back. Names and addresses
    are at the userinfo endpoint, or with `claims_in_id_tokens` in the ID token.
    """
    for name in ("package.json", "provider.js"):
        shutil.copy(_HERE / name, folder)
    # Without a lock file, which would contain the host of the registry.
    quiet = ("--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    if not (folder / "node_modules").exists():
        subprocess.run(["npm", "install", "--prefix", folder, *quiet], check=True, timeout=180)
    command = ["node", str(folder / "provider.js"), str(port), *redirect_uris]
    environment = {"PATH": os.environ["PATH"]}
    if claims_in_id_tokens:
        environment["CLAIMS_IN_ID_TOKENS"] = "1"
    with ServeProcess(command, environment, folder) as process:
        issuer = f"http://127.0.0.1:{port}"
        process.wait_ready(f"{issuer}/jwks", timeout=60)
        yield issuer
