"""`current_user` and `current_identity`: order of strategies, refusals, number of queries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import pytest
import time_machine
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Challenge, Identity, Settings, User, current_identity, current_user
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.domain.email_address import parse_email
from authapi.errors import (
    ConfigurationError,
    InvalidCredential,
    StorageUnavailable,
    UnrecognizedCredential,
)
from authapi.services.accounts.users import new_user
from authapi.strategies.base import Strategy, bearer_credential
from authapi.strategies.basic import BasicStrategy
from authapi.strategies.jwt import JWTStrategy
from authapi.strategies.session import SessionStrategy
from authapi.strategies.token import TokenStrategy
from authapi.testing import PASSWORD, Client, acting_as, client
from authapi.testing.strategy_harness import bearer_of, cookie_of, refusal, statements
from authapi.web.requirements import Gate
from tests.conftest import SettingsFactory
from tests.strategies.test_basic import basic
from tests.web.logins import sign_in
from tests.web.responses import BEARER

INVALID = f'{BEARER}, error="invalid_token"'
COOKIE = 'Cookie realm="authapi", cookie-name="authapi"'
BASIC = 'Basic realm="authapi", charset="UTF-8"'
ALL = ("session", "token", "jwt", "basic")

Headers = dict[str, str]


def own_app(settings: Settings, **gates: Gate[object]) -> FastAPI:
    """An importing application with a GET route for each gate, which returns the caller."""
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    for name, gate in gates.items():
        app.get(f"/{name}")(telling(gate))
    return app


def telling(gate: Gate[object]) -> Callable[..., str | None]:
    """Returns a handler behind `gate`, which returns strategy or address of the caller."""

    def handler(who: Annotated[object, Depends(gate)]) -> str | None:
        if isinstance(who, Identity):
            return who.strategy
        return who.email if isinstance(who, User) else None

    return handler


async def credentials(api: Client, user: User) -> dict[str, Headers]:
    """Returns headers with a valid credential of each built-in strategy."""
    body = {"email": user.email, "password": PASSWORD}
    found: dict[str, Headers] = {"basic": dict(basic(user.email))}
    for strategy, read in (("session", cookie_of), ("token", bearer_of), ("jwt", bearer_of)):
        answer = await api.post("/login", json={**body, "strategy": strategy})
        api.cookies.clear()
        found[strategy] = dict(read(answer).headers)
    return found


def challenges(response: httpx.Response) -> list[str]:
    """Returns the challenges of a refusal."""
    return response.headers.get_list("www-authenticate")


@asynccontextmanager
async def opened(settings: Settings, **gates: Gate[object]) -> AsyncIterator[Client]:
    """A client of `own_app`."""
    async with client(own_app(settings, **gates)) as api:
        yield api


# Which strategy decides ---------------------------------------------------------------------------


@pytest.mark.parametrize("order", [ALL, ALL[::-1], ("jwt", "session", "basic", "token")])
async def test_header_credentials_come_before_the_cookie(
    make_settings: SettingsFactory, order: tuple[str, ...]
) -> None:
    gates = {"given": current_identity(*order), "every": current_identity()}
    async with opened(make_settings(strategies=order), **gates) as api:
        alice, bob = await api.create_user(), await api.create_user()
        good = await credentials(api, alice)
        cookie = (await credentials(api, bob))["session"]
        # The first authentication of a day is recorded as a login.
        assert (await api.get("/given", headers=good["basic"])).json() == "basic"
        for path in ("/given", "/every"):
            assert (await api.get(path, headers=cookie)).json() == "session"
            for name in ("token", "jwt", "basic"):
                api.services.identity_cache.clear()
                with statements(api) as seen:
                    answer = await api.get(path, headers={**cookie, **good[name]})
                assert answer.json() == name
                assert len(seen) == 1, "the cookie is not even looked up"


async def test_cached_cookie_does_not_replace_another_credential(
    make_settings: SettingsFactory,
) -> None:
    async with opened(make_settings(), every=current_identity()) as api:
        cookie = (await credentials(api, await api.create_user()))["session"]
        for _ in range(2):  # not cached, then cached
            assert (await api.get("/every", headers=cookie)).status_code == 200
        with statements(api) as seen:
            for wrong in ("Bearer a.b.c", "Bearer aat_nobody", "Bearer nothing", "bearer"):
                headers = {**cookie, "Authorization": wrong}
                assert (await api.get("/every", headers=headers)).status_code == 401, wrong
            foreign = {**cookie, "Sec-Fetch-Dest": "script"}
            assert (await api.get("/every", headers=foreign)).status_code == 403
            doubled = {"Cookie": f"{cookie['Cookie']}; {cookie['Cookie']}"}
            assert (await api.get("/every", headers=doubled)).status_code == 401
            assert (await api.get("/every", headers=cookie)).status_code == 200
        assert len(seen) == 0


@pytest.mark.parametrize("first", ["jwt", "api_key"])
async def test_order_of_strategies_decides_among_header_credentials(
    make_settings: SettingsFactory, first: str
) -> None:
    foreign = "tests.strategies.test_custom_strategy:ApiKey"
    second = {"jwt": "api_key", "api_key": "jwt"}[first]
    settings = make_settings(strategies=("session", "jwt", foreign))
    async with opened(settings, either=current_identity(first, second)) as api:
        alice = await api.create_user()
        await api.login(alice)
        key = (await api.post("/me/tokens", json={"name": "key"})).json()["access_token"]
        await api.login(alice, strategy="jwt")
        assert (await api.get("/either", headers={"X-API-Key": key})).json() == first
        assert (await api.get("/either")).json() == "jwt"


class Even(Strategy[str]):
    """Reads every bearer token, and recognizes those of even length."""

    name = "even"
    rest = 0

    def read(self, connection: HTTPConnection) -> str | None:
        return bearer_credential(connection)

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        if len(credential) % 2 != self.rest:
            raise UnrecognizedCredential
        if not credential.startswith("good"):
            raise InvalidCredential
        moment = datetime.now(UTC)
        return Identity(
            user=new_user(parse_email("alice@example.com"), name=None),
            strategy=self.name,
            session_id=None,
            scopes=frozenset(),
            auth_time=moment,
            amr=("pwd",),
            expires_at=None,
        )

    def challenge(self) -> Challenge:
        return Challenge("Bearer", {"realm": "authapi"})

    def openapi(self) -> Mapping[str, object]:
        return {"type": "http", "scheme": "bearer"}


class Odd(Even):
    name = "odd"
    rest = 1


async def test_unrecognized_credential_tries_the_next_strategy(
    make_settings: SettingsFactory,
) -> None:
    own = [f"tests.web.test_resolver:{kind.__name__}" for kind in (Even, Odd)]
    gates = {
        "every": current_identity(),
        "lax": current_identity(optional=True),
        "even": current_identity("even", "session"),
    }
    async with opened(make_settings(strategies=(*own, "session")), **gates) as api:
        cookie = (await sign_in(api.services, await api.create_user()))["cookie"]

        async def answer(path: str, token: str) -> str | int:
            headers = {"Authorization": f"Bearer {token}", "Cookie": cookie}
            found = await api.get(path, headers=headers)
            if found.status_code == 401:
                assert challenges(found)[0] == INVALID
            return str(found.json()) if found.is_success else found.status_code

        for path in ("/every", "/lax"):
            assert await answer(path, "good") == "even"
            assert await answer(path, "good1") == "odd"
            assert await answer(path, "bad1") == 401, "refused by the first"
            assert await answer(path, "bad12") == 401, "refused by the second"
        assert await answer("/even", "good") == "even"
        assert await answer("/even", "good1") == 401, "the cookie does not replace the header"


async def test_invalid_header_is_refused_beside_a_valid_cookie(
    make_settings: SettingsFactory,
) -> None:
    gates = {"strict": current_user(), "lax": current_user(optional=True)}
    async with opened(make_settings(strategies=ALL), **gates) as api:
        alice = await api.create_user()
        await api.login(alice)
        assert (await api.get("/strict")).json() == alice.email
        for credential in (
            "Bearer",
            "Bearer ",
            "Bearer x",
            "bearer x",
            "BEARER   x",
            "Bearer a.b",
            "Bearer a.b.c",
            "Bearer a.b.c.d",
            "Bearer aat_",
            "Bearer aat_x.y.z",
            f"Bearer {new_opaque_token()}",
            f"Bearer {new_secret()}",
            "Bearer null",
            "Basic",
            "Basic x",
            "basic YTpi",
        ):
            for path in ("/strict", "/lax"):
                answer = await api.get(path, headers={"Authorization": credential})
                assert answer.status_code == 401, credential
                assert refusal(answer)["code"] == "unauthenticated"


async def test_credential_for_a_proxy_is_ignored(make_settings: SettingsFactory) -> None:
    gates = {"strict": current_user(), "lax": current_user(optional=True)}
    unknown = ("Digest username=x", "Negotiate abc", "Basic YTpi")
    async with opened(make_settings(), **gates) as api:
        for credential in unknown:
            header = {"Authorization": credential}
            assert challenges(await api.get("/strict", headers=header)) == [BEARER, COOKIE]
            assert (await api.get("/lax", headers=header)).json() is None
        alice = await api.create_user()
        await api.login(alice)
        for credential in unknown:
            for path in ("/strict", "/lax"):
                answer = await api.get(path, headers={"Authorization": credential})
                assert answer.json() == alice.email, credential


async def test_route_accepts_only_its_own_strategies(make_settings: SettingsFactory) -> None:
    gates = {name: current_identity(name) for name in ALL}
    async with opened(make_settings(strategies=ALL), **gates) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        for route in ALL:
            for name, headers in good.items():
                with statements(api) as seen:
                    answer = await api.get(f"/{route}", headers=headers)
                if name == route:
                    assert (answer.status_code, answer.json()) == (200, name)
                else:
                    assert answer.status_code == 401, (route, name)
                    assert len(seen) == 0, (
                        "a credential that the route does not accept costs no query"
                    )
        # The cookie does not replace a header that the route does not accept.
        both = {**good["session"], **good["token"]}
        assert (await api.get("/session", headers=both)).status_code == 401
        assert (await api.get("/token", headers=both)).json() == "token"
        assert (await api.get("/jwt", headers=both)).status_code == 401


# The gates ----------------------------------------------------------------------------------------


async def test_requirements_are_checked_in_order(make_settings: SettingsFactory) -> None:
    gate = current_user(
        scopes={"b", "a"}, verified=True, superuser=True, fresh=timedelta(minutes=5)
    )
    settings = make_settings(scopes={"a": "A", "b": "B", "c": "C"})
    async with opened(settings, guarded=gate) as api:
        user = replace(await api.create_user(), is_active=False)
        scopes: set[str] = {"c"}
        login = datetime.now(UTC) - timedelta(days=1)

        async def answer() -> tuple[int, str, list[str]]:
            with acting_as(user, scopes, auth_time=login):
                found = await api.get("/guarded")
            body = found.json()
            return (
                found.status_code,
                body["code"] if isinstance(body, dict) else body,
                challenges(found),
            )

        anonymous = await api.get("/guarded")
        assert (anonymous.status_code, anonymous.json()["code"]) == (401, "unauthenticated")

        assert await answer() == (401, "inactive_account", [BEARER, COOKIE])
        user = replace(user, is_active=True)

        stale = f'{BEARER}, error="insufficient_user_authentication", max_age="300"'
        assert await answer() == (401, "stale_authentication", [stale, COOKIE])
        login = datetime.now(UTC)

        lacking = f'{BEARER}, error="insufficient_scope", scope="a b"'
        assert await answer() == (403, "insufficient_scope", [lacking])
        scopes = {"a", "c"}
        assert await answer() == (403, "insufficient_scope", [lacking]), "each scope is required"
        scopes = {"a", "b"}

        assert await answer() == (403, "email_not_confirmed", [])
        user = replace(user, email_confirmed_at=login)

        assert await answer() == (403, "superuser_required", [])
        user = replace(user, is_superuser=True)

        assert await answer() == (200, user.email, [])


@pytest.mark.parametrize(
    ("gate", "broken", "status", "code"),
    [
        (current_user(), {"is_active": False}, 401, "inactive_account"),
        (current_user(optional=True), {"is_active": False}, 401, "inactive_account"),
        (current_user(verified=True), {"email_confirmed_at": None}, 403, "email_not_confirmed"),
        (current_user(superuser=True), {"is_superuser": False}, 403, "superuser_required"),
        (
            current_user(superuser=True, optional=True),
            {"is_superuser": False},
            403,
            "superuser_required",
        ),
        (current_identity(superuser=True), {"is_superuser": False}, 403, "superuser_required"),
    ],
)
async def test_each_requirement_is_checked_alone(
    make_settings: SettingsFactory,
    gate: Gate[object],
    broken: dict[str, Any],
    status: int,
    code: str,
) -> None:
    async with opened(make_settings(), guarded=gate) as api:
        made = await api.create_user(is_superuser=True)
        user = replace(made, email_confirmed_at=made.created_at)
        with acting_as(user):
            assert (await api.get("/guarded")).status_code == 200
        with acting_as(replace(user, **broken)):
            answer = await api.get("/guarded")
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_freshness_is_measured_from_the_login(make_settings: SettingsFactory) -> None:
    gates = {
        "short": current_user(fresh=timedelta(seconds=30)),
        "setting": current_user(fresh=True),
        "any": current_user(),
    }
    start = datetime(2031, 1, 1, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    with time_machine.travel(start, tick=False) as clock:
        settings = make_settings(fresh_max_age=timedelta(seconds=90))
        async with opened(settings, **gates) as api:
            alice = await api.create_user()
            await api.login(alice, strategy="jwt")

            async def states() -> list[int]:
                return [(await api.get(f"/{name}")).status_code for name in gates]

            for after, expected in (
                (timedelta(seconds=30), [200, 200, 200]),
                (timedelta(seconds=30) + moment, [401, 200, 200]),
                (timedelta(seconds=90), [401, 200, 200]),
                (timedelta(seconds=90) + moment, [401, 401, 200]),
            ):
                clock.move_to(start + after, tick=False)
                assert await states() == expected
            ages = [challenges(await api.get(path))[0] for path in ("/short", "/setting")]
            assert [text.rpartition(", ")[2] for text in ages] == ['max_age="30"', 'max_age="90"']


async def test_personal_access_token_is_never_fresh(make_settings: SettingsFactory) -> None:
    async with opened(make_settings(), guarded=current_user(fresh=True)) as api:
        alice = await api.create_user()
        with acting_as(alice):
            assert (await api.get("/guarded")).status_code == 200
        with acting_as(alice, amr=()):
            answer = await api.get("/guarded")
        assert refusal(answer)["code"] == "stale_authentication"


async def test_gates_of_several_kinds_in_one_application(make_settings: SettingsFactory) -> None:
    gate = current_user("jwt", "token", scopes={"reports:read"})
    async with opened(make_settings(scopes={"reports:read": "Read"}), reports=gate) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        made = {}
        for name, scopes in (("with", ["reports:read"]), ("without", [])):
            body = {"name": name, "scopes": scopes}
            answer = await api.post("/me/tokens", json=body, headers=good["session"])
            made[name] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        for headers in (good["jwt"], good["token"], made["with"]):
            assert (await api.get("/reports", headers=headers)).json() == alice.email
        lacking = await api.get("/reports", headers=made["without"])
        assert (lacking.status_code, lacking.json()["code"]) == (403, "insufficient_scope")
        assert challenges(lacking) == [
            f'{BEARER}, error="insufficient_scope", scope="reports:read"'
        ]
        for headers in ({}, good["session"], good["basic"]):
            answer = await api.get("/reports", headers=headers)
            assert (answer.status_code, challenges(answer)) == (401, [BEARER])


async def test_optional_gate_accepts_anonymous_requests(make_settings: SettingsFactory) -> None:
    gates = {"user": current_user(optional=True), "identity": current_identity(optional=True)}
    async with opened(make_settings(), **gates) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        dead = {"Cookie": f"authapi={new_secret()}"}
        for path, cookie, token in (
            ("/user", alice.email, alice.email),
            ("/identity", "session", "token"),
        ):
            for absent in ({}, dead, {"Cookie": "authapi=x"}, {"Cookie": "authapi=x; authapi=y"}):
                answer = await api.get(path, headers=absent)
                assert (answer.status_code, answer.json()) == (200, None), absent
            assert (await api.get(path, headers=good["session"])).json() == cookie
            assert (await api.get(path, headers={**dead, **good["token"]})).json() == token
            bad = {"Authorization": f"Bearer {new_opaque_token()}"}
            for headers in (bad, {**dead, **bad}, {**good["session"], **bad}):
                assert challenges(await api.get(path, headers=headers)) == [INVALID, COOKIE]


# Challenges of a 401 ------------------------------------------------------------------------------


async def test_response_has_each_challenge_once(make_settings: SettingsFactory) -> None:
    gates = {
        "every": current_user(),
        "two": current_user("jwt", "token"),
        "mixed": current_user("session", "basic", "jwt"),
        "cookie": current_user("session"),
    }
    async with opened(make_settings(strategies=ALL), **gates) as api:
        found = {name: challenges(await api.get(f"/{name}")) for name in gates}
    assert found == {
        "every": [BEARER, BASIC, COOKIE],
        "two": [BEARER],
        "mixed": [BASIC, BEARER, COOKIE],
        "cookie": [COOKIE],
    }


async def test_challenge_has_error_only_for_a_sent_token(make_settings: SettingsFactory) -> None:
    async with opened(make_settings(strategies=ALL), every=current_user()) as api:
        for headers, expected in (
            ({}, BEARER),
            ({"Cookie": f"authapi={new_secret()}"}, BEARER),
            ({"Cookie": "authapi=x"}, BEARER),
            ({"Authorization": "Basic x"}, BEARER),
            ({"Authorization": "Digest x"}, BEARER),
            ({"Authorization": f"Bearer {new_opaque_token()}"}, INVALID),
            ({"Authorization": "Bearer a.b.c"}, INVALID),
            ({"Authorization": "bearer x"}, INVALID),
            ({"Authorization": "Bearer x", "Cookie": "authapi=x"}, INVALID),
        ):
            answer = await api.get("/every", headers=headers)
            assert challenges(answer) == [expected, BASIC, COOKIE], headers


async def test_all_invalid_credentials_have_the_same_body(make_settings: SettingsFactory) -> None:
    gates = {name: current_user(name) for name in ALL} | {"every": current_user()}
    async with opened(make_settings(strategies=ALL), **gates) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        await api.services.accounts.deletion.delete(alice.id)
        sent = [{}, *good.values(), {"Authorization": "Bearer x"}, {"Cookie": "authapi=x"}]
        bodies = [
            refusal(await api.get(f"/{name}", headers=headers))
            for name in gates
            for headers in sent
        ]
    assert len(bodies) == 35
    assert all(body == bodies[0] for body in bodies)


# Identity of gates, number of authentications -----------------------------------------------------


def test_equal_arguments_return_the_same_gate() -> None:
    for make in (current_user, current_identity):
        assert make() is make()
        assert make("jwt") is make("jwt")
        assert make("jwt", "jwt") is make("jwt")
        assert make(scopes={"a", "b"}) is make(scopes=["b", "a", "b"])
        assert make(scopes=()) is make(scopes=set())
        assert make(fresh=timedelta(minutes=1)) is make(fresh=timedelta(seconds=60))
        assert make(verified=True, superuser=True) is make(superuser=True, verified=True)
        different = [
            make(),
            make("jwt"),
            make("jwt", "token"),
            make("token", "jwt"),
            make(scopes={"a"}),
            make(verified=True),
            make(superuser=True),
            make(fresh=True),
            make(fresh=timedelta(minutes=5)),
            make(optional=True),
        ]
        assert len({id(gate) for gate in different}) == len(different)
    assert {id(current_user())}.isdisjoint({id(current_identity())})


def test_scopes_must_not_be_a_string() -> None:
    for make in (current_user, current_identity):
        with pytest.raises(TypeError, match="not a string"):
            make(scopes="reports:read")


async def test_dependency_overrides_find_it(make_settings: SettingsFactory) -> None:
    gates = {"mine": current_user("jwt", scopes={"a", "b"}), "other": current_user("jwt")}
    app = own_app(make_settings(), **gates)
    async with client(app) as api:
        alice = await api.create_user()
        app.dependency_overrides[current_user("jwt", scopes=["b", "a"])] = lambda: alice
        assert (await api.get("/mine")).json() == alice.email
        assert (await api.get("/other")).status_code == 401
        app.dependency_overrides.clear()
        assert (await api.get("/mine")).status_code == 401


async def test_several_gates_authenticate_once(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings(scopes={"a": "A"}))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    inner = APIRouter(dependencies=[Depends(current_user(optional=True))])

    def also(user: Annotated[User, Depends(current_user("session", "token"))]) -> User:
        return user

    @inner.get("/many", dependencies=[Depends(current_identity(fresh=True))])
    async def many(
        first: Annotated[User, Depends(current_user())],
        second: Annotated[Identity, Depends(current_identity("token", "jwt", "session"))],
        third: Annotated[User, Depends(also)],
        fourth: Annotated[User, Depends(current_user(scopes={"a"}))],
    ) -> list[str]:
        assert first == second.user == third == fourth
        return [second.strategy]

    app.include_router(inner, dependencies=[Depends(current_user())])
    async with client(app) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        for name in ("session", "token"):
            with statements(api) as seen:
                answer = await api.get("/many", headers=good[name])
            assert answer.json() == [name]
            assert len(seen) == 1, seen
        for dead in (
            {"Cookie": f"authapi={new_secret()}"},
            {"Authorization": f"Bearer {new_opaque_token()}"},
        ):
            with statements(api) as seen:
                assert (await api.get("/many", headers=dead)).status_code == 401
            assert len(seen) == 1, "the result of a refused strategy is kept too"


async def test_concurrent_requests_are_independent(api: Client) -> None:
    users = [await api.create_user() for _ in range(4)]
    good = [credential for user in users for credential in (await credentials(api, user)).values()]
    del good[::4]  # Basic is not configured
    asked = good * 5
    answers = await asyncio.gather(*(api.get("/me", headers=headers) for headers in asked))
    owners = [str(user.id) for user in users for _ in range(3)] * 5
    assert [answer.json()["id"] for answer in answers] == owners


# Start-up -----------------------------------------------------------------------------------------


async def test_unknown_strategy_fails_the_start_and_names_the_route(
    make_settings: SettingsFactory,
) -> None:
    app = own_app(make_settings(), fine=current_user("jwt"))
    router = APIRouter(prefix="/api")
    router.add_api_route(
        "/reports/{number}", telling(current_user("jwt", "nope")), methods=["POST", "PUT"]
    )
    app.include_router(router, prefix="/v1")
    with pytest.raises(ConfigurationError) as caught:
        async with client(app):
            pass
    assert str(caught.value) == (
        "POST PUT /v1/api/reports/{number}: unknown strategy 'nope'; "
        "the settings have session, token, jwt"
    )


async def test_built_in_strategy_that_is_not_configured_is_unknown(
    make_settings: SettingsFactory,
) -> None:
    with pytest.raises(ConfigurationError, match="GET /secret: unknown strategy 'basic'"):
        async with opened(make_settings(), secret=current_user("session", "basic")):
            pass


async def test_unknown_strategy_of_a_websocket_route(make_settings: SettingsFactory) -> None:
    app = own_app(make_settings())
    app.add_api_websocket_route("/live", telling(current_user("nope")))
    with pytest.raises(ConfigurationError, match="WEBSOCKET /live: unknown strategy 'nope'"):
        async with client(app):
            pass


async def test_unknown_strategy_in_a_nested_dependency(make_settings: SettingsFactory) -> None:
    def outer(inner: Annotated[object, Depends(telling(current_identity("nope")))]) -> object:
        return inner

    app = own_app(make_settings())
    app.get("/deep", dependencies=[Depends(outer)])(lambda: None)
    with pytest.raises(ConfigurationError, match="GET /deep: unknown strategy 'nope'"):
        async with client(app):
            pass


async def test_undefined_scope_is_logged_as_a_warning(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(scopes={"a": "A"})
    async with opened(settings, guarded=current_user(scopes={"a", "typo"})):
        pass
    warnings = [record.getMessage() for record in caplog.records if record.name == "authapi"]
    assert len(warnings) == 1
    assert "/guarded requires scope 'typo'" in warnings[0]


async def test_gate_without_installation_raises_runtime_error() -> None:
    app = FastAPI()
    app.get("/reports")(telling(current_user()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as plain:
        sentence = r"not installed in this application: call AuthAPI\(\).install\(app\)"
        with pytest.raises(RuntimeError, match=sentence):
            await plain.get("/reports")


async def test_unknown_unit_of_routes_is_refused(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    with pytest.raises(
        ConfigurationError, match="unknown unit of routes 'nope'; the units are me, export, regis"
    ):
        auth.install(FastAPI(), include=["login", "nope"])


# Importing application ----------------------------------------------------------------------------


async def test_gates_on_included_routers(make_settings: SettingsFactory) -> None:
    router = APIRouter(prefix="/inner")
    router.get("/open")(lambda: "open")
    router.get("/mine")(telling(current_user("token")))
    outer = APIRouter(prefix="/outer")
    outer.include_router(router)
    app = own_app(make_settings())
    app.include_router(outer, prefix="/plain")
    app.include_router(outer, prefix="/guarded", dependencies=[Depends(current_user("jwt"))])
    async with client(app) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        expected = {
            ("/plain/outer/inner/open", None): 200,
            ("/plain/outer/inner/mine", None): 401,
            ("/plain/outer/inner/mine", "token"): 200,
            ("/plain/outer/inner/mine", "jwt"): 401,
            ("/guarded/outer/inner/open", None): 401,
            ("/guarded/outer/inner/open", "jwt"): 200,
            ("/guarded/outer/inner/open", "token"): 401,
            ("/guarded/outer/inner/mine", "jwt"): 401,
            ("/guarded/outer/inner/mine", "token"): 401,
        }
        for (path, name), status in expected.items():
            answer = await api.get(path, headers=good[name] if name else {})
            assert answer.status_code == status, (path, name)


async def test_only_the_gates_without_any_route(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=())
    app.get("/reports")(telling(current_user("token")))
    async with client(app) as api:
        alice = await api.create_user()
        assert (await api.post("/login")).status_code == 404
        assert refusal(await api.get("/reports"))["code"] == "unauthenticated"
        with acting_as(alice):
            assert (await api.get("/reports")).json() == alice.email


@pytest.fixture
def mounted(make_settings: SettingsFactory) -> FastAPI:
    """An application with gates, which mounts another with gates, which mounts a third."""
    app = own_app(make_settings(), here=current_user("jwt"))
    below, deep = FastAPI(title="below"), FastAPI(title="deep")
    below.get("/there")(telling(current_user("jwt", "session")))
    below.get("/staff")(telling(current_user(superuser=True)))
    deep.get("/down")(telling(current_user("token")))
    below.mount("/deep", deep)
    app.mount("/below", below)
    return app


async def test_gates_in_a_mounted_application(mounted: FastAPI) -> None:
    async with client(mounted) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        answer = await api.get("/below/there", headers=good["jwt"])
        assert (answer.status_code, answer.json()) == (200, alice.email)
        for path, expected in (
            ("/below/there", [BEARER, COOKIE]),
            ("/below/deep/down", [BEARER]),
        ):
            refused = await api.get(path)
            assert refusal(refused) == refusal(await api.get("/here"))
            assert challenges(refused) == expected
        forbidden = await api.get("/below/staff", headers=good["jwt"])
        assert (forbidden.status_code, forbidden.json()["code"]) == (403, "superuser_required")
        assert (await api.get("/below/deep/down", headers=good["token"])).json() == alice.email


async def test_unknown_strategy_in_a_mounted_application(mounted: FastAPI) -> None:
    [below] = [route.app for route in mounted.routes if getattr(route, "path", "") == "/below"]  # type: ignore[attr-defined]  # a Mount
    below.get("/late")(telling(current_user("nope")))
    with pytest.raises(ConfigurationError, match="GET /below/late: unknown strategy 'nope'"):
        async with client(mounted):
            pass


async def test_document_of_a_mounted_application_has_its_security(mounted: FastAPI) -> None:
    async with client(mounted) as api:
        document = (await api.get("/below/openapi.json")).json()
    assert document["paths"]["/there"]["get"]["security"] == [{"jwt": []}, {"session": []}]
    assert document["components"]["securitySchemes"].keys() == {"jwt", "session", "token"}


async def test_mounted_application_without_gates_is_unchanged(
    make_settings: SettingsFactory,
) -> None:
    app, foreign = own_app(make_settings()), FastAPI()

    @foreign.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    app.mount("/foreign", foreign)
    async with client(app) as api:
        answer = await api.get("/foreign/teapot")
    assert (answer.status_code, answer.json()) == (418, {"detail": "short and stout"})


# Internal errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [SessionStrategy, TokenStrategy, JWTStrategy, BasicStrategy], ids=lambda kind: kind.name
)
@pytest.mark.parametrize("method", ["read", "authenticate"])
async def test_exception_in_a_strategy_is_500(
    make_settings: SettingsFactory,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Strategy[str]],
    method: str,
) -> None:
    unforeseen: list[Exception] = []

    def fail(*_: object) -> None:
        raise unforeseen[-1]

    monkeypatch.setattr(kind, method, fail)
    gates = {"strict": current_user(), "lax": current_user(optional=True)}
    async with opened(make_settings(strategies=ALL), **gates) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)
        for error in (RuntimeError, ValueError, KeyError, TimeoutError, AssertionError):
            unforeseen.append(error("x"))
            for path in ("/strict", "/lax"):
                # Each request is read, and only a credential of its kind is authenticated.
                others = ({}, good["session"]) if method == "read" else ()
                for headers in (*others, good[kind.name]):
                    answer = await api.get(path, headers=headers)
                    assert answer.status_code == 500, (path, error)
                    # The application answers its errors, as those of its own dependencies.
                    assert answer.text == "Internal Server Error"
                    assert answer.headers["cache-control"] == "no-store"
            if kind is not BasicStrategy:
                answer = await api.get("/me", headers=good[kind.name])
                assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
                assert answer.headers["content-type"] == "application/problem+json"


async def test_unavailable_database_is_503(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a 401, a client discards its credential.
    gates = {"strict": current_user(), "lax": current_user(optional=True)}
    async with opened(make_settings(strategies=ALL), **gates) as api:
        alice = await api.create_user()
        good = await credentials(api, alice)

        def unavailable() -> Any:
            raise StorageUnavailable

        monkeypatch.setattr(api.services.database, "read", unavailable)
        for path in ("/strict", "/lax"):
            for headers in good.values():
                answer = await api.get(path, headers=headers)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "1"
                assert "www-authenticate" not in answer.headers
        assert (await api.get("/strict")).status_code == 401, "no query was sent"
