"""HTTP Basic: the name and password of the account in every request (RFC 7617).

The name is the e-mail address or the user name, as the setting `login_identifier` says.

This is the weakest strategy, and off by default. Every request carries the password and costs a
password hash, and a client cannot log out. An attacker who reads one request has the account. Use
it only for scripts on trusted networks that support nothing else: add `basic` to
`AUTHAPI_STRATEGIES`.
"""

import base64
import binascii
from collections.abc import Mapping

from starlette.requests import HTTPConnection, Request

from authapi.crypto.password_normalization import is_too_long
from authapi.domain.identity import Identity
from authapi.domain.scopes import effective_scopes
from authapi.domain.username import parse_login_name
from authapi.errors import InvalidCredential, InvalidCredentials, InvalidInput
from authapi.strategies.base import REALM, Challenge, Strategy, read_authorization


class BasicStrategy(Strategy[str]):
    """Authenticates requests by HTTP Basic, in UTF-8.

    `authenticate` raises InvalidCredential, TooManyAttempts if a rate limit is reached, and
    Overloaded if the queue of password hashes is full.
    """

    name = "basic"
    kept_by_browsers = True

    def read(self, connection: HTTPConnection) -> str | None:
        header = read_authorization(connection)
        return header.credential if header is not None and header.scheme == "basic" else None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        try:
            name, password = _decode_credentials(credential)
            settings = self.services.settings
            login_name = parse_login_name(
                name,
                settings.login_identifier,
                allow_reserved=settings.allow_reserved_addresses,
            )
        except (ValueError, InvalidInput):
            raise InvalidCredential from None
        try:
            proved = await self.services.accounts.authentication.authenticate(
                login_name, password, strategy=self.name, request=_as_request(connection)
            )
            login = self.services.logins.complete_at_once(proved)
        except InvalidCredentials:
            raise InvalidCredential from None
        own = await self.services.hooks.own_scopes(login.user)
        await self.services.audit.record_login_without_session(login.user.id, self.name)
        return Identity(
            user=login.user,
            strategy=self.name,
            session_id=None,
            scopes=effective_scopes(None, login.user, self.services.settings, own, amr=login.amr),
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
            "description": "Name and password in every request. Prefer another scheme.",
        }


def _as_request(connection: HTTPConnection) -> Request:
    """Returns the request for hooks. A WebSocket handshake is a GET request (RFC 6455, 4.1)."""
    return Request(
        {**connection.scope, "type": "http", "method": "GET"}
        if connection.scope["type"] == "websocket"
        else connection.scope
    )


def _decode_credentials(credential: str) -> tuple[str, str]:
    """Returns name and password. Raises ValueError unless `credential` follows RFC 7617."""
    try:
        raw = base64.b64decode(credential, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None
    name, colon, password = raw.decode("utf-8").partition(":")
    if not colon or "\0" in name + password or not password or is_too_long(password):
        raise ValueError("invalid credentials")
    return name, password
