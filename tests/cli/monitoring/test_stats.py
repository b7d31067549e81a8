"""`authapi stats` as an operator runs it."""

import json
import re
import signal
import subprocess
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.processes import environment_in, heeding_interrupts


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
    assert found["schema"] == lines["schema"]
    assert found["database"] == lines["database"]
    users = next(table for table in found["tables"] if table["name"] == "authapi_users")
    assert (users["rows"], users["is_estimated"]) == (1, False)
    assert users["bytes"] is None or users["bytes"] > 0
    assert re.search(
        r"^table authapi_users +1 row(, \d+\.\d KiB)?$", run("stats").stdout, re.MULTILINE
    )


def test_a_watch_as_json_prints_a_document_on_each_line(run: Run, tmp_path: Path) -> None:
    assert run("stats").returncode == 0  # the database exists
    with subprocess.Popen(
        heeding_interrupts("stats", "--watch", "0.5", "--json"),
        env=environment_in(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert [json.loads(line)["accounts"]["total"] for line in lines] == [0, 0]
