"""docs/operations.md: its commands, settings and events exist, and its lists are complete."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
import typer

from authapi.cli.commands import _command
from authapi.domain.events import EventType
from authapi.services.restores.reapplying import BY_HAND, REAPPLIED
from authapi.settings import Settings
from tests.test_readme import ROOT

_PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
_BLOCKS = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(authapi [^`]+)`")


def _commands() -> list[str]:
    lines = [line for block in _BLOCKS.findall(_PAGE) for line in block.splitlines()]
    in_blocks = [line.partition(" >")[0] for line in lines if line.startswith("authapi ")]
    return [*in_blocks, *_INLINE.findall(_PAGE)]


@pytest.mark.parametrize("line", sorted(set(_commands())))
def test_every_command_exists_with_its_options(line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    command = typer.main.get_command(_command(name)).commands[name]  # type: ignore[attr-defined]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_every_setting_exists() -> None:
    names = set(re.findall(r"AUTHAPI_[A-Z_]+", _PAGE))
    assert names
    assert {name.removeprefix("AUTHAPI_").lower() for name in names} <= {*Settings.model_fields}


def test_the_table_lists_what_is_repeated() -> None:
    after = _PAGE.partition("## After a restore")[2]
    table, _, rest = after.partition("| repeated |")[2].partition("\n\n")
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == {*REAPPLIED}
    by_hand = rest.partition("Repeat these yourself:")[2].partition("Accounts, tokens")[0]
    assert set(re.findall(r"`(?:authapi )?(\w+)`", by_hand)) == {*BY_HAND}
    assert {*REAPPLIED, *BY_HAND} <= set(EventType)


def _shell(lines: list[str], home: Path, **environment: str) -> None:
    names = {"PATH": os.environ["PATH"], "HOME": str(home), **environment}
    for line in lines:
        subprocess.run(["sh", "-ec", line], env=names, check=True, timeout=60)


def _restoring(*programs: str) -> list[str]:
    """The lines that restore a backup with these programs."""
    block = _BLOCKS.findall(_PAGE.partition("## After a restore")[2])[0]
    found = [line for line in block.splitlines() if line.startswith(programs)]
    assert [line.partition(" ")[0] for line in found] == [*programs]
    return found


def test_a_restored_file_has_nothing_of_the_old_database(tmp_path: Path) -> None:
    """A process that was killed leaves a file -wal, whose changes belong to its own database."""
    data, saved = tmp_path / ".local" / "share" / "authapi", tmp_path / "saved.db"
    data.mkdir(parents=True)
    path = data / "authapi.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (value TEXT)")
        connection.execute(f"VACUUM INTO '{saved}'")
        connection.execute("INSERT INTO t VALUES ('later')")
        killed = tmp_path / "killed"
        shutil.copytree(data, killed)
    shutil.rmtree(data)
    killed.rename(data)
    assert (data / "authapi.db-wal").stat().st_size
    lines = [line.replace("/backup/authapi.db", str(saved)) for line in _restoring("rm", "cp")]
    _shell(lines, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == []
