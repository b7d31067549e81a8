"""`authapi users import` as a real process."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.conftest import Run, failed_with_one_line
from tests.cli.processes import environment_in, run_python
from tests.crypto.imported_hash_vectors import CHEAP
from tests.storage.imports.test_sources import ROWS, TABLE
from tests.storage.rows import sql

BCRYPT = CHEAP["bcrypt: 2b"]
LINE = json.dumps({"email": "alice@example.com", "password_hash": BCRYPT, "name": "Alice"})


def summary(added: int, skipped: int, *, dry_run: bool = False) -> dict[str, object]:
    counts = {"lines": added + skipped, "added": added, "skipped": skipped, "refused": 0}
    return {**counts, "dry_run": dry_run}


def test_import_from_a_file_and_standard_input(run: Run, tmp_path: Path) -> None:
    (tmp_path / "users.jsonl").write_text(LINE + "\n")
    looked = run("users", "import", "users.jsonl", "--dry-run", "--json")
    assert (looked.returncode, looked.stderr) == (0, "")
    assert json.loads(looked.stdout) == summary(1, 0, dry_run=True)
    assert json.loads(run("users", "list", "--json").stdout)["items"] == []

    done = run("users", "import", "users.jsonl", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == summary(1, 0)
    again = run("users", "import", "-", "--json", text=LINE + '\n{"email":"bob@example.com"}\n')
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout) == summary(1, 1)
    rows = json.loads(run("users", "list", "--json").stdout)["items"]
    assert [(row["email"], row["name"]) for row in rows] == [
        ("alice@example.com", "Alice"),
        ("bob@example.com", None),
    ]
    assert run("users", "import", "-").stdout == (
        "lines    0\nadded    0\nskipped  0\nrefused  0\ndry_run  no\n"
    )


def test_rejected_lines_are_printed_with_line_and_field(run: Run) -> None:
    lines = [
        LINE,
        '{"email":"a@example.com","email":"b@example.com"}',
        '{"email":"bob@example.com","is_superuser":true}',
        '{"email":"carol@example.com","password_hash":"plain text","\\u001b[2Jx":1}',
        '{"email":"dan@example.com","roles":["editor",2]}',
    ]
    done = run("users", "import", "-", "--json", text="\n".join(lines))
    assert done.returncode == 1
    assert json.loads(done.stdout) == {**summary(0, 0), "lines": 5, "refused": 4}
    assert done.stderr.splitlines() == [
        "line 2: must be one JSON object in UTF-8 without repeated members",
        "line 3: is_superuser: superusers are only imported with --allow-superusers",
        "line 4: password_hash: has an unsupported format: use argon2, bcrypt, pbkdf2 or scrypt",
        "line 4: ?[2Jx: unknown field",
        "line 5: roles.1: Input should be a valid string",
    ]
    assert json.loads(run("users", "list", "--json").stdout)["items"] == []
    allowed = run("users", "import", "-", "--allow-superusers", "--json", text=lines[2])
    assert json.loads(allowed.stdout) == summary(1, 0)
    [row] = json.loads(run("users", "list", "--json").stdout)["items"]
    assert row["is_superuser"] is True


def test_at_most_one_hundred_rejected_lines_are_printed(run: Run) -> None:
    done = run("users", "import", "-", text="x\n" * 250)
    assert done.returncode == 1
    told = done.stderr.splitlines()
    assert (len(told), told[99][:9], told[100]) == (101, "line 100:", "and 150 more")
    assert "refused  250\n" in done.stdout


def test_import_from_a_pipe(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(LINE,))
    writer.start()
    done = run("users", "import", "pipe", "--json")
    writer.join(timeout=20)
    assert json.loads(done.stdout) == summary(1, 0)


def test_unreadable_sources_are_one_line_errors(run: Run, tmp_path: Path) -> None:
    assert "No such file" in failed_with_one_line(run("users", "import", "none.jsonl"))
    assert "directory" in failed_with_one_line(run("users", "import", str(tmp_path)))
    line = failed_with_one_line(
        run("users", "import", "sqlite:///none.db", "--from", "fastapi-users")
    )
    assert "a table named user" in line
    assert not (tmp_path / "none.db").exists()
    assert run("users", "import", "x", "--from", "elsewhere").returncode == 2
    for url, text in (("postgresql://alice:canary@127.0.0.1:1/x", ""), ("-", "x://a:canary@b/c")):
        done = run("users", "import", url, "--from", "fastapi-users", text=text)
        assert "canary" not in failed_with_one_line(done)


@pytest.mark.parametrize("given", ["argument", "input"])
def test_import_from_a_fastapi_users_database(run: Run, database_url: str, given: str) -> None:
    hashes = [CHEAP["argon2-cffi: argon2id"], CHEAP["pwdlib: bcrypt"]]
    rows = ROWS.replace("$2b$12$abc", hashes[1]).replace("$argon2id$", hashes[0])
    sql(database_url, TABLE, rows)
    source = ("-", database_url) if given == "input" else (database_url, "")
    command = ("users", "import", source[0], "--from", "fastapi-users", "--json")
    refused = run(*command, text=source[1])
    assert (refused.returncode, json.loads(refused.stdout)["refused"]) == (1, 1)
    assert "is_superuser: superusers are only imported" in refused.stderr
    done = run(*command, "--allow-superusers", text=source[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == summary(2, 0)
    assert json.loads(run(*command, "--allow-superusers", text=source[1]).stdout) == summary(0, 2)
    rows_here = json.loads(run("users", "list", "--json").stdout)["items"]
    found = {row["email"]: row for row in rows_here}
    alice, bob = found["a@example.com"], found["B@example.com"]
    assert (alice["is_active"], alice["is_superuser"]) == (True, False)
    assert alice["email_confirmed_at"]
    assert (bob["is_active"], bob["is_superuser"], bob["email_confirmed_at"]) == (False, True, None)


KEPT = "2f4b7c1a-0d3e-4a57-9c1b-6f2e8d5a4b3c"


def test_ids_are_kept_on_request(run: Run) -> None:
    line = json.dumps({"email": "alice@example.com", "id": KEPT})
    refused = run("users", "import", "-", text=line)
    assert (refused.returncode, refused.stderr) == (
        1,
        "line 1: id: needs --keep-ids or --ids-out\n",
    )
    for counts in (summary(1, 0), summary(0, 1)):
        done = run("users", "import", "-", "--keep-ids", "--json", text=line)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == counts
    [row] = json.loads(run("users", "list", "--json").stdout)["items"]
    assert row["id"] == KEPT
    other = line.replace("alice", "bob")
    refused = run("users", "import", "-", "--keep-ids", text=other)
    assert refused.stderr == "line 1: id: is the id of an account with another address\n"
    assert refused.returncode == 1


def test_ids_of_another_kind_are_written_to_a_file(run: Run, tmp_path: Path) -> None:
    text = "".join(f'{{"email":"{n}@example.com","id":{n}}}\n' for n in (1, 2))
    command = ("users", "import", "-", "--ids-out", "map.csv", "--json")
    assert run(*command, "--dry-run", text=text).returncode == 0
    assert run(*command, text=text + "{}").returncode == 1
    assert not (tmp_path / "map.csv").exists()
    done = run(*command, text=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "map.csv").stat().st_mode & 0o777 == 0o600
    header, *rows = (tmp_path / "map.csv").read_text().splitlines()
    users = json.loads(run("users", "list", "--json").stdout)["items"]
    assert header == "old_id,new_id"
    assert sorted(rows) == sorted(f"{row['email'][0]},{row['id']}" for row in users)
    before = (tmp_path / "map.csv").read_text()
    for more in ((), ("--dry-run",)):
        again = failed_with_one_line(run(*command, *more, text=text))
        assert "map.csv exists: name a new file for the ids" in again
    assert (tmp_path / "map.csv").read_text() == before


def test_options_that_contradict_are_refused(run: Run) -> None:
    both = run("users", "import", "-", "--keep-ids", "--ids-out", "map.csv")
    assert "exclude each other" in failed_with_one_line(both)
    alone = run("users", "import", "-", "--table", "users")
    assert "--table needs --from fastapi-users" in failed_with_one_line(alone)


def test_ids_of_a_fastapi_users_database_are_kept(run: Run, database_url: str) -> None:
    row = ROWS.split(",\n")[0].replace("$2b$12$abc", BCRYPT).replace("'1'", f"'{KEPT}'")
    sql(database_url, TABLE.replace('"user"', "members"), row.replace('"user"', "members"))
    command = ("users", "import", database_url, "--from", "fastapi-users", "--keep-ids")
    assert "a table named user with" in failed_with_one_line(run(*command))
    done = run(*command, "--table", "members")
    assert (done.returncode, done.stderr) == (0, "")
    [user] = json.loads(run("users", "list", "--json").stdout)["items"]
    assert (user["id"], user["email"]) == (KEPT, "a@example.com")
    numbers = [*command[:-1], "--ids-out", "map.csv", "--table", "members"]
    assert run(*numbers).returncode == 0


def write_lines(path: Path, count: int) -> None:
    """Writes lines as an export of another system does, each with a hash of its own."""
    with path.open("w") as file:
        for number in range(count):
            hashed = f"pbkdf2_sha1$1000${number:012}$AAAAAAAAAAAAAAAAAAAAAAAAAAA="
            line = {"email": f"person{number}@example.com", "password_hash": hashed, "name": "P"}
            print(json.dumps(line), file=file)


@contextmanager
def errors_on_terminal(
    folder: Path, *arguments: str
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Runs `authapi`, with a terminal only as standard error; yields it and its other end."""
    leader, follower = pty.openpty()
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "authapi", *arguments],
            env=environment_in(folder),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
        ) as process:
            os.close(follower)
            yield process, leader
    finally:
        os.close(leader)


def read_terminal(leader: int) -> str:
    shown = b""
    with suppress(OSError):  # Linux: the process has closed the terminal
        while block := os.read(leader, 4096):
            shown += block
    return shown.decode()


def test_progress_is_shown_on_a_terminal_and_the_result_stays_json(tmp_path: Path) -> None:
    write_lines(tmp_path / "users.jsonl", 1700)
    command = ("users", "import", "users.jsonl", "--json")
    with errors_on_terminal(tmp_path, *command) as (process, leader):
        shown = read_terminal(leader)
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == summary(1700, 0)
    assert process.returncode == 0
    assert re.search(r"lines checked .*1700/1700", shown)
    assert re.search(r"lines imported .* \d+/1700", shown)
    assert re.search(r"lines imported .* [\d,]+/s", shown)
    assert shown.endswith("\x1b[2K")  # the bars are removed
    with (tmp_path / "users.jsonl").open("a") as file:
        file.write("{\n")
    with errors_on_terminal(tmp_path, *command) as (process, leader):
        shown = read_terminal(leader)
    assert process.returncode == 1
    refusal = "line 1701: must be one JSON object in UTF-8 without repeated members"
    assert refusal in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", shown))


MEASURED = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "authapi", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Runs `authapi` and prints the peak of its resident memory in KiB. A small process does so,
because a new process counts the memory of the one that starts it as its own."""


def peak_memory(folder: Path, *arguments: str) -> int:
    measured = run_python("-c", MEASURED, *arguments, folder=folder)
    assert measured.returncode == 0, measured.stderr
    return int(measured.stdout)


@pytest.mark.slow
def test_memory_use_does_not_grow_with_the_lines(tmp_path: Path) -> None:
    used = {}
    for count in (1_000, 20_000):
        write_lines(tmp_path / "users.jsonl", count)
        folder = tmp_path / str(count)
        folder.mkdir()
        used[count] = peak_memory(folder, "users", "import", "../users.jsonl")
    # As parsed accounts, the further lines take about 19 MiB.
    assert used[20_000] < used[1_000] + 8 * 1024
