"""Errors below /account: pages for browsers, problem documents for other clients."""

import asyncio
import html
import logging
import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import unquote, urljoin

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.responses import Response
from starlette.types import Message

from authapi import AuthAPI, User, create_app, current_user
from authapi.errors import StorageUnavailable
from authapi.services.accounts.deferred import DeferredRequests
from authapi.strategies.session import SessionStrategy
from authapi.testing import PASSWORD, Client, client
from authapi.verify import RemoteJWT
from tests.conftest import SettingsFactory
from tests.storage.rows import sql
from tests.verify.conftest import open_app
from tests.web.asgi import RawHeaders, ask
from tests.web.logins import sign_in
from tests.web.mailbox import sent_mail
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH, KOREAN
from tests.web.responses import problem

FORM = (b"content-type", b"application/x-www-form-urlencoded")
FORGOT = b"/account/forgot"
JSON_ONLY = {"accept": "application/json"}
CANARY = "canary"


def check_refusal(answer: httpx.Response, status: int, code: str) -> None:
    """Check an English error page: it has the reason and a link, and no input of the request."""
    check_page(answer, status, ENGLISH[code], is_error=True)
    assert answer.headers.get_list("content-language") == ["en"]
    main = main_of(answer)
    assert "<form" not in main
    assert len(re.findall("<a [^>]*href=", main)) == 1
    assert answer.headers["x-request-id"] in main
    assert CANARY not in answer.text
    assert code not in html.unescape(answer.text).replace(ENGLISH[code], "")


REFUSED: Mapping[str, tuple[str, bytes, RawHeaders, bytes, int, str]] = {
    "null": ("POST", FORGOT, [FORM, (b"origin", b"null")], b"email=a", 403, "foreign_origin"),
    "foreign": (
        "POST",
        b"/account/undo",
        [FORM, (b"origin", b"http://canary.example")],
        b"token=canary",
        403,
        "foreign_origin",
    ),
    "other port": (
        "POST",
        FORGOT,
        [FORM, (b"origin", b"http://127.0.0.1:8001")],
        b"",
        403,
        "foreign_origin",
    ),
    "sibling": (
        "POST",
        b"/account/reset",
        [FORM, (b"sec-fetch-site", b"same-site")],
        b"token=canary",
        403,
        "foreign_origin",
    ),
    "json": (
        "POST",
        FORGOT,
        [(b"content-type", b"application/json")],
        b'{"canary": 1}',
        415,
        "unsupported_media_type",
    ),
    "no type": ("POST", b"/account/confirm", [], b"canary=1", 415, "unsupported_media_type"),
    "multipart": (
        "POST",
        FORGOT,
        [(b"content-type", b"multipart/form-data; boundary=canary")],
        b"--canary--",
        415,
        "unsupported_media_type",
    ),
    "no pairs": ("POST", FORGOT, [FORM], b"canary&canary", 400, "malformed_request"),
    "twice": ("POST", FORGOT, [FORM], b"email=canary&email=b", 400, "malformed_request"),
    "not UTF-8": ("POST", FORGOT, [FORM], b"email=canary%ff", 400, "malformed_request"),
    "NUL": ("POST", b"/account/reset", [FORM], b"token=canary%00", 400, "malformed_request"),
    "many fields": (
        "POST",
        FORGOT,
        [FORM],
        b"&".join(b"canary%d=" % number for number in range(51)),
        400,
        "malformed_request",
    ),
    "announced": (
        "POST",
        FORGOT,
        [FORM, (b"content-length", b"9999999")],
        b"",
        413,
        "body_too_large",
    ),
    "length of letters": (
        "POST",
        b"/account/invitation",
        [FORM, (b"content-length", b"canary")],
        b"",
        413,
        "body_too_large",
    ),
    "chunked": (
        "POST",
        FORGOT,
        [FORM, (b"transfer-encoding", b"chunked")],
        b"email=canary" * 10_000,
        413,
        "body_too_large",
    ),
    "unknown": ("GET", b"/account/canary", [], b"", 404, "not_found"),
    "below a page": ("GET", b"/account/forgot/", [], b"", 404, "not_found"),
    "deeper": ("GET", b"/account/canary/b/c", [], b"", 404, "not_found"),
    "encoded": ("GET", b"/account/%3Cb%3Ecanary", [], b"", 404, "not_found"),
    "the folder": ("GET", b"/account/", [], b"", 404, "not_found"),
    "without a slash": ("DELETE", b"/account", [], b"", 405, "method_not_allowed"),
    "posted": ("POST", b"/account/canary", [FORM], b"a=canary", 404, "not_found"),
    "PUT": ("PUT", FORGOT, [], b"", 405, "method_not_allowed"),
    "DELETE": ("DELETE", b"/account/reset", [], b"", 405, "method_not_allowed"),
    "to the style": ("POST", b"/account/page.css", [FORM], b"", 405, "method_not_allowed"),
    "two origins": (
        "POST",
        FORGOT,
        [FORM, (b"origin", b"http://127.0.0.1:8000"), (b"origin", b"http://canary.example")],
        b"",
        400,
        "duplicate_header",
    ),
    "two credentials": (
        "GET",
        b"/account/canary",
        [(b"authorization", b"Basic canary"), (b"authorization", b"Basic b")],
        b"",
        400,
        "duplicate_header",
    ),
    "another coding": (
        "POST",
        FORGOT,
        [FORM, (b"transfer-encoding", b"gzip, canary")],
        b"",
        400,
        "malformed_request",
    ),
    "a long cookie": (
        "GET",
        b"/account/reset",
        [(b"cookie", b"canary" * 2000)],
        b"",
        431,
        "headers_too_large",
    ),
    "long headers": (
        "GET",
        FORGOT,
        [(b"x-%d" % number, b"canary" * 1000) for number in range(20)],
        b"",
        431,
        "headers_too_large",
    ),
    "disguised": ("GET", b"/account%2fforgot", [], b"", 404, "not_found"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_errors_of_a_browser_are_pages(make_settings: SettingsFactory, name: str) -> None:
    method, path, headers, body, status, code = REFUSED[name]
    app = create_app(make_settings())
    async with client(app) as api:
        answer = await ask(
            app, method, path, query=b"token=canary", headers=headers, body=[body] if body else []
        )
        check_refusal(answer, status, code)
        assert await sent_mail(api.services) == []
        as_json = await ask(
            app,
            method,
            path,
            headers=[*headers, (b"accept", b"application/json")],
            body=[body] if body else [],
        )
        problem(as_json, status, code)
    kept = ("allow", "retry-after", "www-authenticate", "connection")
    assert [answer.headers.get_list(it) for it in kept] == [
        as_json.headers.get_list(it) for it in kept
    ]
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("body", [b"", b"&", b"=", b"canary", b"email", b"email=", b"&email&"])
async def test_an_empty_form_is_shown_again(make_settings: SettingsFactory, body: bytes) -> None:
    app = create_app(make_settings())
    async with client(app) as api:
        answer = await ask(app, "POST", FORGOT, headers=[FORM], body=[body])
        check_page(answer, 422, ENGLISH["email_invalid"], is_error=True)
        assert "<form" in answer.text
        assert CANARY not in answer.text
        assert await sent_mail(api.services) == []


@pytest.mark.parametrize(
    "path", [FORGOT, b"/account/x", b"/account", b"/account/page.css", b"/account%2fforgot"]
)
async def test_head_has_the_headers_of_get(make_settings: SettingsFactory, path: bytes) -> None:
    app = create_app(make_settings())
    headers = [(b"origin", b"null"), (b"origin", b"null")]
    async with client(app):
        get = await ask(app, "GET", path, headers=headers)
        head = await ask(app, "HEAD", path, headers=headers)
    check_refusal(get, 400, "duplicate_header")
    assert (head.status_code, head.content) == (400, b"")
    for name in ("content-type", "content-length", "content-language", "content-security-policy"):
        assert head.headers[name] == get.headers[name]


async def test_status_405_lists_the_methods(api: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH"):
        answer = await api.request(method, "/account/forgot")
        check_refusal(answer, 405, "method_not_allowed")
        assert answer.headers.get_list("allow") == ["GET, HEAD, POST"]


async def test_a_slow_form_gets_an_error_page(make_settings: SettingsFactory) -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    app = create_app(make_settings(body_timeout=0.1))
    async with client(app):
        answer = await ask(app, "POST", FORGOT, headers=[FORM], receive=receive)
    check_refusal(answer, 408, "request_timeout")
    assert answer.headers.get_list("connection") == ["close"]


async def test_a_framed_form_gets_an_error_page(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    headers |= {"sec-fetch-dest": "iframe", "sec-fetch-site": "same-origin"}
    answer = await api.post("/account/confirm", data={"token": CANARY}, headers=headers)
    check_refusal(answer, 403, "wrong_destination")


@pytest.mark.parametrize("during", ["strategy", "deed"])
async def test_an_unavailable_database_gets_an_error_page(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    async def away(*_: object) -> None:
        raise StorageUnavailable

    if during == "strategy":
        monkeypatch.setattr(SessionStrategy, "cached", lambda *_: None)
        monkeypatch.setattr(SessionStrategy, "authenticate", away)
    else:
        monkeypatch.setattr(DeferredRequests, "submit", away)
    async with client(create_app(make_settings())) as api:
        headers = await sign_in(api.services, await api.create_user())
        form = {"email": "alice@example.com"}
        # The page `forgot` asks for no caller.
        path = "/account/confirm" if during == "strategy" else "/account/forgot"
        answer = await api.post(path, data=form, headers=headers)
    check_page(answer, 503, ENGLISH["database_unavailable"], is_error=True)
    assert int(answer.headers["retry-after"]) > 0


async def test_an_unexpected_error_page_has_the_request_id(
    api: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise LookupError("SELECT canary")

    monkeypatch.setattr(DeferredRequests, "submit", fail)
    answer = await api.post("/account/forgot", data={"email": "canary@example.com"})
    check_refusal(answer, 500, "internal_error")
    assert "SELECT" not in answer.text
    assert answer.headers["x-request-id"] in answer.text
    [record] = [it for it in caplog.records if it.levelno >= logging.ERROR]
    assert getattr(record, "request_id", None) == answer.headers["x-request-id"]
    answer = await api.post("/account/forgot", data={"email": "a@example.com"}, headers=JSON_ONLY)
    problem(answer, 500, "internal_error")


async def test_a_page_over_plain_http_links_to_https(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        public_url="https://auth.example.com", trusted_proxies=("127.0.0.0/8",)
    )
    headers = {"x-forwarded-proto": "http", "host": "canary.example"}
    async with client(create_app(settings)) as api:
        for path in ("/account/forgot", "/account/reset?token=canary"):
            answer = await api.get(path, headers=headers)
            check_refusal(answer, 403, "https_required")
            assert 'href="https://auth.example.com/account/forgot">' in answer.text
            assert answer.headers["strict-transport-security"]


@pytest.mark.parametrize("origin", ["http://10.0.0.7", "null", "http://auth.example.com"])
async def test_a_form_at_another_address_links_to_the_public_url(
    make_settings: SettingsFactory, origin: str
) -> None:
    settings = make_settings(public_url="https://auth.example.com/")
    async with client(create_app(settings), base_url="http://10.0.0.7") as api:
        answer = await api.post("/account/reset", headers={"origin": origin})
        check_refusal(answer, 403, "foreign_origin")
        assert 'href="https://auth.example.com/account/forgot">' in answer.text


async def test_a_refused_origin_is_audited(
    make_settings: SettingsFactory, sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with client(create_app(make_settings())) as api:
        answer = await api.post("/account/forgot", headers={"origin": "null"})
        check_refusal(answer, 403, "foreign_origin")
    query = "SELECT detail FROM authapi_events WHERE type = 'access_refused'"
    assert [str(detail) for (detail,) in sql(sqlite_url, query)] == ['{"code": "foreign_origin"}']
    [record] = [it for it in caplog.records if it.name == "authapi.refusals"]
    assert getattr(record, "code", None) == "foreign_origin"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"referer": "http://evil.example/"}, 303),
        ({"origin": "http://127.0.0.1:8000"}, 303),
        ({"origin": "http://127.0.0.1:8000", "referer": "http://evil.example/"}, 303),
        ({"origin": "null", "referer": "http://127.0.0.1:8000/account/forgot"}, 403),
        ({"origin": "http://evil.example", "referer": "http://127.0.0.1:8000/"}, 403),
    ],
)
async def test_origin_decides_and_referer_is_ignored(
    api: Client, headers: dict[str, str], status: int
) -> None:
    form = {"email": "alice@example.com"}
    answer = await api.post("/account/forgot", data=form, headers=headers)
    if status == 303:
        assert (answer.status_code, answer.headers["location"]) == (303, "forgot?done=sent")
    else:
        check_page(answer, status, ENGLISH["foreign_origin"], is_error=True)


async def test_a_form_works_with_any_host_name(make_settings: SettingsFactory) -> None:
    for name in ("http://authapi.lan:8000", "http://192.168.0.7:8000", "http://[fd00::7]:8000"):
        async with client(create_app(make_settings()), base_url=name) as api:
            form = {"email": "alice@example.com"}
            headers = {"origin": name}
            answer = await api.post("/account/forgot", data=form, headers=headers)
            assert (answer.status_code, answer.headers["location"]) == (303, "forgot?done=sent")
            headers = {"origin": "http://127.0.0.1:8000"}
            answer = await api.post("/account/forgot", data=form, headers=headers)
            check_refusal(answer, 403, "foreign_origin")


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("*/*", True),
        ("text/*", True),
        ("TEXT/HTML ; q=0.1", True),
        ("application/json, text/plain, */*", True),
        ("", True),
        ("application/json", False),
        ("application/problem+json", False),
        ("application/json, text/html;q=0", False),
        ("image/png", False),
        ("text/html2", False),
    ],
)
async def test_a_json_client_gets_a_problem_document(
    api: Client, accept: str, is_page: bool
) -> None:
    answer = await api.get("/account/x", headers={"accept": accept})
    if is_page:
        check_refusal(answer, 404, "not_found")
    else:
        problem(answer, 404, "not_found")


async def test_without_accept_the_error_is_a_page(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings())
    async with client(app):
        check_refusal(await ask(app, "GET", b"/account/x"), 404, "not_found")


async def test_error_pages_are_translated(api: Client) -> None:
    headers = {"accept-language": "ko-KR,ko;q=0.9,en;q=0.8"}
    shown = await api.get("/account/x", headers=headers)
    check_page(shown, 404, KOREAN["not_found"], is_error=True)
    assert shown.headers["content-language"] == "ko"
    assert '<html lang="ko">' in shown.text
    sent = await api.post("/account/forgot", headers=headers | {"origin": "null"})
    check_page(sent, 403, KOREAN["foreign_origin"], is_error=True)


async def follow(app: FastAPI, asked: str, prefix: str) -> None:
    """Request a page that does not exist, and the URLs on its error page, as a browser does."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as browser:
        url = f"http://127.0.0.1:8000{prefix}{asked}"
        page = await browser.get(url)
        check_refusal(page, 404, "not_found")
        found = re.findall(r' (?:href|src)="([^#"]*)"', page.text)
        help_page = "/forgot" if asked.endswith("forgot") else "/sign-in"
        assert [unquote(urljoin(url, target).partition("?")[0]) for target in found] == [
            f"http://127.0.0.1:8000{prefix}/account{path}"
            for path in ("/page.css", "/theme.css", "/icon", "/ui.js", "", help_page)
        ]
        for target in found:
            answer = await browser.get(urljoin(url, target), follow_redirects=True)
            assert answer.status_code == 200


ASKED = ("/account/", "/account/x", "/account/x/", "/account/x/y", "/account/x%2Fy/z")


@pytest.mark.parametrize("asked", [*ASKED, "/account%2Fforgot", "/account%2Fx", "/%61ccount/x"])
async def test_links_of_error_pages_work(make_settings: SettingsFactory, asked: str) -> None:
    app = create_app(make_settings())
    async with client(app):
        await follow(app, asked, "")


@pytest.mark.parametrize("asked", ASKED)
async def test_links_of_error_pages_work_below_a_prefix(
    make_settings: SettingsFactory, asked: str
) -> None:
    auth, inner = AuthAPI(make_settings()), FastAPI()
    auth.install(inner, governs_app=True)
    app = FastAPI(lifespan=auth.lifespan)
    app.mount("/a/b", inner)
    async with app.router.lifespan_context(app):
        await follow(app, asked, "/a/b")


@pytest.mark.parametrize(
    "changes", [{"pages": "none"}, {"include": ["me"]}, {"include": ["docs", "recovery"]}]
)
async def test_without_pages_errors_are_problem_documents(
    make_settings: SettingsFactory, changes: dict[str, object]
) -> None:
    include = changes.pop("include", None)
    auth = AuthAPI(make_settings(**changes))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=include, governs_app=True)  # type: ignore[arg-type]  # a list of names
    async with client(app) as api:
        for path in ("/account", "/account/", "/account/x", "/account/forgot"):
            problem(await api.get(path, headers={"accept": "text/html"}), 404, "not_found")
            twice = [("origin", "null"), ("origin", "null")]
            problem(await api.get(path, headers=twice), 400, "duplicate_header")


async def test_a_resource_server_has_no_pages() -> None:
    async with open_app(RemoteJWT("http://127.0.0.1:9", "https://api.example")) as api:
        for path in ("/account/x", "/account/forgot"):
            answer = await api.get(path, headers={"accept": "text/html"})
            assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("is_first", [True, False])
async def test_routes_of_the_application_below_account_keep_problem_documents(
    make_settings: SettingsFactory, is_first: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    if not is_first:
        auth.install(app, governs_app=True)

    @app.get("/account/orders/{number}")
    async def orders(number: int) -> None:
        raise HTTPException(409) if number else LookupError

    @app.get("/account/mine")
    async def mine(user: Annotated[User, Depends(current_user())]) -> None:
        return

    if is_first:
        auth.install(app, governs_app=True)
    async with client(app) as api:
        assert (await api.get("/account/orders/1")).json()["code"] == "conflict"
        problem(await api.get("/account/orders/0"), 500, "internal_error")
        problem(await api.get("/account/orders/x"), 422, "validation_failed")
        problem(await api.post("/account/orders/1"), 405, "method_not_allowed")
        problem(await api.get("/account/mine"), 401, "unauthenticated")
        twice = [("origin", "null"), ("origin", "null")]
        problem(await api.get("/account/mine", headers=twice), 400, "duplicate_header")
        check_refusal(await api.get("/account/x"), 404, "not_found")
        check_refusal(await api.get("/account/forgot", headers=twice), 400, "duplicate_header")


async def test_a_mounted_application_keeps_its_errors(
    make_settings: SettingsFactory,
) -> None:
    auth, inner = AuthAPI(make_settings()), FastAPI()
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, governs_app=True)

    @inner.get("/account/mine")
    async def mine(user: Annotated[User, Depends(current_user())]) -> None:
        return

    app.mount("/tenant", inner)
    async with client(app) as api:
        problem(await api.get("/tenant/account/mine"), 401, "unauthenticated")
        problem(await api.get("/tenant/account/x"), 404, "not_found")


async def test_an_error_handler_of_the_application_is_kept(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.exception_handler(HTTPException)
    async def own(*_: object) -> Response:
        return Response("theirs", 404)

    auth.install(app)
    async with client(app) as api:
        answer = await api.post("/account/forgot", headers={"origin": "null"})
        check_refusal(answer, 403, "foreign_origin")


async def test_errors_outside_account_are_problem_documents(api: Client) -> None:
    headers = {"accept": "text/html"}
    for path in ("/accounts/x", "/accountx", "/x/account/forgot", "/docs/account", "//account/x"):
        problem(await api.get(path, headers=headers), 404, "not_found")
    problem(await api.get("/me", headers=headers), 401, "unauthenticated")
    body = {"email": "alice@example.com", "password": PASSWORD}
    answer = await api.post("/login", json=body, headers=headers | {"origin": "null"})
    problem(answer, 403, "foreign_origin")
