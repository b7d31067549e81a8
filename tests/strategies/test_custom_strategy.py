"""Custom strategies, defined in this module and named in the settings.

The code above the line is what a third party would write: one module, without changes to authapi.
The tests below check that these strategies work like the built-in ones.
"""

import string
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from authapi import (
    AuthAPI,
    Challenge,
    Identity,
    Issued,
    Revocable,
    Settings,
    Strategy,
    User,
    create_app,
    current_user,
)
from authapi.crypto.secrets import hash_secret, is_opaque_token, new_opaque_token, new_secret
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential
from authapi.services import Lifetime, Login
from authapi.testing import PASSWORD, Client, client
from authapi.testing.strategy_contract import RevocableContract, StrategyContract
from authapi.testing.strategy_harness import Credential, Harness, Headers, statements
from tests.conftest import SettingsFactory
from tests.strategies.on_each_database import OnEachDatabase
from tests.web.responses import BEARER


class ApiKey(Strategy[str]):
    """A personal access token in its own header, for clients that cannot set Authorization."""

    name = "api_key"

    def read(self, connection: HTTPConnection) -> str | None:
        keys = connection.headers.getlist("x-api-key")
        if len(keys) > 1:
            raise InvalidCredential
        return keys[0] if keys else None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if not is_opaque_token(credential):
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential), SessionKind.TOKEN, strategy=self.name
        )
        if identity is None:
            raise InvalidCredential
        return identity

    def challenge(self) -> Challenge:
        return Challenge("ApiKey", {"realm": 'a "quoted" \\ realm'})

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-API-Key"}


class Ticket(Revocable[str]):
    """A secret with its own scheme, which a login issues and a logout ends."""

    name = "ticket"

    def read(self, connection: HTTPConnection) -> str | None:
        scheme, _, ticket = connection.headers.get("authorization", "").partition(" ")
        return ticket if scheme.lower() == "ticket" else None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        allowed = {*string.ascii_letters, *string.digits, *"-_"}
        if len(credential) != 50 or not set(credential) <= allowed:
            raise InvalidCredential
        identity = await self.services.sessions.identify_by_secret(
            hash_secret(credential), SessionKind.TOKEN, strategy=self.name
        )
        if identity is None:
            raise InvalidCredential
        return identity

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        ticket = "ticket-" + new_secret()
        session = await self.services.sessions.create(
            login,
            SessionKind.TOKEN,
            lifetime=Lifetime(self.services.settings.token_lifetime),
            secret=hash_secret(ticket),
        )
        return Issued(session.id, session.expires_at, {"ticket": ticket})

    def challenge(self) -> Challenge:
        return Challenge("Ticket")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "Authorization"}


# -----------------------------------------------------------------------------------------------

HERE = "tests.strategies.test_custom_strategy"


class TestApiKey(OnEachDatabase, StrategyContract):
    spec = f"{HERE}:ApiKey"
    amr = ()

    async def obtain(self, harness: Harness, user: User) -> Credential:
        owner = await harness.cookie(user)
        made = await harness.request("POST", "/me/tokens", owner, json={"name": "a key"})
        assert (await harness.request("POST", "/logout", owner)).status_code == 204
        key = str(made.json()["access_token"])
        return Credential({"X-API-Key": key}, key)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {
            "empty": {"X-API-Key": ""},
            "typo": {"X-API-Key": good.secret[:-1] + ("A" if good.secret[-1] != "A" else "Q")},
            "of another kind": {"X-API-Key": new_secret()},
        }

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"made up": {"X-API-Key": new_opaque_token()}}


class TestTicket(OnEachDatabase, RevocableContract):
    spec = f"{HERE}:Ticket"

    def issued_credential(self, response: httpx.Response) -> Credential:
        ticket = response.json()["ticket"]
        return Credential({"Authorization": f"Ticket {ticket}"}, ticket)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {
            "empty": {"Authorization": "Ticket"},
            "cut": {"Authorization": f"Ticket {good.secret[:-1]}"},
            "longer": {"Authorization": f"ticket {good.secret}A"},
        }

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"made up": {"Authorization": f"Ticket ticket-{new_secret()}"}}


@pytest.fixture
def settings(make_settings: SettingsFactory) -> Settings:
    """Settings with custom strategies and built-in ones; the first custom one is the default."""
    names = (f"{HERE}:Ticket", "session", f"{HERE}:ApiKey", "jwt")
    return make_settings(strategies=names, default_strategy="ticket")


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Client]:
    """The shipped app with these strategies."""
    async with client(create_app(settings)) as found:
        yield found


async def test_authapi_routes_accept_custom_strategies(api: Client, settings: Settings) -> None:
    document = create_app(settings).openapi()
    assert document["components"]["securitySchemes"].keys() == {
        "ticket",
        "session",
        "api_key",
        "jwt",
    }
    security = {
        path: document["paths"][path][method]["security"]
        for path, method in (("/me", "get"), ("/logout", "post"), ("/me/sessions", "get"))
    }
    assert security == {
        "/me": [{"ticket": []}, {"api_key": []}, {"jwt": []}, {"session": []}],
        "/logout": [{"ticket": []}, {"jwt": []}, {"session": []}],
        "/me/sessions": [{"jwt": []}, {"session": []}],
    }
    challenges = (await api.get("/me")).headers.get_list("www-authenticate")
    assert challenges == [
        "Ticket",
        'ApiKey realm="a \\"quoted\\" \\\\ realm"',
        BEARER,
        'Cookie realm="authapi", cookie-name="authapi"',
    ]


async def test_login_uses_it_by_name_or_by_default(api: Client) -> None:
    alice = await api.create_user()
    body = {"email": alice.email, "password": PASSWORD}
    for choice in ({"strategy": "ticket"}, {}):
        answer = await api.post("/login", json={**body, **choice})
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"user", "strategy", "expires_at", "ticket"}
        headers = {"Authorization": f"Ticket {answer.json()['ticket']}"}
        seen = (await api.get("/me/identity", headers=headers)).json()
        assert (seen["strategy"], seen["user_id"]) == ("ticket", str(alice.id))
        assert (await api.post("/logout", headers=headers)).status_code == 204
        assert (await api.get("/me/identity", headers=headers)).status_code == 401


async def test_login_refuses_a_strategy_that_issues_nothing(api: Client) -> None:
    alice = await api.create_user()
    body = {"email": alice.email, "password": PASSWORD, "strategy": "api_key"}
    answer = await api.post("/login", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"] == "must be one of ticket, session, jwt"


async def test_current_user_accepts_its_name(settings: Settings) -> None:
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/by-ticket")
    async def by_ticket(user: Annotated[User, Depends(current_user("ticket"))]) -> str:
        return user.email

    @app.get("/by-either")
    def by_either(user: Annotated[User, Depends(current_user("api_key", "ticket"))]) -> str:
        return user.email

    paths = app.openapi()["paths"]
    assert paths["/by-ticket"]["get"]["security"] == [{"ticket": []}]
    assert paths["/by-either"]["get"]["security"] == [{"api_key": []}, {"ticket": []}]
    async with client(app) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD}
        ticket = (await api.post("/login", json=body)).json()["ticket"]
        headers = {"Authorization": f"Ticket {ticket}"}
        for path in ("/by-ticket", "/by-either"):
            with statements(api) as seen:
                assert (await api.get(path, headers=headers)).json() == alice.email
            assert len(seen) == 1
        await api.login(alice)
        assert (await api.get("/by-ticket")).status_code == 401, "a cookie is not a ticket"
        bad = {"Authorization": "Ticket no"}
        assert (await api.get("/me", headers=bad)).status_code == 401, (
            "and it does not replace the header"
        )


async def test_optional_gate_refuses_an_invalid_header(settings: Settings) -> None:
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/lax")
    async def lax(user: Annotated[User | None, Depends(current_user(optional=True))]) -> str | None:
        return None if user is None else user.email

    async with client(app) as api:
        alice = await api.create_user()
        assert (await api.get("/lax")).json() is None
        await api.login(alice)
        assert (await api.get("/lax")).json() == alice.email
        for bad in ({"X-API-Key": "no"}, {"X-API-Key": new_opaque_token()}):
            assert (await api.get("/lax", headers=bad)).status_code == 401
