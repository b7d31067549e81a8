"""Headers that the middleware adds to responses, and requests that it refuses."""

import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import Message

from authapi import AuthAPI, create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.asgi import HOST, RawHeaders, ask, scope_of
from tests.web.logins import Headers, sign_in
from tests.web.operations import operations
from tests.web.responses import SECURITY_HEADERS, check_headers, is_public, problem

HSTS = "strict-transport-security"
JSON = {"content-type": "application/json"}
REGISTER = {"email": "alice@example.com", "password": PASSWORD}


@pytest.fixture
async def app(make_settings: SettingsFactory) -> AsyncIterator[FastAPI]:
    found = create_app(make_settings())
    async with client(found):
        yield found


@pytest.mark.parametrize("public_url", [None, "https://auth.example.com"])
async def test_every_response_has_the_security_headers(
    make_settings: SettingsFactory, public_url: str | None
) -> None:
    app = create_app(make_settings(public_url=public_url))

    @app.get("/fail")
    def fail() -> None:
        raise LookupError

    async with client(app) as api:
        alice = await api.create_user()
        headers = await sign_in(api.services, alice, "jwt")
        long = {"authorization": "Bearer " + "x" * 9000}
        etag = (await api.get("/me", headers=headers)).headers["etag"]
        seen = [
            await api.get("/me", headers=headers),
            await api.post("/register", json=REGISTER),
            await api.delete("/me/sessions", headers=headers),
            await api.get("/me", headers={**headers, "if-none-match": etag}),
            await api.post("/login", content=b"{", headers=JSON),
            await api.get("/me"),
            await api.post("/me/password", json=passwords("wrong"), headers=headers),
            await api.get("/nothing"),
            await api.put("/me", headers=headers),
            await api.post("/register", json=REGISTER),
            await api.patch("/me", json={}, headers={**headers, "if-match": '"x"'}),
            await api.post("/login", content=b" " * 70_000, headers=JSON),
            await api.post("/login", content=b"{}"),
            await api.post("/login", json={}),
            await api.get("/me", headers=long),
            await api.get("/fail"),
            await api.head("/me", headers=headers),
            await api.get("/.well-known/jwks.json"),
            await api.options("/login"),
        ]
        assert [response.status_code for response in seen[:16]] == [
            *(200, 201, 204, 304),
            *(400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 431),
            500,
        ]
        for response in seen:
            check_headers(response, cache_control=response.headers["cache-control"])
            hsts = ["max-age=31536000; includeSubDomains"] if public_url else []
            assert response.headers.get_list(HSTS) == hsts
            assert ("access-control-allow-origin" in response.headers) is is_public(response)
            body = response.status_code not in (204, 304) and response.request.method != "HEAD"
            assert bool(response.content) == body
            if response.status_code >= 400:
                assert response.headers["content-type"] == "application/problem+json"
        ids = [response.headers["x-request-id"] for response in seen]
        assert len(set(ids)) == len(ids)


def passwords(current: str) -> dict[str, str]:
    return {"current_password": current, "new_password": "another horse, another battery"}


async def test_cache_control_of_each_route(api: Client) -> None:
    """Caches must not store responses with credentials or data of a user."""
    alice = await api.create_user()
    headers = await sign_in(api.services, alice)
    kept = {}
    for path in (
        *("/me", "/me/identity", "/me/sessions", "/me/session", "/me/tokens"),
        *("/.well-known/jwks.json", "/health/live", "/health/ready", "/openapi.json"),
    ):
        response = await api.get(path, headers=headers)
        assert response.status_code == 200
        if (value := response.headers["cache-control"]) != "no-store":
            kept[path] = value
    assert kept == {
        "/me": "private, no-cache",
        "/.well-known/jwks.json": "public, max-age=300",
        "/openapi.json": "no-cache",
    }
    # An error of a cacheable resource must not be stored.
    check_headers(await api.get("/me"))


async def test_request_id_is_never_taken_from_the_client(api: Client) -> None:
    response = await api.get("/me", headers={"x-request-id": "a" * 32})
    assert response.headers["x-request-id"] != "a" * 32


async def test_application_can_override_the_security_headers(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, governs_app=True)
    own = {"Cache-Control": "public", "Vary": "Accept", "Referrer-Policy": "origin"}

    @app.get("/own")
    async def answer() -> Response:
        return Response("x", headers=own)

    @app.get("/page")
    async def page() -> HTMLResponse:
        return HTMLResponse("<p>")

    async with client(app) as api:
        response = await api.get("/own")
        expected = {**SECURITY_HEADERS, **{name.lower(): value for name, value in own.items()}}
        # `Vary` of the application is extended, not replaced.
        varies = expected.pop("vary")
        assert response.headers.get_list("vary") == [varies, SECURITY_HEADERS["vary"]]
        for name, value in expected.items():
            assert response.headers.get_list(name) == [value]
        # authapi's policy would break a page.
        page_headers = (await api.get("/page")).headers
        assert "content-security-policy" not in page_headers
        assert page_headers["x-content-type-options"] == "nosniff"


# HEAD


async def test_head_equals_get_without_the_body(app: FastAPI) -> None:
    async with client(app) as api:
        alice = await api.create_user()
        headers = raw(await sign_in(api.services, alice))
        gets = [operation for operation in operations(app) if operation.method == "GET"]
        assert len(gets) > 5
        for operation in gets:
            for sent in (headers, []):
                path = operation.path.encode()
                get = await ask(app, "GET", path, headers=sent)
                head = await ask(app, "HEAD", path, headers=sent)
                assert head.content == b""
                assert get.content
                assert head.status_code == get.status_code
                assert stable(head.headers.multi_items()) == stable(get.headers.multi_items())
                is_streamed = operation.path == "/me/export" and get.status_code == 200
                length = None if is_streamed else str(len(get.content))
                assert head.headers.get("content-length") == length


async def test_head_of_a_streamed_response(app: FastAPI) -> None:
    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]))

    assert (await ask(app, "GET", b"/stream")).content == b"ab"
    assert (await ask(app, "HEAD", b"/stream")).content == b""


def raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def stable(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [item for item in headers if item[0] not in ("x-request-id", "last-modified")]


# Refused headers


@pytest.mark.parametrize("name", [b"authorization", b"cookie"])
async def test_long_credential_is_refused_before_parsing(app: FastAPI, name: bytes) -> None:
    start = b"Bearer " if name == b"authorization" else b"authapi="
    for path in (b"/me", b"/health/live", b"/nothing"):
        longest = start + b"x" * (8192 - len(start))
        response = await ask(app, "GET", path, headers=[(name, longest)])
        assert response.status_code == {b"/me": 401, b"/health/live": 200, b"/nothing": 404}[path]
        longer = await ask(app, "GET", path, headers=[(name, longest + b"x")])
        problem(longer, 431, "headers_too_large")


async def test_total_header_size_is_limited(app: FastAPI) -> None:
    for number in (4, 1000):
        size = 32000 // number
        names = [b"x-%d" % n for n in range(number)]
        headers = [(name, b"v" * (size - len(name))) for name in names]
        total = sum(len(name) + len(value) for name, value in (HOST, *headers))
        headers.append((b"y", b"v" * (32768 - total - 1)))
        assert (await ask(app, "GET", b"/health/live", headers=headers)).status_code == 200
        headers[-1] = (b"y", b"v" * (32768 - total))
        response = await ask(app, "GET", b"/health/live", headers=headers)
        problem(response, 431, "headers_too_large")


async def test_header_limits_follow_the_settings(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(max_credential_bytes=1024, max_header_bytes=4096))
    async with client(app) as api:
        token = {"authorization": "x" * 1025}
        problem(await api.get("/health/live", headers=token), 431, "headers_too_large")
        many = {f"x-{n}": "v" * 1000 for n in range(5)}
        problem(await api.get("/health/live", headers=many), 431, "headers_too_large")


async def test_two_authorization_headers_are_refused(app: FastAPI) -> None:
    async with client(app) as api:
        headers = raw(await sign_in(api.services, await api.create_user(), "jwt"))
        assert (await ask(app, "GET", b"/me", headers=headers)).status_code == 200
        for other in (headers[0], (b"Authorization", b""), (b"authorization", b"Basic eDp5")):
            for both in ([*headers, other], [other, *headers]):
                for operation in operations(app):
                    path = operation.path.encode()
                    response = await ask(app, operation.method, path, headers=both)
                    problem(response, 400, "duplicate_header")


@pytest.mark.parametrize("name", [b"Host", b"origin", b"Content-Type", b"Transfer-Encoding"])
async def test_routing_and_framing_headers_must_not_repeat(app: FastAPI, name: bytes) -> None:
    value = b"chunked" if name == b"Transfer-Encoding" else b"x"
    for other in (value, b"y"):
        for headers in ([(name, value), (name, other)], [(name, other), (name, value)]):
            for path in (b"/health/live", b"/me", b"/nothing"):
                response = await ask(app, "GET", path, headers=headers)
                code = (
                    "malformed_request"
                    if (name, headers[0][1]) == (b"Transfer-Encoding", b"y")
                    else "duplicate_header"
                )
                problem(response, 400, code)


async def test_host_is_required(app: FastAPI) -> None:
    problem(await ask(app, "GET", b"/health/live", host=False), 400, "malformed_request")
    # HTTP/1.0 has no Host header, and for HTTP/2 the server adds it.
    for version, status in (("1.0", 200), ("1.1", 400), ("2", 200)):
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        scope = {**scope_of("GET", b"/health/live", host=False), "http_version": version}
        await app(scope, receive, send)
        assert sent[0]["status"] == status


@pytest.mark.parametrize(
    "coding", [b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked"]
)
async def test_only_chunked_transfer_coding_is_accepted(app: FastAPI, coding: bytes) -> None:
    headers = [(b"transfer-encoding", coding), (b"content-type", b"application/json")]
    response = await ask(app, "POST", b"/login", headers=headers, body=[b"{}"])
    problem(response, 400, "malformed_request")
    for good in (b"chunked", b"Chunked"):
        headers[0] = (b"transfer-encoding", good)
        response = await ask(app, "POST", b"/login", headers=headers, body=[b"{}"])
        assert response.status_code == 422


async def test_several_cookie_headers_are_one(app: FastAPI) -> None:
    headers = [(b"cookie", b"a=1"), (b"cookie", b"b=2")]
    assert (await ask(app, "GET", b"/health/live", headers=headers)).status_code == 200


async def test_a_websocket_is_refused_for_its_headers(app: FastAPI) -> None:
    for headers in (
        [HOST, HOST],
        [(b"origin", b"x"), (b"origin", b"x")],
        [(b"authorization", b"x" * 8193)],
        [(b"authorization", b"x"), (b"authorization", b"x")],
        [(b"x", b"x" * 32768)],
    ):
        sent: list[Message] = []

        async def receive() -> Message:
            raise AssertionError

        async def send(message: Message, sent: list[Message] = sent) -> None:
            sent.append(message)

        await app(scope_of("GET", b"/me", headers=headers, kind="websocket"), receive, send)
        assert sent == [{"type": "websocket.close", "code": 1008, "reason": "headers"}]


@pytest.mark.parametrize(
    "framing", [[(b"content-length", b"9")], [(b"transfer-encoding", b"chunked")]]
)
async def test_refusal_with_an_unread_body_closes_the_connection(
    app: FastAPI, framing: RawHeaders
) -> None:
    json, text = (b"content-type", b"application/json"), (b"content-type", b"text/plain")
    long = (b"authorization", b"x" * 9000)
    for method, path, more, status in (
        ("POST", b"/nothing", [json], 404),
        ("PUT", b"/me", [json], 405),
        ("POST", b"/login", [text], 415),
        ("GET", b"/me", [], 401),
        ("POST", b"/login", [json, long], 431),
        ("POST", b"/login", [json, HOST], 400),
        ("POST", b"/token", [json], 415),
    ):
        headers = [HOST, *framing, *more]
        answer = await ask(app, method, path, headers=headers, body=[b"{", b"}"])
        assert answer.status_code == status, (method, path)
        assert answer.headers.get_list("connection") == ["close"], (method, path)
    # If the body was read, or there is none, the connection stays open.
    read = await ask(app, "POST", b"/login", headers=[HOST, *framing, json], body=[b"{", b"}"])
    assert (read.status_code, read.headers.get_list("connection")) == (422, [])
    none = await ask(app, "POST", b"/nothing", headers=[HOST, (b"content-length", b"0")])
    assert (none.status_code, none.headers.get_list("connection")) == (404, [])
    fine = await ask(app, "GET", b"/health/live", headers=[HOST, *framing], body=[b"{", b"}"])
    assert (fine.status_code, fine.headers.get_list("connection")) == (200, [])


async def test_http_2_has_no_connection_field(app: FastAPI) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = scope_of("POST", b"/nothing", headers=[(b"content-length", b"9")])
    await app({**scope, "http_version": "2"}, receive, send)
    assert sent[0]["status"] == 404
    assert b"connection" not in dict(sent[0]["headers"])


# Internal errors


async def test_exception_after_the_response_started_is_raised(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise LookupError("the other half")

    @app.get("/half")
    async def answer() -> StreamingResponse:
        return StreamingResponse(half())

    # The server must close the connection: the client would read a second response as body.
    with pytest.raises(LookupError):
        await ask(app, "GET", b"/half")
    assert not caplog.records


async def test_client_disconnect_during_the_body_is_not_an_error(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    @app.post("/own")
    async def own(request: Request) -> str:
        return str(len(await request.body()))

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with caplog.at_level(logging.DEBUG):
        await app(scope_of("POST", b"/own", headers=[(b"content-length", b"9")]), receive, send)
    assert "unhandled" not in caplog.text
    assert sent == []
