"""Mail in a folder, one `.eml` file each: for development, or for a program that sends them."""

import asyncio
import email.policy
import errno
import os
import tempfile
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.settings import Settings, has_unexpanded_home
from authapi.settings.values.normalization import expand_home


class Folder:
    """Writes messages into a folder, by default `mail` in the data folder."""

    def __init__(self, settings: Settings) -> None:
        url = settings.mail_url
        if url is None:
            self._path = settings.data_dir / "mail"
        else:
            self._path = expand_home(Path(unquote(urlsplit(url.get_secret_value()).path)))

    def open(self) -> None:
        """Does nothing: `send` creates the folder."""

    async def send(self, message: EmailMessage) -> None:
        """Writes the file atomically. A repeated delivery of an entry replaces its file.

        Raises DeliveryFailed if the file cannot be written.
        """
        try:
            await asyncio.to_thread(self._write, message)
        except OSError as error:
            raise DeliveryFailed(f"the folder: {error.strerror}") from None

    async def check(self) -> str:
        """Raises ConfigurationError if the folder exists but is not writable, or has no path."""
        if has_unexpanded_home(self._path):
            raise ConfigurationError("there is no home folder for mail: set AUTHAPI_MAIL_URL")
        if self._path.exists() and not os.access(self._path, os.W_OK | os.X_OK):
            raise ConfigurationError(f"the mail folder cannot be written: {self._path}")
        return f"written into {self._path}"

    def _write(self, message: EmailMessage) -> None:
        if has_unexpanded_home(self._path):
            raise FileNotFoundError(errno.ENOENT, "there is no home folder: set AUTHAPI_MAIL_URL")
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        final = self._path / f"{name}.eml"
        # Programs that look for *.eml do not see the file until it is complete. Its name is random,
        # as processes of two containers on one volume may have the same process id. Mode 0600.
        descriptor, path = tempfile.mkstemp(prefix=f".{name}.", dir=self._path)
        temporary = Path(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(message.as_bytes(policy=email.policy.SMTP))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)
