"""Migrates an empty SQLite database and compares it with the models.

The tests do the same on PostgreSQL, for which they have a server.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

AUTHAPI = Path(sys.executable).with_name("authapi")


def main() -> int:
    """Returns the exit code of the first `authapi db` command that fails, or 0."""
    # The database must not depend on the developer's environment or on a .env of the checkout.
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
