"""Hostile paths, queries and headers."""

import json

import pytest

from authapi.crypto.ids import new_id
from tests.hostile.checked_app import JSON, PASSWORD, CheckedApp, raw
from tests.hostile.nasty_json import CANARY
from tests.web.logins import sign_in
from tests.web.responses import problem

pytestmark = pytest.mark.slow

HOSTS = [
    b"",
    b"evil.example",
    b"evil.example:80",
    b"127.0.0.1:8000@evil.example",
    b"localhost/../x",
    b"a b",
    b"[::1",
    b"[",
    b"127.0.0.1:99999999",
    b"127.0.0.1:-1",
    b"\xff",
    b"\x00",
    b"x" * 8000,
    CANARY.encode(),
]
CANARIES = [
    b"user-agent",
    b"referer",
    b"origin",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"forwarded",
    b"x-request-id",
    b"accept",
    b"accept-language",
    b"if-none-match",
    b"if-match",
    b"range",
    b"expect",
    b"upgrade",
    b"cookie",
    b"x-http-method-override",
    b"content-encoding",
    b"prefer",
    b"access-control-request-method",
    b"sec-fetch-dest",
]
VALUES = [
    CANARY.encode(),
    b"",
    b"\xff\xfe",
    b"\x00\x01\x1b[31m" + CANARY.encode(),
    "ü🦉".encode(),
    b"a\r\nb: c",
    b"," * 5000,
    b"<script>" + CANARY.encode() + b"</script>",
    b"bytes=" + b"0-," * 1500,
    b"127.0.0.1, <script>, ::1, unix:",
]
QUERIES = [
    b"a=1&a=2",
    b"=&&=",
    b"%",
    b"%zz=%",
    b"%00=%00",
    b"%ff=%ff",
    b"\xff\x00",
    b"x" * 60_000,
    b"&".join([b"a=1"] * 10_000),
    b"access_token=" + CANARY.encode(),
    b"next=//evil.example&redirect_uri=http://evil.example",
    b"session_id=x&user_id=y&name=z",
]
IDS = {
    b"%": 422,
    b"%zz": 422,
    b"%f": 422,
    b"%c3": 422,
    b"%ff%fe": 422,
    b"%ed%a0%80": 422,
    b"%00": 422,
    b"%0d%0aSet-Cookie:%20a=b": 422,
    b"\xff": 422,
    b"x" * 60_000: 422,
    CANARY.encode(): 422,
    b"1": 422,
    b"..": 422,
    b"%2e%2e": 422,
    b"%2e%2e%2fx": 404,
    b"a/b": 404,
    b"": 404,
    b"0" * 32: 404,
    b"ffffffff-ffff-ffff-ffff-ffffffffffff": 404,
    str(new_id()).upper().encode(): 404,
}
"""Values in place of an id in a path, and the expected status."""


async def test_host_header_does_not_change_responses(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com")
    cookie = raw(await sign_in(app.api.services, user))
    body = b'{"email": "alice@example.com", "password": "%s"}' % PASSWORD.encode()
    once = [[(b"host", host)] for host in HOSTS]
    twice = [[*host, (b"host", b"127.0.0.1:8000")] for host in once]
    for hosts in twice:
        problem(await app.ask("GET", "/me", headers=[*hosts, *cookie]), 400, "duplicate_header")
    for hosts in once:
        me = await app.ask("GET", "/me", headers=[*hosts, *cookie])
        assert me.json()["id"] == str(user.id)
        login = await app.ask("POST", "/login", headers=[*hosts, *JSON], body=body)
        assert login.status_code == 200
        for response in (me, login, await app.ask("POST", "/login/", headers=hosts)):
            assert "location" not in response.headers
            assert "domain" not in response.headers.get("set-cookie", "").lower()
            assert b"evil" not in response.content


async def test_headers_are_handled_and_not_reflected(app: CheckedApp) -> None:
    user = await app.api.create_user()
    cookie = raw(await sign_in(app.api.services, user))
    for name in CANARIES:
        for value in VALUES:
            for known in ([], cookie):
                response = await app.ask("GET", "/me", headers=[*known, (name, value)])
                expected = {200, 304} if known else {401}
                if known and value and name == b"sec-fetch-dest":
                    expected = {403}  # unknown destinations are refused
                assert response.status_code in expected, (name, value)
                # A duplicate Origin is ambiguous; the middleware refuses it.
                times = 1 if name == b"origin" else 2
                headers = [*known, *JSON, *[(name, value)] * times]
                response = await app.ask("PATCH", "/me", headers=headers, body=b'{"name":""}')
                # A page of another origin must not use the cookie.
                browser = name in (b"origin", b"sec-fetch-site")
                browser = browser or (name == b"sec-fetch-dest" and value != b"")
                refused = {403} if browser else {422}
                assert response.status_code in (refused if known else {401}), (name, value)


async def test_user_agent_is_stored_printable_and_truncated(app: CheckedApp) -> None:
    """The user agent is stored and displayed, so it must be short and printable."""
    await app.api.create_user("alice@example.com")
    body = b'{"email": "alice@example.com", "password": "%s"}' % PASSWORD.encode()
    for value in (*VALUES, b"\x80\x9f", b"\xad", b"x" * 8000):
        headers = [*JSON, (b"user-agent", value)]
        login = await app.ask("POST", "/login", headers=headers, body=body)
        cookie = login.headers["set-cookie"].partition(";")[0].encode()
        listed = await app.ask("GET", "/me/sessions", headers=[(b"cookie", cookie)])
        agent = listed.json()[0]["user_agent"]
        assert len(agent) <= 255
        assert agent.isprintable()


async def test_unknown_query_parameters_are_ignored(app: CheckedApp) -> None:
    user = await app.api.create_user(is_superuser=True)
    for operation in app.operations:
        # Other methods could end the session that the next request uses.
        is_get = operation.method == "GET"
        headers = await app.headers(operation, user) if is_get else []
        plain = await app.ask(operation.method, operation.path, headers=headers)
        for query in QUERIES:
            response = await app.ask(operation.method, operation.path, headers=headers, query=query)
            assert response.status_code == plain.status_code
            # The options of a passkey login are public, and need no body.
            is_open = operation.template == "/login/passkey/options"
            is_answered = (is_get and "{" not in operation.template) or is_open
            assert (response.status_code == 200) == is_answered
            assert "location" not in response.headers


async def test_invalid_ids_in_a_path_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user(is_superuser=True)
    other = await app.api.create_user("other@example.com")
    for operation in app.operations:
        if "{" in operation.template:
            # The last id varies; one before it is that of another account.
            path = operation.template.replace("{user_id}", str(other.id), 1)
            path = path if "{" in path else operation.template
            start, _, rest = path.encode().partition(b"{")
            end = rest.partition(b"}")[2]
            headers = await app.headers(operation, user)
            if operation.reads_json:
                headers = [*JSON, *headers]
            body = json.dumps(operation.example).encode() if operation.reads_json else b""
            for value, status in IDS.items():
                response = await app.ask(
                    operation.method, start + value + end, headers=headers, body=body
                )
                # Beside the path with `options`, a path without an id does not exist.
                is_absent = operation.template.startswith("/me/factors/passkeys/")
                assert response.status_code == (404 if is_absent else status), value


async def test_long_unknown_paths_are_not_found(app: CheckedApp) -> None:
    for path in (b"/" + b"x" * 60_000, b"/x" * 30_000, b"/" * 60_000, b"/" + CANARY.encode()):
        problem(await app.ask("GET", path), 404, "not_found")
        problem(await app.ask("POST", path, headers=JSON, body=b"{"), 404, "not_found")


async def test_range_requests_are_ignored(app: CheckedApp) -> None:
    user = await app.api.create_user()
    cookie = raw(await sign_in(app.api.services, user))
    for value in (b"bytes=0-0", b"bytes=" + b"0-," * 5000, b"bytes=-1", b"x"):
        response = await app.ask("GET", "/me", headers=[*cookie, (b"range", value)])
        assert response.status_code == 200
        assert response.json()["id"] == str(user.id)
