"""Credentials for tests that are not about login; no password is verified."""

from collections.abc import Mapping
from http.cookies import SimpleCookie

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.user import User
from authapi.services import Login, Services
from authapi.strategies.base import Issuer
from authapi.strategies.jwt import JWTStrategy
from authapi.strategies.session import SessionStrategy
from authapi.strategies.token import TokenStrategy

ISSUERS: Mapping[str, type[Issuer[str]]] = {
    "session": SessionStrategy,
    "token": TokenStrategy,
    "jwt": JWTStrategy,
}
STRATEGIES = tuple(ISSUERS)

Headers = dict[str, str]

_CLIENT = Client(ip="127.0.0.1")


async def sign_in(
    services: Services, user: User, strategy: str = "session", *, client: Client = _CLIENT
) -> Headers:
    """Returns the request headers with a credential of a new login from `client`."""
    async with services.database.read() as store:
        found = await store.users.find_credentials(user.id)
    assert found
    assert found[1], "this user has no password"
    connection = HTTPConnection({"type": "http", "headers": [], "client": ("127.0.0.1", 1)})
    login = Login(user=found.user, credentials_version=found.version, auth_time=now(), amr=("pwd",))
    with on_behalf_of(lambda: client):
        issued = await ISSUERS[strategy](services).issue(login, connection)
    if strategy == "session":
        [(_, header)] = issued.headers
        [cookie] = SimpleCookie(header).values()
        return {"cookie": f"{cookie.key}={cookie.value}"}
    return {"authorization": f"Bearer {issued.body['access_token']}"}
