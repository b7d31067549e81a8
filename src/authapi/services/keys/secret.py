"""The configured secret, or one that is generated once and kept in the data folder."""

import contextlib
import os
from pathlib import Path

from authapi.crypto import secrets
from authapi.crypto.encryption import Secrets
from authapi.errors import ConfigurationError
from authapi.settings import MIN_SECRET_LENGTH, Settings, has_unexpanded_home


def read_secrets(settings: Settings) -> Secrets:
    """Returns `read_secret`, and the secret that it replaces. Raises as `read_secret`."""
    previous = settings.secret_previous
    text = None if previous is None else previous.get_secret_value()
    return Secrets(read_secret(settings), None if text is None else text.encode())


def read_secret(settings: Settings) -> bytes:
    """Returns the secret that encrypts signing keys and outbox payloads.

    Without `settings.secret`, returns the one in the data folder, and generates it first if
    there is none. Raises ConfigurationError if the folder or the file cannot be used.
    """
    secret = settings.secret
    text = secret.get_secret_value() if secret else _generated_secret(settings.data_dir)
    return text.encode()


def prepare_data_dir(path: Path) -> None:
    """Creates the data folder, readable by its owner only.

    Raises ConfigurationError if it cannot be created, or is not writable.
    """
    if has_unexpanded_home(path):
        raise ConfigurationError("there is no home folder to keep data in: set AUTHAPI_DATA_DIR")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot create the data folder {path}: {error.strerror}; "
            "set AUTHAPI_DATA_DIR to another folder"
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the data folder {path} is not writable")


def _generated_secret(data_dir: Path) -> str:
    prepare_data_dir(data_dir)
    path = data_dir / "secret"
    try:
        if not path.exists():
            _create(path, secrets.new_secret())
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read or create the secret file {path}: {error}") from None
    if len(text) < MIN_SECRET_LENGTH:
        raise ConfigurationError(f"the secret file {path} is damaged: it is too short")
    return text


def _create(path: Path, text: str) -> None:
    """Writes `text` to the file `path`, unless another process has created that file by then.

    Several processes may start at once, also in containers that share a volume. Each writes a
    temporary file and links it to `path`; the first link succeeds. So the file is complete as soon
    as it exists, and never changes. The temporary name is random, because every container may have
    the process id 1.
    """
    temporary = path.with_name(f"{path.name}.{secrets.new_secret()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The database soon contains keys encrypted with this secret: a power failure must not leave
    # them without it. Not all file systems support this.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
