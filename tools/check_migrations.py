"""Migrate an empty embedded database and compare it with the models.

PostgreSQL's turn is in the tests, which have a server.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

AUTHAPI = Path(sys.executable).with_name("authapi")


def main() -> int:
    """Exit code of the first `authapi db` command that fails, or 0."""
    # Neither a developer's environment nor a .env of the checkout may choose the database.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("AUTHAPI_")}
    with tempfile.TemporaryDirectory() as folder:
        environ["AUTHAPI_DATA_DIR"] = folder
        for command in ("upgrade", "check"):
            done = subprocess.run([AUTHAPI, "db", command], cwd=folder, env=environ, check=False)
            if done.returncode:
                print(f"authapi db {command}: exit code {done.returncode}", file=sys.stderr)
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
