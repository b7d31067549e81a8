"""Unknown methods and paths, limits of bodies, and the gates of all routes."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import Message

from authapi import AuthAPI, User, create_app, current_user
from authapi.testing import PASSWORD, client
from authapi.web.routing import ProtectedRoute
from tests.conftest import SettingsFactory
from tests.web.asgi import ask
from tests.web.operations import Operation, operations
from tests.web.responses import is_public, problem

MAIL_PAGES = ("confirm", "disown", "forgot", "invitation", "reset", "undo")
SIGN_IN_PAGES = (
    *("sign-in", "sign-in/second", "sign-in/enrol"),
    *("sign-up", "sign-out", "check-mail", "prove"),
)
ACCOUNT_PAGES = (
    *("devices", "security", "security/password", "security/app", "security/app/remove"),
    *("security/codes", "security/passkeys", "security/passkeys/{passkey_id}"),
    *("tokens", "tokens/new", "activity", "data", "data/export", "data/delete"),
)
PAGES = {
    "/account",
    *(f"/account/{name}" for name in (*MAIL_PAGES, *SIGN_IN_PAGES, *ACCOUNT_PAGES)),
}
CONSOLE_PAGES = {
    *("/console", "/console/{path}"),
    *(f"/console/{name}" for name in ("people", "people/new", "people/{user_id}", "events")),
    *(f"/console/{name}" for name in ("events/days", "events/export", "mail", "webhooks")),
    *(f"/console/{name}" for name in ("keys", "status")),
}
FILES = {
    *(f"/account/{name}" for name in ("page.css", "theme.css", "console.css", "ui.js")),
    *(f"/account/{name}" for name in ("passkeys.js", "logo", "icon")),
}
UNDOCUMENTED = {
    *("/", "/favicon.ico", "/docs", "/docs/{name}", "/openapi.json"),
    *(*PAGES, *CONSOLE_PAGES, *FILES),
    "/.well-known/change-password",  # for browsers, as the pages
}
BEFORE = [b"/%s", b"///%s", b"/.%s", b"/x/..%s", b"/%%2e%s", b"/%%2e%%2e%s", b"/%%00%s", b"/v1%s"]
BEHIND = [
    *(b"%s/", b"%s//", b"%s;x", b"%s;", b"%s.json", b"%s%%00", b"%s%%20", b"%s%%ff"),
    *(b"%s%%0d%%0ax", b"%s%%3fx=1", b"%s%%23", b"%s\\"),
]
BELOW = [b"%s/x.css", b"%s%%2fx", b"%s/."]
LIMIT = 65536
JSON = (b"content-type", b"application/json")


@pytest.fixture
async def app(make_settings: SettingsFactory) -> AsyncIterator[FastAPI]:
    found = create_app(make_settings())
    async with client(found):
        yield found


def readers(app: FastAPI) -> Iterator[tuple[Operation, list[tuple[bytes, bytes]]]]:
    """Returns the operations that read a body, each with its Content-Type header.

    Without those that read the form of an authenticated caller: they authenticate first.
    """
    form = "application/x-www-form-urlencoded"
    found = [
        operation
        for operation in operations(app)
        if operation.content_type
        and (operation.content_type != form or operation.is_open or not operation.strategies)
    ]
    assert len(found) > 5
    for operation in found:
        yield operation, [(b"content-type", str(operation.content_type).encode())]


# Methods and paths


async def test_method_not_allowed_lists_all_methods(app: FastAPI) -> None:
    paths = defaultdict(set)
    for operation in operations(app):
        paths[operation.path].add(operation.method)
    assert len(paths) > 10
    every = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO", "get", ""}
    headers = [(b"x-canary", b"CANARY"), (b"origin", b"https://evil.example"), JSON]
    for path, methods in paths.items():
        allowed = methods | ({"HEAD"} if "GET" in methods else set())
        for method in every - allowed:
            response = await ask(
                app, method, path.encode(), headers=headers, body=[b'{"CANARY": 1}']
            )
            assert response.headers["allow"] == ", ".join(sorted(allowed))
            assert ("access-control-allow-origin" in response.headers) is is_public(response)
            if method == "HEAD":
                assert (response.status_code, response.content) == (405, b"")
            else:
                problem(response, 405, "method_not_allowed")
                assert "CANARY" not in response.text


async def test_paths_are_matched_exactly(app: FastAPI) -> None:
    found = operations(app)
    parents = {operation.template.rpartition("/{")[0] for operation in found}
    for operation in found:
        variants = list(BEFORE)
        if "{" not in operation.template:
            variants += BEHIND
            variants += [] if operation.template in parents else BELOW
            upper = operation.path.upper().encode()
            problem(await ask(app, operation.method, upper), 404, "not_found")
        for variant in variants:
            response = await ask(app, operation.method, variant % operation.path.encode())
            problem(response, 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [b"", b"*", b"/x", b"/.git/HEAD", b"/graphql", b"/static/", b"/metrics", b"//evil.com/"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE", "FOO"])
async def test_unknown_paths_are_not_found(app: FastAPI, method: str, path: bytes) -> None:
    problem(await ask(app, method, path, headers=[(b"host", b"evil.com")]), 404, "not_found")


# Public routes


async def test_gates_match_the_documented_security(app: FastAPI) -> None:
    found = operations(app)
    assert sum(bool(operation.security) for operation in found) > 10
    for operation in found:
        response = await ask(app, operation.method, operation.path.encode())
        if not operation.is_open:
            problem(response, 401, "unauthenticated")
        else:
            assert response.status_code != 401


async def test_undocumented_routes_are_exactly_these(app: FastAPI) -> None:
    documented = {operation.template for operation in operations(app)}
    served = {
        getattr(route, "path_format", route.path) for route in iter_route_contexts(app.routes)
    }
    assert served - documented == UNDOCUMENTED
    assert documented <= served


def test_protected_route_without_a_gate_raises_type_error() -> None:
    router = APIRouter(route_class=ProtectedRoute)

    def nothing() -> None:
        return None

    def inner(user: Annotated[User, Depends(current_user())]) -> User:
        return user

    with pytest.raises(TypeError, match="nothing at /open has no gate"):
        router.get("/open")(nothing)

    def optional(_: Annotated[User | None, Depends(current_user(optional=True))]) -> None:
        return None

    with pytest.raises(TypeError, match="optional at /half"):
        router.get("/half")(optional)

    def nested(_: Annotated[User, Depends(inner)]) -> None:
        return None

    router.get("/closed")(nested)


# Bodies


async def test_directly_called_gate_can_be_overridden(
    make_settings: SettingsFactory,
) -> None:
    app = create_app(make_settings())
    async with client(app) as api:
        alice, bob = await api.create_user(), await api.create_user()
        app.dependency_overrides[current_user()] = lambda: bob
        assert (await api.get("/me")).json()["id"] == str(bob.id)
        app.dependency_overrides.clear()
        assert (await api.get("/me")).status_code == 401
        await api.login(alice)
        assert (await api.get("/me")).json()["id"] == str(alice.id)


async def test_body_is_refused_by_its_content_length(app: FastAPI) -> None:
    async def receive() -> Message:
        raise AssertionError("the body was read")

    for operation, headers in readers(app):
        for length in (b"65537", b"52428800", b"9" * 20, b"9" * 5000, b"-1", b"1e3", b"x", b"\xb2"):
            response = await ask(
                app,
                operation.method,
                operation.path.encode(),
                headers=[(b"content-length", length), *headers],
                receive=receive,
            )
            problem(response, 413, "body_too_large")


async def test_chunked_body_is_read_up_to_the_limit(
    app: FastAPI,
) -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 1024, "more_body": True}

    for operation, headers in readers(app):
        read = 0
        response = await ask(
            app,
            operation.method,
            operation.path.encode(),
            headers=[(b"transfer-encoding", b"chunked"), *headers],
            receive=receive,
        )
        problem(response, 413, "body_too_large")
        assert read == LIMIT // 1024 + 1


async def test_body_as_long_as_the_limit_is_accepted(app: FastAPI) -> None:
    body = b'{"email": "a@example.com", "password": "%s"}' % PASSWORD.encode()
    for padding, status in [(LIMIT - len(body), 201), (LIMIT - len(body) + 1, 413)]:
        for announced in (True, False):
            padded = body.replace(b"a@", b"%d@" % announced) + b" " * padding
            length = [(b"content-length", b"%d" % len(padded))]
            headers = [JSON, *(length if announced else [(b"transfer-encoding", b"chunked")])]
            chunks = [padded[at : at + 4096] for at in range(0, len(padded), 4096)]
            response = await ask(app, "POST", b"/register", headers=headers, body=chunks)
            assert response.status_code == status


async def test_body_limits_follow_the_settings(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(max_body_bytes=1024, max_json_depth=4))
    async with client(app) as api:
        body = {"email": "a@example.com", "password": PASSWORD, "name": "x" * 1024}
        problem(await api.post("/register", json=body), 413, "body_too_large")
        problem(await api.post("/register", json=[[[[[]]]]]), 400, "malformed_json")
        assert (await api.post("/register", json=[[[[]]]])).status_code == 422


async def test_client_disconnect_is_not_logged_as_an_error(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    for operation, headers in readers(app):
        response = await ask(
            app,
            operation.method,
            operation.path.encode(),
            headers=[(b"content-length", b"100"), *headers],
            body=[b'{"email'],
            disconnects=True,
        )
        assert response.status_code == 400
    assert not caplog.records


async def test_body_limit_does_not_apply_to_routes_of_the_importing_application(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.post("/upload")
    async def upload(body: dict[str, str]) -> int:
        return len(str(body))

    async with client(app) as api:
        assert (await api.post("/upload", json={"a": "x" * 2 * LIMIT})).status_code == 200
        invalid = await api.post("/upload", json=[])
        assert (invalid.status_code, invalid.headers["content-type"]) == (422, "application/json")
        assert [error["type"] for error in invalid.json()["detail"]] == ["dict_type"]


async def test_own_routes_match_among_routes_of_the_importing_application(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/me/pictures")
    async def pictures() -> str:
        return "theirs"

    @app.get("/{anything}")
    async def anything(anything: str) -> str:
        return anything

    async with client(app) as api:
        assert (await api.get("/me")).status_code == 401
        assert (await api.get("/me/pictures")).json() == "theirs"
        assert (await api.get("/mean")).json() == "mean"
        assert (await api.get("/health/live")).json() == {"status": "ok"}


async def test_slow_body_has_one_deadline(
    make_settings: SettingsFactory,
) -> None:
    drops = 0

    async def receive() -> Message:
        nonlocal drops
        drops += 1
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b" ", "more_body": True}

    app = create_app(make_settings(body_timeout=0.2))
    async with client(app):
        headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        answer = await ask(app, "POST", b"/login", headers=headers, receive=receive)
        problem(answer, 408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert 1 < drops < 20
