"""An invalid Authorization header is refused, and a cookie does not replace it."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Challenge, Identity, Settings, Strategy, User, current_user
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.testing import PASSWORD, Client, client
from authapi.testing.strategy_harness import statements
from tests.conftest import SettingsFactory
from tests.strategies.test_basic import basic
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in
from tests.web.responses import BEARER, gate_problem, problem

INVALID = f'{BEARER}, error="invalid_token"'
COOKIE = 'Cookie realm="authapi", cookie-name="authapi"'

JWT = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"
BEARERS = ("Bearer", "bearer", "Bearer x", "BEARER  x", "Bearer\tx", f"Bearer\t{JWT}", "Bearer \tx")
OTHERS = (
    *("", "x", "Bearerx", "Bearer,x", "Token x", "DPoP abc", "dpop abc", "ApiKey x", "GNAP x"),
    *("Bearer:x", "Bearer=x", '"Bearer" x', "\tBearer x", "HOBA a=b", "Mutual a=b", "\u00e9"),
    *(JWT, new_opaque_token(), new_secret(), "aat_", "null", ",", "=", "Basic;x"),
)
NOT_ONE = (
    # The scheme of a proxy without exactly one well-formed credential.
    *("Basic", "Basic ", "Basic\tYTpi", "Basic YTpi, Bearer xyz", "Basic YTpi,Bearer xyz"),
    *(
        "Basic YTpi Bearer xyz",
        "Basic YTpi;Bearer",
        "Basic YTpi,",
        "Basic =",
        "Basic Y=T",
        "Basic \xe9",
    ),
    *("Basic realm=x y", 'Basic "YTpi"', "Basicx YTpi", "Negotiate", "Negotiate YII, Bearer x"),
    *("NTLM", "NTLM TlRM\tx", "Digest", "Digest username", "Digest username=x, Bearer xyz"),
    *('Digest username="x, Bearer y', "Digest username=x Bearer y", "Digest username=x,, Bearer"),
    *("Digest username= Bearer y", "Digest =x", 'Digest "username"=x', "Digest username=x;y=z"),
)
OF_PROXIES = (
    *("Basic YTpi", "basic YTpi", "BASIC   YTpi==", "Basic YWxpY2U6-._~+/=", "Negotiate YIIJvw=="),
    *("NTLM TlRMTVNTUAABAAAA", "ntlm TlRM", "Digest username=x", "digest  a=b,c=d", "Digest a = b"),
    'Digest username="a, b", realm="\\"x\\"", uri="/me?a=b", nc=00000001, response="6629"',
)


class Kerberos(Strategy[str]):
    """Uses a scheme that otherwise belongs to proxies; authenticates no request."""

    name = "kerberos"

    def read(self, connection: HTTPConnection) -> str | None:
        return None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        raise AssertionError("`read` finds no credential, so there is none to authenticate")

    def challenge(self) -> Challenge:
        return Challenge("Negotiate")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "http", "scheme": "negotiate"}


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Client]:
    """Runs an application with routes for all strategies and for the cookie only, also optional."""
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    for name, gate in (
        ("every", current_user()),
        ("lax", current_user(optional=True)),
        ("cookie", current_user("session")),
        ("lax-cookie", current_user("session", optional=True)),
    ):

        async def tell(user: Annotated[User | None, Depends(gate)]) -> str | None:
            return None if user is None else user.email

        app.get(f"/{name}")(tell)
    async with client(app) as api:
        yield api


PATHS = ("/every", "/lax", "/cookie", "/lax-cookie")


Headers = dict[str, str]


async def logged_in(api: Client) -> tuple[User, Headers]:
    """Returns an account and its cookie, which the identity cache has."""
    alice = await api.create_user()
    cookie = await sign_in(api.services, alice)
    for path in PATHS:
        assert (await api.get(path, headers=cookie)).json() == alice.email
    return alice, cookie


def with_header(value: str, headers: Mapping[str, str] | None = None) -> list[tuple[bytes, bytes]]:
    """Returns an Authorization header with exactly this value, and other headers."""
    others = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
    return [(b"authorization", value.encode("latin-1")), *others]


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    async with opened(make_settings()) as found:
        yield found


async def test_invalid_header_is_refused_beside_a_valid_cookie(api: Client) -> None:
    _, cookie = await logged_in(api)
    with statements(api) as seen:
        for value in (*BEARERS, *OTHERS, *NOT_ONE):
            for path in PATHS:
                answer = await api.get(path, headers=with_header(value, cookie))
                assert answer.status_code == 401, (path, value)
                gate_problem(answer, 401, "unauthenticated")
                challenges = answer.headers.get_list("www-authenticate")
                if "cookie" in path:
                    assert challenges == [COOKIE], (path, value)
                else:
                    bearer = INVALID if value in BEARERS else BEARER
                    assert challenges == [bearer, COOKIE], (path, value)
    assert len(seen) == 0, "the cookie is not even looked up"


async def test_valid_token_is_refused_by_cookie_only_routes(api: Client) -> None:
    alice, cookie = await logged_in(api)
    for strategy in ("token", "jwt"):
        token = await sign_in(api.services, alice, strategy)
        assert (await api.get("/every", headers=token | cookie)).json() == alice.email
        for path in ("/cookie", "/lax-cookie"):
            answer = await api.get(path, headers=token | cookie)
            gate_problem(answer, 401, "unauthenticated")
            assert answer.headers.get_list("www-authenticate") == [COOKIE]
        # The same on authapi's routes.
        for method in ("GET", "PATCH"):
            body = {"json": {"theme": "dark"}} if method == "PATCH" else {}
            answer = await api.request(method, "/me/session", headers=token | cookie, **body)  # type: ignore[arg-type]  # one or none
            problem(answer, 401, "unauthenticated")
            answer = await api.request(method, "/me/session", headers=cookie, **body)  # type: ignore[arg-type]  # the same
            assert answer.status_code == 200
        # The scheme and a space behind it are required.
        text = token["authorization"].removeprefix("Bearer ")
        for value in (text, f"Bearer\t{text}", f"Bearer{text}", f"Token {text}", f"DPoP {text}"):
            answer = await api.get("/every", headers=with_header(value, cookie))
            assert answer.status_code == 401, value


async def test_credential_for_a_proxy_is_ignored(api: Client) -> None:
    alice, cookie = await logged_in(api)
    for value in OF_PROXIES:
        for path in PATHS:
            answer = await api.get(path, headers=with_header(value, cookie))
            assert (answer.status_code, answer.json()) == (200, alice.email), (path, value)
            answer = await api.get(path, headers=with_header(value))
            if "lax" in path:
                assert (answer.status_code, answer.json()) == (200, None), (path, value)
            else:
                gate_problem(answer, 401, "unauthenticated")
                assert "error=" not in str(answer.headers.get_list("www-authenticate"))


async def test_invalid_header_is_refused_without_a_cookie(api: Client) -> None:
    for path in ("/lax", "/lax-cookie"):
        for value in (*BEARERS, *(value for value in OTHERS if value), *NOT_ONE):
            answer = await api.get(path, headers=with_header(value))
            assert answer.status_code == 401, (path, value)
        # Without a cookie, an empty value counts as an absent header.
        assert (await api.get(path, headers=with_header(""))).json() is None
        dead = {"Cookie": f"authapi={new_secret()}"}
        assert (await api.get(path, headers=dead)).json() is None
        assert (await api.get(path, headers=with_header("", dead))).status_code == 401
    assert (await api.get("/every", headers=with_header(""))).status_code == 401


async def test_scheme_of_a_configured_strategy_is_not_for_a_proxy(
    make_settings: SettingsFactory,
) -> None:
    for strategy, mine, theirs in (
        ("basic", "Basic YTpi", "Negotiate YII"),
        (f"{__name__}:Kerberos", "Negotiate YII", "Basic YTpi"),
    ):
        async with opened(make_settings(strategies=("session", "token", strategy))) as api:
            alice, cookie = await logged_in(api)
            for path in PATHS:
                answer = await api.get(path, headers=with_header(mine, cookie))
                gate_problem(answer, 401, "unauthenticated")
                answer = await api.get(path, headers=with_header(theirs, cookie))
                assert (answer.status_code, answer.json()) == (200, alice.email)
            if strategy == "basic":
                good = basic(alice.email)
                assert (await api.get("/every", headers=good)).json() == alice.email
                for path in ("/cookie", "/lax-cookie"):
                    answer = await api.get(path, headers={**good, **cookie})
                    gate_problem(answer, 401, "unauthenticated")
                answer = await api.post("/logout", headers={**good, **cookie})
                problem(answer, 401, "unauthenticated")
                assert (await api.get("/cookie", headers=cookie)).json() == alice.email


async def test_logout_with_an_invalid_header_ends_no_session(api: Client) -> None:
    alice, cookie = await logged_in(api)
    for value in ("Bearer\tx", "DPoP abc", "", "Token x"):
        answer = await api.post("/logout", headers=with_header(value, cookie))
        problem(answer, 401, "unauthenticated")
    assert (await api.get("/every", headers=cookie)).json() == alice.email
    answer = await api.post("/logout", headers=with_header("Basic YTpi", cookie))
    assert answer.status_code == 204


@pytest.mark.parametrize("value", ["", "Bearer x", "Bearer\tx", "DPoP abc", "Basic YTpi", JWT])
async def test_public_routes_accept_any_header(make_settings: SettingsFactory, value: str) -> None:
    async with client_with_mailbox(make_settings()) as api:
        alice = await api.create_user("alice@example.com")
        cookie = await sign_in(api.services, alice)
        headers = with_header(value, cookie)
        for path in (
            *("/health/live", "/health/ready", "/docs", "/openapi.json", "/.well-known/jwks.json"),
            *("/account/forgot", "/account/sign-in", "/account/page.css"),
        ):
            assert (await api.get(path, headers=headers)).status_code == 200, path
        body = {"email": alice.email, "password": PASSWORD}
        assert (await api.post("/login", json=body, headers=headers)).status_code == 200
        api.cookies.clear()
        forgot = await api.post("/account/forgot", data={"email": alice.email}, headers=headers)
        assert forgot.status_code == 303
        assert await mail_kinds(api.services) == ["reset"]
        form = {
            "token": await secret_in(api.services, "reset", alice.email),
            "new_password": "another horse, another battery",
        }
        done = await api.post("/account/reset", data=form, headers=headers)
        assert done.status_code == 303


@pytest.mark.parametrize("value", ["", "Bearer x", "DPoP abc"])
async def test_pages_ignore_the_cookie_beside_a_header(
    make_settings: SettingsFactory, value: str
) -> None:
    async with client_with_mailbox(make_settings()) as api:
        alice = await api.create_user("alice@example.com")
        cookie = await sign_in(api.services, alice)
        await api.post("/email/confirm/request", json={"email": alice.email})
        token = await secret_in(api.services, "confirm", alice.email)
        headers = with_header(value, cookie)
        form = {"token": token, "action": "go", "password": ""}
        asked = await api.post("/account/confirm", data=form, headers=headers)
        assert asked.status_code == 422, "it asks for the password"
        # An anonymous confirmation would reset the account: it is refused.
        answer = await api.post("/email/confirm", json={"token": token}, headers=headers)
        problem(answer, 401, "unauthenticated")
        answer = await api.post("/account/confirm", data=form, headers=cookie)
        assert answer.status_code == 303


@pytest.mark.parametrize("cookie_first", [True, False])
@pytest.mark.parametrize("included", [True, False])
async def test_two_gates_require_one_credential_each(
    make_settings: SettingsFactory, cookie_first: bool, included: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    gates = [Depends(current_user("session")), Depends(current_user("token"))]
    outer, inner = gates if cookie_first else gates[::-1]
    if included:
        router = APIRouter()
        router.get("/both", dependencies=[inner])(lambda: "in")
        router.get("/alone")(lambda: "in")
        app.include_router(router, dependencies=[outer])
    else:
        app.get("/both", dependencies=[outer, inner])(lambda: "in")
        app.get("/alone", dependencies=[outer])(lambda: "in")
    async with client(app) as api:
        alice = await api.create_user()
        cookie = await sign_in(api.services, alice)
        token = await sign_in(api.services, alice, "token")
        assert (await api.get("/both", headers=cookie | token)).json() == "in"
        assert (await api.get("/both", headers=cookie)).status_code == 401
        assert (await api.get("/both", headers=token)).status_code == 401
        for value in (*BEARERS, *OTHERS, *NOT_ONE, f"Bearer {new_opaque_token()}", f"Bearer {JWT}"):
            answer = await api.get("/both", headers=with_header(value, cookie))
            assert answer.status_code == 401, value
        # /alone has the outer gate only.
        expected = 401 if cookie_first else 200
        assert (await api.get("/alone", headers=cookie | token)).status_code == expected


async def test_gates_with_a_common_strategy_require_one_credential(
    make_settings: SettingsFactory,
) -> None:
    # Gates with a common strategy must authenticate the same caller.
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    for name, outer in (("strict", current_user()), ("lax", current_user(optional=True))):
        router = APIRouter(dependencies=[Depends(outer)])
        router.get(f"/{name}", dependencies=[Depends(current_user("session"))])(lambda: "in")
        app.include_router(router)
    async with client(app) as api:
        cookie = await sign_in(api.services, await api.create_user())
        token = await sign_in(api.services, await api.create_user(), "token")
        for path in ("/strict", "/lax"):
            assert (await api.get(path, headers=cookie)).json() == "in"
            assert (await api.get(path, headers=cookie | token)).status_code == 401


async def test_long_header_is_checked_in_linear_time(make_settings: SettingsFactory) -> None:
    async with opened(make_settings(max_credential_bytes=32768)) as api:
        _, cookie = await logged_in(api)
        for value in (
            "Basic " + "A" * 30000 + "!",
            "Digest " + "a=b," * 7000 + "!",
            "Digest a" + " " * 30000 + "!",
            'Digest a="' + "\\a" * 10000,
        ):
            began = time.process_time()
            answer = await api.get("/every", headers=with_header(value, cookie))
            assert (answer.status_code, time.process_time() - began < 0.5) == (401, True)
