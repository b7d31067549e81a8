"""Hooks of an application: what they get, what they may change, and what their errors answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request
from jose import jwt

from authapi import (
    AuthAPI,
    Event,
    EventType,
    PasswordRefused,
    Settings,
    Transaction,
    User,
    current_identity,
)
from authapi.domain.email_address import parse_email
from authapi.errors import ConfigurationError, Forbidden
from authapi.services.passwords import Passwords
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to

BODY = {"email": "Ada@Example.com", "password": PASSWORD, "name": "Ada"}
profiles = sa.Table(
    "test_profiles",
    sa.MetaData(),
    sa.Column("user_id", sa.Uuid, primary_key=True),
    sa.Column("plan", sa.String(20), nullable=False),
)


def application(url: str, **changes: object) -> AuthAPI:
    return AuthAPI(Settings(database_url=url, **changes))  # type: ignore[arg-type]  # texts


@asynccontextmanager
async def running(auth: AuthAPI) -> AsyncIterator[Client]:
    """A client of an application with one route of its own and one table."""
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/editor", dependencies=[Depends(current_identity(scopes={"project:7"}))])
    async def editor() -> str:
        return "welcome"

    async with client(app) as api:
        database = api.services.database
        async with database.transaction() as store:
            await store.transaction.execute(sa.schema.CreateTable(profiles))
        try:
            yield api
        finally:  # on PostgreSQL, the tests of a worker share one database
            async with database.transaction() as store:
                await store.transaction.execute(sa.schema.DropTable(profiles))


async def stored(api: Client) -> tuple[list[str], list[str]]:
    """The names of all accounts, and the plans of all profiles."""
    async with api.services.database.read() as store:
        names = await store.connection.scalars(sa.text("SELECT name FROM authapi_users"))
        plans = await store.connection.scalars(sa.select(profiles.c.plan))
        return sorted(names), sorted(plans)


def add_profile(auth: AuthAPI) -> None:
    @auth.on(EventType.ACCOUNT_REGISTERED)
    async def profile(event: Event, tx: Transaction) -> None:
        await tx.execute(sa.insert(profiles).values(user_id=event.user_id, plan="free"))


async def test_a_hook_writes_in_the_transaction(database_url: str) -> None:
    auth = application(database_url)
    add_profile(auth)
    async with running(auth) as api:
        assert (await api.post("/register", json=BODY)).status_code == 201
        assert await stored(api) == (["Ada"], ["free"])
        # Refused after the hooks, by the address.
        assert (await api.post("/register", json=BODY)).status_code == 409
        assert await stored(api) == (["Ada"], ["free"])


ERRORS: Mapping[str, tuple[Callable[[], Exception], int, str]] = {
    "a refusal": (lambda: Forbidden("not today"), 403, "forbidden"),
    "an HTTPException": (lambda: HTTPException(402, "pay first"), 402, "payment_required"),
    "an error": (lambda: LookupError("secret"), 500, "internal_error"),
    "a timeout": (lambda: TimeoutError("secret"), 500, "internal_error"),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_of_a_hook_is_the_answer_and_undoes_all(
    database_url: str, name: str
) -> None:
    make, status, code = ERRORS[name]
    auth = application(database_url)
    add_profile(auth)

    @auth.on(EventType.ACCOUNT_REGISTERED)
    async def refuse(event: Event, tx: Transaction) -> None:
        raise make()

    async with running(auth) as api:
        response = await api.post("/register", json=BODY)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"
        assert "secret" not in response.text
        assert await stored(api) == ([], [])


async def test_a_row_that_the_database_refuses_undoes_all(database_url: str) -> None:
    auth = application(database_url)
    add_profile(auth)
    add_profile(auth)  # the same primary key
    async with running(auth) as api:
        response = await api.post("/register", json=BODY)
        assert (response.status_code, response.json()["code"]) == (500, "internal_error")
        assert await stored(api) == ([], [])


async def test_a_hook_has_the_time_of_a_statement(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    auth = application(database_url, database_timeout=0.2)

    @auth.on(EventType.ACCOUNT_REGISTERED)
    async def slow(event: Event, tx: Transaction) -> None:
        await asyncio.Event().wait()

    async with running(auth) as api:
        response = await api.post("/register", json=BODY)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert await stored(api) == ([], [])
        assert "slow took more than 0.2 s" in caplog.text
        assert (await api.get("/health/ready")).status_code == 200


async def test_a_deferred_registration_is_given_up_visibly(database_url: str) -> None:
    auth = application(database_url, registration="confirm")

    @auth.on(EventType.ACCOUNT_REGISTERED)
    async def refuse(event: Event, tx: Transaction) -> None:
        await tx.execute(sa.insert(profiles).values(user_id=event.user_id, plan="free"))
        raise HTTPException(402)

    with travel_to(datetime.now(UTC)) as clock:
        async with running(auth) as api:
            assert (await api.post("/register", json=BODY)).status_code == 202
            await api.outbox()
            assert await stored(api) == ([], [])
            [entry] = await api.services.outbox.list_undelivered("request", limit=9)
            assert entry.failed_at is None
            clock.shift(api.services.settings.mail_lifetime)
            await api.services.queues.retry("request")
            await api.outbox()
            [entry] = await api.services.outbox.list_undelivered("request", limit=9)
            assert entry.failed_at is not None
            assert entry.error is not None
            assert entry.error.startswith("HTTPException in the hook tests.web.test_hooks.")


async def test_a_hook_keeps_an_account_from_deletion(database_url: str) -> None:
    auth, has_invoices = application(database_url), True
    add_profile(auth)
    deleted: list[User] = []

    @auth.before_delete
    async def keep_invoices(user: User, tx: Transaction) -> None:
        await tx.execute(sa.delete(profiles).where(profiles.c.user_id == user.id))
        deleted.append(user)
        if has_invoices:
            raise HTTPException(409, "invoices are open")

    async with running(auth) as api:
        user = await api.create_user(name="Ada")
        root = await api.create_user(name="Root", is_superuser=True)
        await api.login(user, strategy="jwt")
        response = await api.delete("/me")
        assert (response.status_code, response.json()["detail"]) == (409, "invoices are open")
        await api.login(root, strategy="jwt")
        assert (await api.delete(f"/admin/users/{user.id}")).status_code == 409
        assert await stored(api) == (["Ada", "Root"], ["free", "free"])
        has_invoices = False
        assert (await api.delete(f"/admin/users/{user.id}")).status_code == 204
        assert await stored(api) == (["Root"], ["free"])
        assert [each.id for each in deleted] == [user.id] * 3


async def test_a_row_of_a_hook_is_no_row_that_refuses_the_deletion(database_url: str) -> None:
    auth = application(database_url)

    @auth.on(EventType.ACCOUNT_DELETED)
    async def remember(event: Event, tx: Transaction) -> None:
        await tx.execute(sa.text("INSERT INTO test_farewells VALUES (1)"))

    async with running(auth) as api:
        async with api.services.database.transaction() as store:
            for statement in (
                "CREATE TABLE test_towns (id INTEGER PRIMARY KEY)",
                "CREATE TABLE test_farewells (town INTEGER REFERENCES test_towns (id))",
            ):
                await store.transaction.execute(sa.text(statement))
        try:
            await api.login(await api.create_user(name="Ada"), strategy="jwt")
            response = await api.delete("/me")
            assert (response.status_code, response.json()["code"]) == (500, "internal_error")
            assert await stored(api) == (["Ada"], [])
        finally:
            async with api.services.database.transaction() as store:
                for name in ("test_farewells", "test_towns"):
                    await store.transaction.execute(sa.text(f"DROP TABLE {name}"))


@pytest.mark.parametrize("route", ["/register", "/login", "/token", "basic"])
async def test_a_request_is_refused_before_any_hash(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    auth = application(sqlite_url, strategies=("session", "token", "jwt", "basic"))
    seen: list[tuple[str, str, str]] = []

    async def check(request: Request, email: str) -> None:
        seen.append((request.method, request.url.path, email))
        raise HTTPException(403, "solve the captcha")

    auth.before_register(check)
    auth.before_login(check)

    async def no_hash(*_: object) -> None:
        raise AssertionError("hashed")

    monkeypatch.setattr(Passwords, "hash", no_hash)
    monkeypatch.setattr(Passwords, "verify", no_hash)
    async with running(auth) as api:
        if route == "basic":
            response = await api.get("/me", auth=(BODY["email"], PASSWORD))
            assert seen == [("GET", "/me", "ada@example.com")]
        elif route == "/token":
            form = {"grant_type": "password", "username": BODY["email"], "password": PASSWORD}
            response = await api.post("/token", data=form)
            assert seen == [("POST", "/token", "ada@example.com")]
        else:
            body = BODY if route == "/register" else {**BODY, "strategy": "jwt"}
            body = {key: body[key] for key in body if route == "/register" or key != "name"}
            response = await api.post(route, json=body)
            assert seen == [("POST", route, "ada@example.com")]
        assert (response.status_code, response.json()["detail"]) == (403, "solve the captcha")


async def test_an_accepted_request_continues(sqlite_url: str) -> None:
    auth = application(sqlite_url)
    seen: list[str | None] = []

    @auth.before_register
    @auth.before_login
    async def note(request: Request, email: str) -> None:
        seen.append(request.headers.get("x-captcha"))

    async with running(auth) as api:
        assert (await api.post("/register", json=BODY, headers={"x-captcha": "1"})).is_success
        body = {"email": BODY["email"], "password": PASSWORD}
        assert (await api.post("/login", json=body, headers={"x-captcha": "2"})).is_success
        assert seen == ["1", "2"]


async def test_a_password_rule_refuses_with_its_own_code(database_url: str) -> None:
    auth = application(database_url)
    seen: list[tuple[str, str]] = []

    @auth.password_policy
    async def no_plans(password: str, email: str) -> None:
        seen.append((password, email))
        if "quarterly plan" in password:
            raise PasswordRefused("names_a_plan", "must not name a plan")

    async with running(auth) as api:
        refused = {**BODY, "password": "the quarterly plan of ours"}
        response = await api.post("/register", json=refused)
        assert response.status_code == 422
        assert response.json()["errors"] == [
            {
                "loc": ["body", "password"],
                "code": "names_a_plan",
                "message": "must not name a plan",
            }
        ]
        assert (await api.post("/register", json=BODY)).status_code == 201
        assert seen[-1] == (PASSWORD, "ada@example.com")
        user = await api.services.accounts.profiles.find_by_email(parse_email("ada@example.com"))
        await api.login(user, strategy="jwt")
        change = {"current_password": PASSWORD, "new_password": "the quarterly plan of ours"}
        response = await api.post("/me/password", json=change)
        assert response.json()["errors"][0]["loc"] == ["body", "new_password"]


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
@pytest.mark.parametrize("roles", [False, True])
async def test_own_scopes_are_worked_out_at_use(
    database_url: str, strategy: str, roles: bool
) -> None:
    settings = {"scopes": {"a": "A"}}
    if roles:
        settings |= {"roles": {"reader": ["a"]}, "default_roles": ("reader",)}  # type: ignore[dict-item]
    auth = application(database_url, **settings)
    held: set[str] = set()

    @auth.on_scopes
    async def projects(user: User) -> set[str]:
        return held

    async with running(auth) as api:
        user = await api.create_user()
        held.add("project:7")
        await api.login(user, strategy=strategy)
        for _ in range(2):  # the second time from the cache
            assert (await api.get("/editor")).status_code == 200
        identity = (await api.get("/me/identity")).json()
        assert sorted(identity["scopes"]) == ["a", "project:7"]
        held.clear()
        assert (await api.get("/editor")).status_code == 200  # cached
        await auth.changed(user.id)
        response = await api.get("/editor")
        assert (response.status_code, response.json()["code"]) == (403, "insufficient_scope")
        held.add("project:7")
        async with api.services.database.transaction() as store:
            store.transaction.changed(user.id)
        assert (await api.get("/editor")).status_code == 200


async def test_tokens_and_refreshes_lose_withdrawn_scopes(database_url: str) -> None:
    auth = application(database_url, scopes={"a": "A"})
    held = {"project:7"}

    @auth.on_scopes
    async def projects(user: User) -> set[str]:
        return held

    async with running(auth) as api:
        user = await api.create_user()
        login = {"email": user.email, "password": PASSWORD, "strategy": "jwt"}
        first = (await api.post("/login", json=login)).json()
        api.headers["Authorization"] = f"Bearer {first['access_token']}"
        wanted = {"name": "ci", "scopes": ["project:7"]}
        token = (await api.post("/me/tokens", json=wanted)).json()["access_token"]
        wrong = await api.post("/me/tokens", json={"name": "ci", "scopes": ["project:8"]})
        assert wrong.json()["errors"][0]["code"] == "scope_not_allowed"
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        second = (await api.post("/token", data=form)).json()
        assert second["scope"] == "a project:7"
        password = {"grant_type": "password", "username": user.email, "password": PASSWORD}
        granted = await api.post("/token", data={**password, "scope": "project:7"})
        assert granted.json()["scope"] == "project:7"
        refused = await api.post("/token", data={**password, "scope": "project:8"})
        assert refused.json()["error"] == "invalid_scope"
        found = await api.services.tokens.introspection.introspect(token)
        assert found is not None
        assert found.scopes == {"project:7"}

        held.clear()
        await auth.changed(user.id)
        api.headers["Authorization"] = f"Bearer {token}"
        assert (await api.get("/editor")).status_code == 403
        form["refresh_token"] = second["refresh_token"]
        assert (await api.post("/token", data=form)).json()["scope"] == "a"
        found = await api.services.tokens.introspection.introspect(token)
        assert found is not None
        assert found.scopes == set()


Claims = Callable[[User], Coroutine[Any, Any, Mapping[str, object]]]


async def test_own_members_are_in_jwts(sqlite_url: str) -> None:
    auth = application(sqlite_url, jwt_audiences=("reports",))

    @auth.claims
    async def tenant(user: User) -> Mapping[str, object]:
        return {"tenant": {"name": user.name}}

    @auth.claims
    async def plan(user: User) -> Mapping[str, object]:
        return {"plan": ("free", 1)}

    async with running(auth) as api:
        user = await api.create_user(name="Ada")
        login = {"email": user.email, "password": PASSWORD, "strategy": "jwt"}
        issued = (await api.post("/login", json=login)).json()
        claims = jwt.get_unverified_claims(issued["access_token"])
        assert claims["tenant"] == {"name": "Ada"}
        assert claims["plan"] == ["free", 1]
        assert claims["sub"] == str(user.id)
        api.headers["Authorization"] = f"Bearer {issued['access_token']}"
        assert (await api.get("/me")).status_code == 200
        form = {"grant_type": "refresh_token", "refresh_token": issued["refresh_token"]}
        renewed = (await api.post("/token", data=form)).json()["access_token"]
        assert jwt.get_unverified_claims(renewed)["plan"] == ["free", 1]
        exchanged = await api.post("/me/tokens", json={"kind": "jwt", "audience": "reports"})
        text = exchanged.json()["access_token"]
        assert jwt.get_unverified_claims(text)["tenant"] == {"name": "Ada"}


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"sub": "root"}, "'sub': the name is reserved"),
        ({"scope": "admin"}, "'scope': the name is reserved"),
        ({"a": object()}, "not JSON"),
        ({"a": float("nan")}, "not JSON"),
        ({"a": "x" * 3000}, "exceed 2048 bytes"),
        ({1: "a"}, "names of members"),
        (["a"], "names of members"),
    ],
)
async def test_a_claim_that_cannot_be_is_an_error(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, members: Any, reason: str
) -> None:
    auth = application(sqlite_url)

    @auth.claims
    async def wrong(user: User) -> Mapping[str, object]:
        return members  # type: ignore[no-any-return]  # deliberately wrong

    async with running(auth) as api:
        user = await api.create_user()
        login = {"email": user.email, "password": PASSWORD, "strategy": "jwt"}
        assert (await api.post("/login", json=login)).status_code == 500
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("scopes", "reason"),
    [
        ({"introspect"}, "'introspect': the name is reserved"),
        ({"a b"}, "RFC 6749"),
        ("a", "collection of scopes"),
        ({f"project:{number}" for number in range(300)}, "bytes of scopes"),
    ],
)
async def test_a_scope_that_cannot_be_is_an_error(
    sqlite_url: str, caplog: pytest.LogCaptureFixture, scopes: Any, reason: str
) -> None:
    auth = application(sqlite_url)

    @auth.on_scopes
    async def wrong(user: User) -> set[str]:
        return scopes  # type: ignore[no-any-return]  # deliberately wrong

    async with running(auth) as api:
        user = await api.create_user()
        await api.login(user)
        assert (await api.get("/me")).status_code == 500
    assert reason in caplog.text


async def test_hooks_are_registered_before_the_start(sqlite_url: str) -> None:
    auth = application(sqlite_url)

    async def on_event(event: Event, tx: Transaction) -> None:
        return None

    async with running(auth):
        with pytest.raises(ConfigurationError, match="on_event is registered after the start"):
            auth.on(EventType.LOGIN)(on_event)
    with pytest.raises(ConfigurationError, match="after the start"):
        auth.on(EventType.LOGIN)(on_event)


def test_wrong_hooks_are_refused(sqlite_url: str) -> None:
    auth: Any = application(sqlite_url)

    def plain(user: User) -> set[str]:
        return set()

    async def no_arguments() -> None:
        return None

    with pytest.raises(ConfigurationError, match="plain must be an `async def`"):
        auth.on_scopes(plain)
    with pytest.raises(ConfigurationError, match=r"no_arguments must take \(user, tx\)"):
        auth.before_delete(no_arguments)
    with pytest.raises(ConfigurationError, match="members of EventType"):
        auth.on()(no_arguments)
    with pytest.raises(ConfigurationError, match="members of EventType"):
        auth.on("login")(no_arguments)
    with pytest.raises(ValueError, match="not snake_case"):
        PasswordRefused("Bad Code", "x")


async def test_objects_can_be_hooks(sqlite_url: str) -> None:
    class Counter:
        count = 0

        async def __call__(self, event: Event, tx: Transaction) -> None:
            self.count += 1

    auth, counter = application(sqlite_url), Counter()
    auth.on(EventType.ACCOUNT_REGISTERED, EventType.ACCOUNT_REGISTERED)(counter)
    async with running(auth) as api:
        await api.create_user()
    assert counter.count == 1
