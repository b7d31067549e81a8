"""What a transport for mail does, and the transport that the settings choose."""

from email.message import EmailMessage
from typing import Protocol

from authapi.services.mail.transports.console import Console
from authapi.services.mail.transports.folder import Folder
from authapi.settings import Settings


class Transport(Protocol):
    """Sends messages."""

    def open(self) -> None:
        """Reads the files that the transport needs. Blocks.

        Raises ConfigurationError if that fails.
        """

    async def send(self, message: EmailMessage) -> None:
        """Returns once another program is responsible for `message`.

        Raises DeliveryFailed if no program has accepted it. If the reason is the message or its
        recipient, the error is an EntryFailed.
        """

    async def check(self) -> str:
        """Connects, without sending a message. Returns where mail goes, as a text for operators.

        Raises DeliveryFailed if the transport cannot be reached, ConfigurationError if its settings
        cannot be used.
        """


def create_transport(settings: Settings) -> Transport | None:
    """The transport of the settings; None if they disable mail.

    Raises ConfigurationError if the transport needs an extra that is not installed.
    """
    match settings.mail_transport:
        case "none":
            return None
        case "console":
            return Console()
        case "folder":
            return Folder(settings)
        case _:
            # Imported here because its dependency is an optional extra.
            from authapi.services.mail.transports.smtp import SMTP  # noqa: PLC0415

            return SMTP(settings)
