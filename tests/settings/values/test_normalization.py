"""Normalization of values from files and shells: line ends, white space, NUL, `~`."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings
from tests.cli.processes import Result, run_python

SECRET = "a-secret-of-at-least-32-characters-length"
URLS: Mapping[str, str] = {
    "database_url": "postgresql://u:p@h/d",
    "redis_url": "rediss://u:p@h:6380/1",
    "mail_url": "smtp://u:p@h:587",
}


def text_of(name: str) -> str:
    value = getattr(load_settings(), name)
    assert isinstance(value, SecretStr)
    return value.get_secret_value()


def error_of(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(values)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["variable", "file", "dotenv"])
@pytest.mark.parametrize("template", ["{}\n", "{}\r\n", " {} ", "\t{}\n\n", "\ufeff{}"])
@pytest.mark.parametrize("name", URLS)
def test_white_space_around_urls_is_stripped(
    name: str, template: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if template.startswith("\ufeff") and place != "file":
        return  # only editors write it, into files
    variable, text = f"AUTHAPI_{name.upper()}", template.format(URLS[name])
    if place == "variable":
        monkeypatch.setenv(variable, text)
    elif place == "file":
        (tmp_path / "file").write_text(text, encoding="utf-8", newline="")
        monkeypatch.setenv(f"{variable}_FILE", f"{tmp_path / 'file'}\n")
    else:
        (tmp_path / ".env").write_text(f'{variable}="{text}"\n')
    assert text_of(name) == URLS[name]


@pytest.mark.parametrize("name", URLS)
def test_schemes_are_case_insensitive(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, _, rest = URLS[name].partition(":")
    for written in (scheme.upper(), scheme.title()):
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", f"{written}:{rest}")
        assert text_of(name) == URLS[name]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("character", ["%00", "\n", "\r", "\t", "\0", "\x1b", "\u2028", "%FF"])
def test_control_characters_in_urls_are_rejected(name: str, character: str) -> None:
    for text in (
        URLS[name].replace("p@", f"canary{character}@"),
        URLS[name] + character + "canary",
    ):
        assert f"AUTHAPI_{name.upper()}: " in error_of(**{name: text})


def test_blank_url_counts_as_unset() -> None:
    for name in URLS:
        assert getattr(load_settings({name: " \n"}), name) is None


@pytest.mark.parametrize("place", ["variable", "file"])
def test_line_end_after_a_secret_is_stripped(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place == "variable":
        monkeypatch.setenv("AUTHAPI_SECRET", f"{SECRET}\r\n")
    else:
        (tmp_path / "file").write_text(f"{SECRET}\r\n", newline="")
        monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(tmp_path / "file"))
    assert text_of("secret") == SECRET


def test_secret_of_several_lines_is_rejected(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text in (f"{SECRET}\ncanary", f"{SECRET}\0canary"):
        (tmp_path / "file").write_text(text)
        monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(tmp_path / "file"))
        assert "AUTHAPI_SECRET: must not contain a line end or a NUL" in error_of()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("mail_url", "smtp://h?starttls=true", "smtp:// is STARTTLS, smtps:// is TLS"),
        ("mail_url", "smtp://h/canary", "must end after host and port"),
        ("mail_url", "smtp://h#canary", "must end after host and port"),
        ("mail_url", "smtp://u:can#ary@h:587", "write @ / ? # as %40 %2F %3F %23"),
        ("mail_url", "folder:/d/a?canary", "write ? in a path as %3F"),
        ("mail_url", "folder:/d/a#canary", "and # as %23"),
        ("mail_url", "folder://canary/a", "must not have a host"),
    ],
)
def test_ambiguous_mail_urls_are_rejected(name: str, text: str, reason: str) -> None:
    message = error_of(**{name: text})
    assert f"AUTHAPI_{name.upper()}: " in message
    assert reason in message


@pytest.mark.parametrize("name", ["data_dir", "mail_ca_file", "mail_templates", "leak_report_keys"])
def test_paths_expand_home_and_reject_nul(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", "~/here\n")
    assert getattr(load_settings(), name) == tmp_path / "here"
    assert f"AUTHAPI_{name.upper()}: must not contain a NUL" in error_of(**{name: "/a\0canary"})


def test_relative_xdg_data_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # XDG Base Directory Specification: paths in these variables must be absolute.
    monkeypatch.delenv("AUTHAPI_DATA_DIR")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert load_settings().data_dir == Path("/somewhere/.local/share/authapi")


_WITHOUT_HOME = """
import posixpath

posixpath.expanduser = lambda path: path  # as without HOME and without a password entry
from authapi.cli.commands import main
main()
"""


def run_without_home(folder: Path, *arguments: str, **settings: str) -> Result:
    """Runs `authapi` without HOME, as a user without an entry in the password database."""
    environment = {f"AUTHAPI_{name.upper()}": value for name, value in settings.items()}
    return run_python("-c", _WITHOUT_HOME, *arguments, folder=folder, environment=environment)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("db", "upgrade"), ("users", "list")]
)
def test_missing_home_folder_is_a_one_line_error(command: tuple[str, ...], tmp_path: Path) -> None:
    done = run_without_home(tmp_path, *command)
    expected = "authapi: there is no home folder to keep data in: set AUTHAPI_DATA_DIR\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
    assert list(tmp_path.iterdir()) == []


def test_home_folder_is_not_needed_with_explicit_settings(tmp_path: Path) -> None:
    done = run_without_home(
        tmp_path,
        *("db", "upgrade"),
        database_url=f"sqlite:///{tmp_path}/a.db",
        secret=SECRET,
        mail_url="none:",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_unwritable_home_folder_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    command = ("-m", "authapi", "serve", "--port", "0")
    environment = {"HOME": str(tmp_path / "file")}
    done = run_python(*command, folder=tmp_path, environment=environment)
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("authapi: cannot create the data folder ")
    assert line.endswith("set AUTHAPI_DATA_DIR to another folder")


def test_values_from_python_are_normalized() -> None:
    url = SecretStr("PostgreSQL://h/d\n")
    assert Settings(database_url=url).resolved_database_url == "postgresql://h/d"
