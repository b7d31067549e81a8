"""Mail onto standard output, for development: links can be clicked where the server runs."""

import sys
from email.message import EmailMessage


class Console:
    """Prints mail."""

    def open(self) -> None:
        """Nothing is needed."""

    async def send(self, message: EmailMessage) -> None:
        """Print the headers that people read, and the text."""
        lines = [f"{name}: {message[name]}" for name in ("To", "Subject", "Message-ID")]
        text = message.get_body(("plain",))
        body = "" if text is None else text.get_content()
        sys.stdout.write("\n".join(["-- mail --", *lines, "", body, "-- end --", ""]))
        sys.stdout.flush()

    async def check(self) -> str:
        """It is always there."""
        return "printed on standard output"
