"""Mail into a folder, a `.eml` file each: for development, or for a program that sends them."""

import asyncio
import email.policy
import errno
import os
import tempfile
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote, urlsplit

from authapi.errors import ConfigurationError, DeliveryFailed
from authapi.settings import Settings, is_homeless
from authapi.settings.texts import expanded


class Folder:
    """Writes mail into a folder, by default `mail` in the data folder."""

    def __init__(self, settings: Settings) -> None:
        url = settings.mail_url
        if url is None:
            self._path = settings.data_dir / "mail"
        else:
            self._path = expanded(Path(unquote(urlsplit(url.get_secret_value()).path)))

    def open(self) -> None:
        """Nothing: the folder is made for the first mail."""

    async def send(self, message: EmailMessage) -> None:
        """Write it, whole or not at all. The same mail again is the same file again."""
        try:
            await asyncio.to_thread(self._write, message)
        except OSError as error:
            raise DeliveryFailed(f"the folder: {error.strerror}") from None

    async def check(self) -> str:
        """Raises ConfigurationError if the folder is there and cannot be written."""
        if is_homeless(self._path):
            raise ConfigurationError("there is no home folder for mail: set AUTHAPI_MAIL_URL")
        if self._path.exists() and not os.access(self._path, os.W_OK | os.X_OK):
            raise ConfigurationError(f"the mail folder cannot be written: {self._path}")
        return f"written into {self._path}"

    def _write(self, message: EmailMessage) -> None:
        if is_homeless(self._path):
            raise FileNotFoundError(errno.ENOENT, "there is no home folder: set AUTHAPI_MAIL_URL")
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = str(message["Message-ID"]).strip("<>").partition("@")[0]
        final = self._path / f"{name}.eml"
        # Hidden from programs that look for *.eml until it is complete. A random name, as the
        # processes of two containers on one volume may have the same id. Mode 0600.
        descriptor, path = tempfile.mkstemp(prefix=f".{name}.", dir=self._path)
        draft = Path(path)
        try:
            with os.fdopen(descriptor, "wb") as to:
                to.write(message.as_bytes(policy=email.policy.SMTP))
                to.flush()
                os.fsync(to.fileno())
            draft.replace(final)
        finally:
            draft.unlink(missing_ok=True)
