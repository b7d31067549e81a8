"""Parts of URLs, as the settings allow them."""

from urllib.parse import SplitResult, urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Hosts that plain http reaches without a network."""


def split_url(text: str) -> SplitResult | None:
    """Returns the parts of a URL; None if it cannot be one, also because its port is impossible.

    `urlsplit` reads the port only when it is asked for.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


def is_secure(parts: SplitResult) -> bool:
    """Whether the URL is https with a host and without a user, or http on this machine."""
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    is_https = parts.scheme == "https" and bool(parts.hostname)
    return (is_local or is_https) and "@" not in parts.netloc


def page_url_parts(text: str) -> SplitResult | None:
    """Returns the parts of a URL that pages and mails link to as it is; None for any other text."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    parts = split_url(text)
    return parts if parts is not None and is_secure(parts) else None
