"""The checks of who can read the files of the service."""

import stat
from collections.abc import Iterator
from pathlib import Path

from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.settings import other_readers, secret_files, secrets_in_dotenv


def check_secret_file(subject: Subject) -> Iterator[Finding]:
    """Who can read the files with secrets."""
    settings = subject.settings
    given = secret_files()
    for path in (*given.values(), *secrets_in_dotenv()):
        yield _check_secret_file(path)
    own = settings.data_dir / "secret"
    if "AUTHAPI_SECRET_FILE" not in given and own.exists():
        yield _check_secret_file(own)


def check_data_dir(subject: Subject) -> Iterator[Finding]:
    """Who can read the data folder."""
    settings = subject.settings
    if settings.is_embedded and settings.data_dir.exists():
        yield _check_mode(settings.data_dir, "data folder")


def _check_secret_file(path: Path) -> Finding:
    finding = _check_mode(path, "secret")
    if finding.verdict == "ok" and other_readers(path) is not None:
        return Finding.advising("secret", "error", f"{path} is readable by its group", "chmod g-r")
    return finding


def _check_mode(path: Path, what: str) -> Finding:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o007:
        fact = f"{path} is accessible to all users (mode {mode:04o})"
        return Finding.advising(what, "error", fact, "chmod o-rwx")
    return Finding(what, "ok", f"{path} has mode {mode:04o}")
