"""`ResourceServer`: settings, routes, lifespan, and several issuers in one application."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import HTTPConnection

from authapi import Challenge, Identity, Strategy, User, current_identity, current_user
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.errors import ConfigurationError, InvalidCredential
from authapi.services.accounts.users import new_user
from authapi.settings import load_edge_settings
from authapi.testing import acting_as, client
from authapi.verify import EdgeSettings, RemoteIntrospection, RemoteJWT, ResourceServer
from tests.verify.conftest import Clock, Open, application, bearer, open_app
from tests.verify.issuer import AUDIENCE, INTROSPECT, JWKS, SUBJECT, Issuer, Reply
from tests.web.responses import BEARER

AUTH = "https://auth.example"


async def test_testing_helpers_work_with_a_resource_server() -> None:
    app = application(RemoteJWT("http://127.0.0.1:9", AUDIENCE))
    async with client(app) as api:
        alice = await api.create_user(name="Alice")
        with acting_as(alice, scopes={"orders:read"}, claims={"tenant": "t1"}):
            assert (await api.get("/orders")).json() == str(alice.id)
            assert (await api.get("/fresh")).status_code == 200
            assert (await api.get("/staff")).status_code == 403
            assert (await api.get("/who")).json()["claims"] == ["tenant"]
        with acting_as(await api.create_user(is_superuser=True)):
            assert (await api.get("/orders")).status_code == 403
            assert (await api.get("/staff")).status_code == 200
        assert (await api.get("/orders")).status_code == 401
        with pytest.raises(RuntimeError, match="is a resource server"):
            _ = api.services


async def test_middleware_and_built_in_routes_are_installed(issuer: Issuer, trusting: Open) -> None:
    async with trusting() as api:
        assert (await api.get("/health/live")).json() == {"status": "ok"}
        assert (await api.get("/health/ready")).status_code == 404
        assert (await api.get("/login")).status_code == 404
        page = (await api.get("/docs")).text
        assert "swagger" in page
        assert 'data-host="" hidden' in page  # it has no passkeys
        answer = await api.get("/orders", headers={"Authorization": "Bearer " + "x" * 9000})
        assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
        assert "x-content-type-options" not in answer.headers
        live = await api.get("/health/live")
        assert live.headers["x-content-type-options"] == "nosniff"
        twice = [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
        assert (await api.get("/orders", headers=twice)).json()["code"] == "duplicate_header"
        document = (await api.get("/openapi.json")).json()
    assert "/health/live" in document["paths"]
    assert document["paths"]["/orders"]["get"]["security"] == [{"jwt": ["orders:read"]}]
    assert "403" not in document["paths"]["/health/live"]["get"]["responses"]


async def test_units_are_selected_by_name() -> None:
    auth, app = ResourceServer(RemoteJWT(AUTH, AUDIENCE)), FastAPI(docs_url=None)
    with pytest.raises(ConfigurationError, match="the units are health, well_known, docs"):
        auth.install(app, include=["login"])
    auth.install(app, include=[])
    assert "/health/live" not in app.openapi()["paths"]


async def test_production_needs_neither_secret_nor_database(
    monkeypatch: pytest.MonkeyPatch, issuer: Issuer
) -> None:
    monkeypatch.setenv("AUTHAPI_ENV", "production")
    with pytest.raises(ConfigurationError, match=r"AUTHAPI_PUBLIC_URL$"):
        load_edge_settings()
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", "http://orders.example")
    with pytest.raises(ConfigurationError, match="https"):
        load_edge_settings()
    monkeypatch.setenv("AUTHAPI_PUBLIC_URL", "https://orders.example")
    async with open_app(RemoteJWT(issuer.url, AUDIENCE)) as api:
        answer, own = await api.get("/orders"), await api.get("/health/live")
    assert answer.status_code == 401
    assert "strict-transport-security" not in answer.headers
    assert "strict-transport-security" in own.headers


async def test_cors_allows_a_configured_origin(issuer: Issuer) -> None:
    settings = EdgeSettings(allowed_origins=("https://shop.example",))
    async with open_app(RemoteJWT(issuer.url, AUDIENCE), settings=settings) as api:
        origin = {"Origin": "https://shop.example"}
        answer = await api.get("/orders", headers=origin)
        own = await api.get("/health/live", headers=origin)
    assert "access-control-allow-origin" not in answer.headers  # the application decides
    assert own.headers["access-control-allow-origin"] == "https://shop.example"


async def test_unknown_strategy_of_a_route_fails_the_start() -> None:
    auth = ResourceServer(RemoteJWT("http://127.0.0.1:9", AUDIENCE))
    app, mounted = FastAPI(lifespan=auth.lifespan), FastAPI()
    auth.install(app)
    app.mount("/below", mounted)

    @mounted.get("/x")
    async def x(user: Annotated[User, Depends(current_user("session"))]) -> None: ...

    with pytest.raises(ConfigurationError, match="GET /below/x: unknown strategy 'session'"):
        async with client(app):
            pass


async def test_scopes_of_the_issuer_need_no_setting(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_app(RemoteJWT(issuer.url, AUDIENCE)):
        pass
    assert "AUTHAPI_SCOPES" not in caplog.text
    settings = EdgeSettings(scopes={"orders:write": "Write"})
    async with open_app(RemoteJWT(issuer.url, AUDIENCE), settings=settings):
        pass
    assert "requires scope 'orders:read'" in caplog.text


def test_server_without_strategies_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="needs at least one strategy"):
        ResourceServer()
    with pytest.raises(ConfigurationError, match="two strategies"):
        ResourceServer(RemoteJWT(AUTH, "a"), RemoteJWT(AUTH, "b"))


def test_only_one_issuer_may_provide_user_ids() -> None:
    a, b = RemoteJWT(AUTH, "a"), RemoteJWT("https://other.example", "a", name="other")
    unnamed = RemoteIntrospection(AUTH + "/i", "credential")
    same = RemoteIntrospection(AUTH + "/i", "credential", issuer=AUTH)
    derived = RemoteJWT("https://other.example", "a", name="other", subjects_are_ids=False)
    again = RemoteIntrospection(AUTH + "/i", "credential", name="again")
    for together in ((a, b), (a, unnamed), (unnamed, again)):
        with pytest.raises(ConfigurationError, match="only one issuer may provide user ids"):
            ResourceServer(*together)
    ResourceServer(a, same, derived)


async def test_two_issuers_in_one_application(issuer: Issuer, clock: Clock) -> None:
    with Issuer() as partner:
        ours = RemoteJWT(issuer.url, AUDIENCE)
        theirs = RemoteJWT(partner.url, AUDIENCE, name="partner", subjects_are_ids=False)
        app = application(ours, theirs)

        @app.get("/partner")
        async def by_name(
            identity: Annotated[Identity, Depends(current_identity("partner"))],
        ) -> str:
            return identity.strategy

        @app.get("/jwt")
        async def by_other(identity: Annotated[Identity, Depends(current_identity("jwt"))]) -> str:
            return identity.strategy

        async with client(app) as api:

            async def strategy_of(token: str, path: str = "/who") -> str | int:
                answer = await api.get(path, headers=bearer(token))
                return str(answer.json()["strategy"]) if answer.is_success else answer.status_code

            mine, foreign = issuer.token(), partner.token()
            for _ in range(2):
                assert await strategy_of(mine) == "jwt"
                assert await strategy_of(foreign) == "partner"
            assert (await api.get("/partner", headers=bearer(foreign))).json() == "partner"
            assert (await api.get("/partner", headers=bearer(mine))).status_code == 401
            assert (await api.get("/jwt", headers=bearer(foreign))).status_code == 401
            users = {
                (await api.get("/who", headers=bearer(token))).json()["user_id"]
                for token in (mine, foreign)
            }
            assert len(users) == 2, "the same subject, and not the same person"
            # Neither issuer can sign for the other, and a token of neither is rejected.
            for bad in (
                issuer.token(iss=partner.url),
                partner.token(iss=issuer.url),
                partner.token(header={"kid": issuer.key.verifying.kid}),
                issuer.token(header={"kid": "made up"}),
                issuer.token(aud="other"),
                "x.y.z",
            ):
                assert await strategy_of(bad) == 401
                assert await strategy_of(bad, "/maybe") == 401
            issuer.away()
            clock.move(30)
            assert await strategy_of(partner.token()) == "partner", (
                "the other issuer is unavailable"
            )
            assert await strategy_of(partner.token(header={"kid": "new"})) == 503


class Cookie(Strategy[str]):
    """A strategy for a cookie of another service."""

    name = "cookie"
    ambient = True

    def __init__(self) -> None:
        """Without services."""

    def read(self, connection: HTTPConnection) -> str | None:
        return connection.cookies.get("theirs")

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if credential != "good":
            raise InvalidCredential
        moment = now()
        return Identity(
            user=new_user(parse_email("alice@example.com"), name=None),
            strategy=self.name,
            session_id=None,
            scopes=frozenset(),
            auth_time=moment,
            amr=(),
            expires_at=None,
        )

    def challenge(self) -> Challenge:
        return Challenge("Cookie")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "cookie", "name": "theirs"}


async def test_bad_authorization_header_is_not_replaced_by_a_cookie(
    issuer: Issuer, clock: Clock
) -> None:
    async with open_app(RemoteJWT(issuer.url, AUDIENCE), Cookie()) as api:
        cookie = {"Cookie": "theirs=good"}
        assert (await api.get("/who", headers=cookie)).json()["strategy"] == "cookie"
        for value in (
            "",
            "x",
            "Bearer",
            "Bearer x",
            "Bearer\tx",
            "Token x",
            "DPoP a",
            "Basic a, b",
        ):
            for path in ("/who", "/maybe"):
                headers = {**cookie, "Authorization": value}
                answer = await api.get(path, headers=headers)
                assert answer.status_code == 401, (path, value)
                told = ", ".join(answer.headers.get_list("www-authenticate"))
                assert ("error=" in told) is value.startswith("Bearer"), value
        for value in ("Basic YTpi", "Digest username=x", "Negotiate YII", "NTLM TlRM"):
            headers = {**cookie, "Authorization": value}
            assert (await api.get("/who", headers=headers)).json()["strategy"] == "cookie"
            assert (await api.get("/maybe", headers=headers)).json() is True
        for value in ("Token x", "DPoP a"):
            assert (await api.get("/maybe", headers={"Authorization": value})).status_code == 401


async def test_jwts_and_opaque_tokens_in_one_application(issuer: Issuer, clock: Clock) -> None:
    issuer.replies[INTROSPECT] = Reply({"active": True, "sub": SUBJECT, "iss": issuer.url})
    both = (
        RemoteJWT(issuer.url, AUDIENCE),
        RemoteIntrospection(issuer.url + INTROSPECT, "credential", issuer=issuer.url),
    )
    async with open_app(*both) as api:
        by_jwt = (await api.get("/who", headers=bearer(issuer.token()))).json()
        by_token = (await api.get("/who", headers=bearer("opaque"))).json()
        assert (by_jwt["strategy"], by_token["strategy"]) == ("jwt", "token")
        assert by_jwt["user_id"] == by_token["user_id"]
        assert issuer.asked[INTROSPECT] == 1
        assert issuer.asked[JWKS] == 1
        refused = await api.get("/who")
        assert refused.headers.get_list("www-authenticate") == [BEARER]


class Opening(Strategy[str]):
    """Records calls of `start` and `stop`."""

    name = "opening"

    def __init__(self, seen: list[str], *, fails: bool = False) -> None:
        self.seen = seen
        self.fails = fails

    async def start(self) -> None:
        self.seen.append("start")
        if self.fails:
            raise ConfigurationError("cannot open")

    async def stop(self) -> None:
        self.seen.append("stop")

    def read(self, connection: HTTPConnection) -> str | None:
        return None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        raise AssertionError("`read` finds no credential, so there is none to authenticate")

    def challenge(self) -> Challenge:
        return Challenge("Opening")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "http", "scheme": "opening"}


async def test_lifespan_starts_and_stops_strategies() -> None:
    seen: list[str] = []
    async with open_app(Opening(seen)) as api:
        assert (await api.get("/health/live")).status_code == 200
        assert seen == ["start"]
    assert seen == ["start", "stop"]
    with pytest.raises(ConfigurationError, match="cannot open"):
        async with open_app(Opening(seen, fails=True)):
            pass
    assert seen == ["start", "stop", "start", "stop"], "what began to open is closed"


def test_import_does_not_import_httpx() -> None:
    code = (
        "import sys, authapi; assert 'authapi.verify' not in sys.modules;"
        "import authapi.verify; assert 'httpx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
