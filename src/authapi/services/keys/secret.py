"""The configured secret, or one that is made once and kept in the data folder."""

import contextlib
import os
from pathlib import Path

from authapi.crypto import secrets
from authapi.errors import ConfigurationError
from authapi.settings import MIN_SECRET_LENGTH, Settings, is_homeless


def secret_of(settings: Settings) -> bytes:
    """What signing keys are sealed under; without a configured secret, one from the data folder.

    Raises ConfigurationError if the folder or the file cannot be used.
    """
    secret = settings.secret
    text = secret.get_secret_value() if secret else _own_secret(settings.data_dir)
    return text.encode()


def prepare_data_dir(path: Path) -> None:
    """Make the data folder, readable by its owner only. Raises ConfigurationError."""
    if is_homeless(path):
        raise ConfigurationError("there is no home folder to keep data in: set AUTHAPI_DATA_DIR")
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot make the data folder {path}: {error.strerror}; AUTHAPI_DATA_DIR names another"
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigurationError(f"the data folder {path} is not writable")


def _own_secret(data_dir: Path) -> str:
    prepare_data_dir(data_dir)
    path = data_dir / "secret"
    try:
        if not path.exists():
            _create(path, secrets.new_secret())
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read or make the secret file {path}: {error}") from None
    if len(text) < MIN_SECRET_LENGTH:
        raise ConfigurationError(f"the secret file {path} is damaged: it is too short")
    return text


def _create(path: Path, text: str) -> None:
    """Put `text` into the file `path`, unless another process has made that file by then.

    Several may start at once, also in containers that share one volume. Each writes a draft, and
    links it to `path`, which the first one does: so the file is whole from its first moment, and
    never changes. The name of a draft is random, as each container may have the process id 1.
    """
    draft = path.with_name(f"{path.name}.{secrets.new_secret()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
    _keep_name(path.parent)


def _keep_name(folder: Path) -> None:
    # What the secret seals is in the database soon: a power cut must not leave that alone. Not all
    # file systems can be asked for this.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
