"""Values as files and shells hand them over: line ends, white space, NUL, folders of users."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from authapi.errors import ConfigurationError
from authapi.settings import Settings, load_settings

SECRET = "a-secret-of-at-least-32-characters-length"
URLS: Mapping[str, str] = {
    "database_url": "postgresql://u:p@h/d",
    "redis_url": "rediss://u:p@h:6380/1",
    "mail_url": "smtp://u:p@h:587",
}


def text_of(name: str) -> str:
    found = getattr(load_settings(), name)
    assert isinstance(found, SecretStr)
    return found.get_secret_value()


def refused(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(values)
    assert "\n" not in str(caught.value)
    assert "canary" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", ["variable", "file", "dotenv"])
@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} ", "\t{}\n\n", "\ufeff{}"])
@pytest.mark.parametrize("name", URLS)
def test_a_url_has_nothing_around_it(
    name: str, around: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if around.startswith("\ufeff") and place != "file":
        return  # editors write it into files
    variable, text = f"AUTHAPI_{name.upper()}", around.format(URLS[name])
    if place == "variable":
        monkeypatch.setenv(variable, text)
    elif place == "file":
        (tmp_path / "file").write_text(text, encoding="utf-8", newline="")
        monkeypatch.setenv(f"{variable}_FILE", f"{tmp_path / 'file'}\n")
    else:
        (tmp_path / ".env").write_text(f'{variable}="{text}"\n')
    assert text_of(name) == URLS[name]


@pytest.mark.parametrize("name", URLS)
def test_schemes_have_no_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheme, _, rest = URLS[name].partition(":")
    for written in (scheme.upper(), scheme.title()):
        monkeypatch.setenv(f"AUTHAPI_{name.upper()}", f"{written}:{rest}")
        assert text_of(name) == URLS[name]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("inside", ["%00", "\n", "\r", "\t", "\0", "\x1b", "\u2028", "%FF"])
def test_a_url_holds_no_control_character(name: str, inside: str) -> None:
    for text in (URLS[name].replace("p@", f"canary{inside}@"), URLS[name] + inside + "canary"):
        assert f"AUTHAPI_{name.upper()}: " in refused(**{name: text})


def test_a_url_of_white_space_is_none() -> None:
    for name in URLS:
        assert getattr(load_settings({name: " \n"}), name) is None


@pytest.mark.parametrize("place", ["variable", "file"])
def test_a_secret_is_the_same_from_a_variable_and_from_a_file(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if place == "variable":
        monkeypatch.setenv("AUTHAPI_SECRET", f"{SECRET}\r\n")
    else:
        (tmp_path / "file").write_text(f"{SECRET}\r\n", newline="")
        monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(tmp_path / "file"))
    assert text_of("secret") == SECRET


def test_a_secret_of_several_lines_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for text in (f"{SECRET}\ncanary", f"{SECRET}\0canary"):
        (tmp_path / "file").write_text(text)
        monkeypatch.setenv("AUTHAPI_SECRET_FILE", str(tmp_path / "file"))
        assert "AUTHAPI_SECRET: must not hold a line end or a NUL" in refused()


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("mail_url", "smtp://h?starttls=true", "smtp:// is STARTTLS, smtps:// is TLS"),
        ("mail_url", "smtp://h/canary", "must end after host and port"),
        ("mail_url", "smtp://h#canary", "must end after host and port"),
        ("mail_url", "smtp://u:can#ary@h:587", "written %40 %2F %3F %23"),
        ("mail_url", "folder:/d/a?canary", "? in a path is %3F"),
        ("mail_url", "folder:/d/a#canary", "# is %23"),
        ("mail_url", "folder://canary/a", "without a host"),
    ],
)
def test_a_url_that_would_be_taken_for_another_is_refused(
    name: str, text: str, reason: str
) -> None:
    message = refused(**{name: text})
    assert f"AUTHAPI_{name.upper()}: " in message
    assert reason in message


@pytest.mark.parametrize("name", ["data_dir", "mail_ca_file", "mail_templates", "leak_report_keys"])
def test_a_path_is_of_the_user_and_holds_no_nul(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(f"AUTHAPI_{name.upper()}", "~/here\n")
    assert getattr(load_settings(), name) == tmp_path / "here"
    assert f"AUTHAPI_{name.upper()}: must not hold a NUL" in refused(**{name: "/a\0canary"})


def test_a_relative_place_for_data_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    # XDG Base Directory Specification: paths in these variables must be absolute.
    monkeypatch.delenv("AUTHAPI_DATA_DIR")
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert load_settings().data_dir == Path("/somewhere/.local/share/authapi")


_HOMELESS = """
import posixpath

posixpath.expanduser = lambda path: path  # as for a user without an entry, where HOME is not set
from authapi.cli import main
main()
"""


def homeless(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`authapi` without HOME, and without a user in the password database."""
    return subprocess.run(
        [sys.executable, "-c", _HOMELESS, *arguments],
        env={f"AUTHAPI_{name.upper()}": value for name, value in settings.items()},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("db", "upgrade"), ("users", "list")]
)
def test_without_a_home_folder_there_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    done = homeless(tmp_path, *command)
    expected = "authapi: there is no home folder to keep data in: set AUTHAPI_DATA_DIR\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_folder_nothing_is_missed_that_is_not_needed(tmp_path: Path) -> None:
    done = homeless(
        tmp_path,
        *("db", "upgrade"),
        database_url=f"sqlite:///{tmp_path}/a.db",
        secret=SECRET,
        mail_url="none:",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_home_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "authapi", "serve", "--port", "0"],
        env={"HOME": str(tmp_path / "file")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    [line] = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("authapi: cannot make the data folder ")
    assert line.endswith("AUTHAPI_DATA_DIR names another")


def test_settings_from_python_are_cleaned_as_well() -> None:
    url = SecretStr("PostgreSQL://h/d\n")
    assert Settings(database_url=url).resolved_database_url == "postgresql://h/d"
