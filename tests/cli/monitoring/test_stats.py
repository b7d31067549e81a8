"""`authapi stats` as an operator runs it."""

import json
from pathlib import Path

from tests.cli.conftest import Run


def test_numbers_are_printed_and_no_key_is_made(run: Run, tmp_path: Path) -> None:
    found = json.loads(run("stats", "--json").stdout)
    assert (found["accounts"]["total"], found["keys"]["active"]) == (0, 0)
    assert found["keys"]["next_rotation_at"] is None
    assert not (tmp_path / "data" / "secret").exists()
    run("users", "create", "alice@example.com", text="correct horse battery staple\n")
    found = json.loads(run("stats", "--json").stdout)
    assert (found["accounts"]["total"], found["keys"]["active"]) == (1, 1)
    lines = dict(line.split(maxsplit=1) for line in run("stats").stdout.splitlines())
    assert lines["accounts"] == "1: 1 active, 0 confirmed, 0 with a second factor, 0 superusers"
    assert lines["logins"] == "0 session, 0 token, 0 jwt"
    assert lines["last_day"] == "1 event, 0 logins, 0 refused"
    assert lines["keys"] == "1 next, 1 active, 0 retired"
