"""Asks a k-anonymity range API whether a password is known from a breach (OWASP ASVS 6.2.12).

Five digits of the password's SHA-1 leave this machine, and some hundred candidates come back; which
of them was meant stays here. Off unless `breached_passwords_url` is set.
"""

import hashlib

import httpx

from authapi.services.passwords import BreachCheck
from authapi.settings import Settings

_PREFIX = 5
_TIMEOUT = 1.0
_MAX_BYTES = 1 << 20


def range_check(settings: Settings) -> BreachCheck | None:
    """The check that the settings ask for, or None."""
    url = settings.breached_passwords_url
    if url is None:
        return None

    async def is_breached(password: str) -> bool:
        # The API is keyed by SHA-1; nothing rests on its strength here.
        data = password.encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()
        try:
            lines = await _range(url + digest[:_PREFIX])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise OSError("no answer from the range API") from error
        return any(_names(line, digest[_PREFIX:]) for line in lines)

    return is_breached


async def _range(url: str) -> list[str]:
    # Padding keeps the length of the answer from telling which range was asked for.
    async with (
        httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as http,
        http.stream("GET", url, headers={"Add-Padding": "true"}) as response,
    ):
        response.raise_for_status()
        body = b""
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise OSError("the answer of the range API is too long")
    return body.decode("ascii", "replace").splitlines()


def _names(line: str, suffix: str) -> bool:
    found, _, count = line.partition(":")
    return found.strip().upper() == suffix and count.strip() != "0"
