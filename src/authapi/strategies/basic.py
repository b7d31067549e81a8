"""Way 1: the account's address and password in every request (RFC 7617). Weak, and off by default.

The password travels each time, is hashed each time, and there is nothing to log out of: whoever
reads one request has the account. It is here for scripts on trusted networks that can do no better;
switch it on by naming `basic` in `AUTHAPI_STRATEGIES`.
"""

import base64
import binascii
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from authapi.crypto.password_text import is_too_long
from authapi.errors import InvalidCredential, InvalidCredentials, InvalidInput
from authapi.identity import Identity
from authapi.services.addresses import parse_email
from authapi.services.scopes import scopes_of_login
from authapi.strategies.base import REALM, Challenge, Strategy, authorization


class BasicStrategy(Strategy):
    """HTTP Basic, in UTF-8."""

    name = "basic"
    kept_by_browsers = True

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        header = authorization(connection)
        if header is None or header.scheme != "basic":
            return None
        try:
            address, password = _decode(header.credential)
            login = await self.services.accounts.prove(
                parse_email(address), password, strategy=self.name
            )
        except (ValueError, InvalidInput, InvalidCredentials):
            raise InvalidCredential from None
        await self.services.audit.login_without_session(login.user.id, self.name)
        return Identity(
            user=login.user,
            strategy=self.name,
            session_id=None,
            scopes=scopes_of_login(login.user, self.services.settings),
            auth_time=login.auth_time,
            amr=login.amr,
            expires_at=None,
        )

    def challenge(self) -> Challenge:
        return Challenge("Basic", {"realm": REALM, "charset": "UTF-8"})

    def openapi(self) -> Mapping[str, object]:
        return {
            "type": "http",
            "scheme": "basic",
            "description": "E-mail address and password with every request. Prefer any other.",
        }


def _decode(credential: str) -> tuple[str, str]:
    """Address and password. Raises ValueError for anything that is not exactly RFC 7617."""
    try:
        raw = base64.b64decode(credential, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    address, colon, password = raw.decode("utf-8").partition(":")
    if not colon or "\0" in address + password or not password or is_too_long(password):
        raise ValueError("no credentials")
    return address, password
