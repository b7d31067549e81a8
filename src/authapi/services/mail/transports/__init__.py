"""How mail leaves: by SMTP, into a folder, onto the console."""

from email.message import EmailMessage
from typing import Protocol

from authapi.services.mail.transports.console import Console
from authapi.services.mail.transports.folder import Folder
from authapi.settings import Settings


class Transport(Protocol):
    """Takes one mail at a time."""

    def open(self) -> None:
        """Read what it needs. Blocks. Raises ConfigurationError if that cannot be."""

    async def send(self, message: EmailMessage) -> None:
        """Return once somebody else is responsible for `message`. Raises DeliveryFailed."""

    async def check(self) -> str:
        """Where mail goes, in words, if it can be reached now. Raises DeliveryFailed."""


def transport_of(settings: Settings) -> Transport | None:
    """That of the settings; None where they send no mail.

    Raises ConfigurationError if it needs what is not installed.
    """
    match settings.mail_transport:
        case "none":
            return None
        case "console":
            return Console()
        case "folder":
            return Folder(settings)
        case _:
            # Only here: whoever sends none by SMTP need not have what that imports.
            from authapi.services.mail.transports.smtp import SMTP  # noqa: PLC0415

            return SMTP(settings)
