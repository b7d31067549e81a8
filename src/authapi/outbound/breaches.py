"""Checks passwords against the Pwned Passwords range API (k-anonymity; OWASP ASVS 6.2.12).

The request contains the first five hexadecimal digits of the SHA-1 of the password. The response
lists the suffixes of several hundred hashes, so the API does not learn the password. The check is
off unless `breached_passwords_url` is set. A client library would send its requests past the limits
of `http_client`.
"""

import hashlib
from datetime import timedelta

from authapi.outbound.http_client import ConnectionLost, HTTPClient, RequestFailed
from authapi.settings import Settings

_PREFIX_LENGTH = 5
_TIMEOUT = 1.0
"""Seconds."""
_MAX_BYTES = 1 << 20


class PwnedPasswordsCheck:
    """Queries the range API at `url`. Connections are kept open until `close`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = HTTPClient(
            timeout=timedelta(seconds=_TIMEOUT), max_bytes=_MAX_BYTES, accept="*/*"
        )

    async def __call__(self, password: str) -> bool:
        """Whether `password` is known from a data breach.

        Raises OSError if the API does not answer with a valid response.
        """
        # The API requires SHA-1; the check does not depend on its strength.
        data = password.encode("utf-8", "surrogatepass")
        digest = hashlib.sha1(data, usedforsecurity=False).hexdigest().upper()
        prefix, suffix = digest[:_PREFIX_LENGTH], digest[_PREFIX_LENGTH:]
        may_reuse_connection = self._client.may_have_connections
        try:
            try:
                lines = await self._fetch_range(prefix)
            except ConnectionLost:
                if not may_reuse_connection:
                    raise
                # The API may have closed a kept connection at the moment of the request.
                lines = await self._fetch_range(prefix)
        except RequestFailed as error:
            raise OSError("no answer from the range API") from error
        return any(_matches(line, suffix) for line in lines)

    async def close(self) -> None:
        """Closes the connections. Later calls open new ones."""
        await self._client.close()

    async def _fetch_range(self, prefix: str) -> list[str]:
        # With padding, the length of the response does not reveal the range.
        response = await self._client.get(self._url + prefix, headers={"Add-Padding": "true"})
        if not 200 <= response.status < 300:
            raise RequestFailed(f"status {response.status}")
        return response.body.decode("ascii", "replace").splitlines()


def build_breach_check(settings: Settings) -> PwnedPasswordsCheck | None:
    """The breach check, or None if `breached_passwords_url` is not set."""
    url = settings.breached_passwords_url
    return None if url is None else PwnedPasswordsCheck(url)


def _matches(line: str, suffix: str) -> bool:
    # Padding lines have the count 0.
    candidate, _, count = line.partition(":")
    return candidate.strip().upper() == suffix and count.strip() != "0"
