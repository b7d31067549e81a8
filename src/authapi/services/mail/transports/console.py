"""Mail on standard output, for development: the terminal of the server shows the links."""

import sys
from email.message import EmailMessage


class Console:
    """Prints messages."""

    def open(self) -> None:
        """Does nothing: standard output needs no preparation."""

    async def send(self, message: EmailMessage) -> None:
        """Prints the main headers and the plain text."""
        lines = [f"{name}: {message[name]}" for name in ("To", "Subject", "Message-ID")]
        text = message.get_body(("plain",))
        body = "" if text is None else text.get_content()
        sys.stdout.write("\n".join(["-- mail --", *lines, "", body, "-- end --", ""]))
        sys.stdout.flush()

    async def check(self) -> str:
        """Always succeeds."""
        return "printed on standard output"
