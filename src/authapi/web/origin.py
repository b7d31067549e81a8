"""Whether a request comes from a page of another origin (RFC 6454).

Browsers set `Origin` and no page can change it. A client that is no browser sends none, and has no
cookie that another page could abuse.
"""

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from authapi.web.context import context_of


def is_foreign(connection: HTTPConnection) -> bool:
    """Whether `Origin` is there and names neither us nor an allowed origin."""
    origin = connection.headers.get("origin")
    if origin is None:
        return False
    settings = context_of(connection).runtime.settings
    if origin in settings.allowed_origins:
        return False
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        return origin != f"{parts.scheme}://{parts.netloc}"
    # Without a configured URL, in development, the page must come from the host that it talks to.
    try:
        return urlsplit(origin).netloc != connection.headers.get("host")
    except ValueError:  # such as `http://[`: no browser sends it
        return True
