"""`authapi config`: values, changes, descriptions, and the template of an .env file."""

import json
import os
import subprocess
from pathlib import Path

from dotenv import dotenv_values

from authapi.settings import Settings
from tests.cli.conftest import Run, failed_with_one_line
from tests.cli.processes import run_python

CANARY = "canary-of-the-secret-" * 3


def test_values_are_in_words_and_secrets_are_hidden(run: Run) -> None:
    shown = run("config", secret=CANARY, session_idle="90m", scopes="a=A", roles="r=a")
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert lines.keys() == Settings.model_fields.keys()
    assert lines["session_idle"] == "1 hour 30 minutes"
    assert lines["database_timeout"] == "5 seconds"
    assert lines["secret"] == "(hidden)"
    assert (lines["scopes"], lines["roles"], lines["docs"]) == ("a=A", "r=a", "-")
    assert "canary" not in shown.stdout


def test_the_urls_of_webhooks_are_shown_without_what_may_be_a_token(run: Run) -> None:
    settings = {
        "webhook_urls": f"https://hooks.example.com:8443/{CANARY}?key={CANARY}",
        "webhook_secret": "whsec_" + "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg==",
    }
    for options in ((), ("--json",), ("--changed",), ("--changed", "--json")):
        shown = run("config", *options, **settings)
        assert shown.returncode == 0, shown.stderr
        assert "https://hooks.example.com:8443" in shown.stdout
        assert "canary" not in shown.stdout


def test_only_changed_settings(run: Run, tmp_path: Path) -> None:
    shown = run("config", "--changed", "--json", port="9000", session_idle="86400")
    assert json.loads(shown.stdout) == {"data_dir": str(tmp_path / "data"), "port": 9000}
    lines = run("config", "--changed", port="9000").stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == [
        "data_dir",
        "port",
    ]


def test_each_setting_is_described(run: Run) -> None:
    rows = json.loads(run("config", "--describe", "--json").stdout)["items"]
    assert [row["name"] for row in rows] == list(Settings.model_fields)
    assert all(len(row["text"]) > 10 for row in rows)
    found = {row["variable"]: row for row in rows}
    assert found["AUTHAPI_PRUNE_INTERVAL"]["default"] == "10 minutes"
    assert found["AUTHAPI_PORT"]["text"] == "Port to listen on; 0 selects a free one."
    text = run("config", "--describe").stdout
    assert "AUTHAPI_PORT  (8000)\n    Port to listen on; 0 selects a free one.\n" in text
    # The text says what the default is, or there is none.
    assert "AUTHAPI_SECRET\n    Root of all keys" in text
    assert "AUTHAPI_PUBLIC_URL  (no default)\n" in text
    changed = run("config", "--describe", "--changed", port="9000").stdout
    assert "AUTHAPI_PORT " in changed
    assert "AUTHAPI_HOST " not in changed


def test_the_default_data_folder_is_no_change(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = run_python(
        "-m", "authapi", "config", "--changed", folder=tmp_path, environment=environment
    )
    assert (done.stdout, done.stderr) == ("", "All settings have their defaults.\n")


def test_a_shell_reads_the_template_as_authapi_does(run: Run, tmp_path: Path) -> None:
    lines = run("config", "--env").stdout.splitlines()
    settings = [line.removeprefix("#") for line in lines if line.startswith("#AUTHAPI_")]
    path = tmp_path / "template"
    path.write_text("\n".join(settings))
    done = subprocess.run(
        ["sh", "-euc", "set -a; . ./template; env -0"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    of_shell = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if "=" in entry)
    of_authapi = dotenv_values(path)
    assert len(of_authapi) == len(Settings.model_fields)
    assert {name: of_shell[name] for name in of_authapi} == of_authapi
    assert of_authapi["AUTHAPI_LIMIT_ACCOUNT_AND_NETWORK"] == "10/minute;30/hour"


def test_the_template_of_the_environment(run: Run, tmp_path: Path) -> None:
    text = run("config", "--env").stdout
    assert all(line.startswith("#") or not line for line in text.splitlines())
    names = [line for line in text.splitlines() if line.startswith("#AUTHAPI_")]
    assert len(names) == len(Settings.model_fields)
    # All lines without their comment sign have the effect of none.
    lines = [line.removeprefix("#") if "#AUTHAPI_" in line else line for line in text.splitlines()]
    (tmp_path / ".env").write_text("\n".join(lines))
    assert run("config", "--changed", "--json").stdout == (
        json.dumps({"data_dir": str(tmp_path / "data")}, indent=2) + "\n"
    )
    for option in ("--changed", "--describe", "--json"):
        assert "--env" in failed_with_one_line(run("config", "--env", option))
