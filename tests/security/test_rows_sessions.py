"""Known vulnerabilities of other products (rows 16 to 26): sessions, cookies and their end."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from authapi import create_app
from authapi.crypto.secrets import new_secret
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import basic, bearer, comparable, cookie, credentials, operations

NBSP = b"\xa0"


@pytest.fixture
async def https(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The application over HTTPS, where its cookie is `__Host-authapi`."""
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings), base_url="https://auth.example.com") as found:
        yield found


async def log_in(api: Client, email: str, **headers: str) -> httpx.Response:
    """Log in with a cookie session. The client keeps no cookie."""
    body = {"email": email, "password": PASSWORD}
    answer = await api.post("/login", json=body, headers=headers)
    api.cookies.clear()
    return answer


def cookie_of(answer: httpx.Response) -> str:
    """The value of the cookie that a response sets."""
    return answer.headers["set-cookie"].partition("=")[2].partition(";")[0]


async def test_row_16_login_and_logout_replace_the_session_id(api_on_each: Client) -> None:
    api = api_on_each
    alice, mallory = await api.create_user(), await api.create_user()
    planted = new_secret()
    first = await log_in(api, alice.email, Cookie=f"authapi={planted}")
    secret = cookie_of(first)
    assert secret != planted
    assert (await api.get("/me", headers=cookie(planted))).status_code == 401
    assert (await api.get("/me", headers=cookie(secret))).status_code == 200

    # A login with a live cookie ends that session, for any account.
    second = cookie_of(await log_in(api, mallory.email, Cookie=f"authapi={secret}"))
    assert second != secret
    assert (await api.get("/me", headers=cookie(secret))).status_code == 401
    seen = await api.get("/me", headers=cookie(second))
    assert seen.json()["id"] == str(mallory.id)

    ended = await api.post("/logout", headers=cookie(second))
    assert ended.status_code == 204
    assert cookie_of(ended) == ""
    assert (await api.get("/me", headers=cookie(second))).status_code == 401
    third = cookie_of(await log_in(api, alice.email, Cookie=f"authapi={second}"))
    assert third not in (planted, secret, second)
    assert (await api.get("/me", headers=cookie(second))).status_code == 401


async def test_row_17_two_session_cookies_are_rejected(https: Client) -> None:
    victim, attacker = await https.create_user(), await https.create_user()
    good = cookie_of(await log_in(https, victim.email))
    planted = cookie_of(await log_in(https, attacker.email))
    name = "__Host-authapi"
    assert (await https.get("/me", headers=cookie(good, name))).status_code == 200
    for values in ((good, planted), (planted, good), (good, good), (good, ""), ("", good)):
        pairs = [f"{name}={value}" for value in values]
        for headers in (
            [(b"cookie", "; ".join(pairs).encode())],
            [(b"cookie", pair.encode()) for pair in pairs],
        ):
            answer = await https.get("/me", headers=headers)
            assert answer.status_code == 401, values
            # Neither session is ended.
            assert (await https.post("/logout", headers=headers)).status_code == 401
    assert (await https.get("/me", headers=cookie(good, name))).status_code == 200


async def test_row_18_cookie_of_another_name_has_no_effect(https: Client) -> None:
    victim, attacker = await https.create_user(), await https.create_user()
    good = cookie_of(await log_in(https, victim.email)).encode()
    planted = cookie_of(await log_in(https, attacker.email)).encode()
    real = b"__Host-authapi=" + good
    for other in (
        b"authapi=" + planted,
        b"__Secure-authapi=" + planted,
        b"__host-authapi=" + planted,
        b"=__Host-authapi=" + planted,
        NBSP + b"__Host-authapi=" + planted,
        b"__Host-authapi" + NBSP + b"=" + planted,
        b'$Version=1; "__Host-authapi"=' + planted,
        b"__Host-authapi2=" + planted,
        b"x=__Host-authapi=" + planted,
    ):
        for text in (other + b"; " + real, real + b"; " + other):
            answer = await https.get("/me", headers=[(b"cookie", text)])
            assert answer.json().get("id") == str(victim.id), text
        answer = await https.get("/me", headers=[(b"cookie", other)])
        assert answer.status_code == 401, other
    for broken in (b'"' + good + b'"', b" " + good, good + b" x", good[:-1], b"%" + good):
        answer = await https.get("/me", headers=[(b"cookie", b"__Host-authapi=" + broken)])
        assert answer.status_code == 401, broken


async def test_row_19_json_with_another_media_type_is_rejected(api: Client) -> None:
    alice = await api.create_user()
    headers = (await credentials(api, alice.email))["session"]
    raw = {
        "/me/password": json.dumps(
            {"current_password": PASSWORD, "new_password": "another horse battery staple"}
        ),
        "/me/tokens": json.dumps({"name": "script"}),
        "/login": json.dumps({"email": alice.email, "password": PASSWORD}),
        "/register": json.dumps({"email": "new@example.com", "password": PASSWORD}),
    }
    types: list[bytes | None] = [None, b"", b"text/plain", b"application/x-www-form-urlencoded"]
    types += [b"multipart/form-data; boundary=x", b"application/jsonx", b"text/json", b"*/*"]
    types += [b"application/json; charset=utf-7", b"application/json, text/plain"]
    types += [b"text/plain; application/json"]
    for path, body in raw.items():
        for kind in types:
            extra = {} if kind is None else {b"content-type": kind}
            answer = await api.post(path, content=body, headers=headers | extra)
            assert answer.status_code == 415, (path, kind)
            assert "set-cookie" not in answer.headers
    assert (await api.get("/me/tokens", headers=headers)).json() == []
    assert (await api.get("/me", headers=headers)).status_code == 200
    await credentials(api, alice.email)
    gone = {"email": "new@example.com", "password": PASSWORD}
    assert (await api.post("/login", json=gone)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://x.example.com"},
        {"Origin": "https://example.com"},
        {"Origin": "http://auth.example.com"},
        {"Origin": "https://auth.example.com.evil.example"},
        {"Origin": "https://auth.example.com:8443"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://auth.example.com"},
    ],
    ids=str,
)
async def test_row_20_csrf_is_rejected_without_relying_on_samesite(
    https: Client, headers: dict[str, str]
) -> None:
    alice = await https.create_user()
    login = await log_in(https, alice.email)
    assert "; SameSite=Lax" in login.headers["set-cookie"]
    held = cookie(cookie_of(login), "__Host-authapi")
    foreign = held | {name.encode(): value.encode() for name, value in headers.items()}
    for method, path in (
        ("POST", "/logout"),
        ("PATCH", "/me"),
        ("DELETE", "/me"),
        ("DELETE", "/me/sessions"),
        ("POST", "/me/tokens"),
    ):
        answer = await https.request(method, path, headers=foreign)
        assert answer.status_code == 403, path
        assert answer.json()["code"] == "foreign_origin"
    # A login to the attacker's account, which the victim would then use (login CSRF).
    answer = await log_in(https, alice.email, **headers)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    # Method override.
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = await https.get("/logout?_method=POST", headers=held | {name.encode(): b"POST"})
        assert answer.status_code == 405
    assert (await https.get("/me", headers=held)).status_code == 200


@pytest.mark.parametrize("end", ["logout", "deactivate", "delete"])
async def test_row_23_ended_credential_is_rejected_by_every_route(
    make_settings: SettingsFactory, end: str
) -> None:
    settings = make_settings(strategies=("session", "token", "jwt", "basic"))
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        held["basic"] = basic(alice.email, PASSWORD)
        routes = list(operations((await api.get("/openapi.json")).json()))
        protected = [item for item in routes if item.strategies]
        assert len(protected) > 10
        for headers in held.values():
            assert (await api.get("/me", headers=headers)).status_code == 200
        if end == "logout":
            del held["basic"]
            for headers in held.values():
                assert (await api.post("/logout", headers=headers)).status_code == 204
        elif end == "deactivate":
            await api.services.accounts.administration.change(alice.id, {"is_active": False})
        else:
            fresh = held["session"]
            assert (await api.delete("/me", headers=fresh)).status_code == 204
        asked = 0
        for route in protected:
            for strategy in route.strategies:
                if strategy in held:
                    answer = await api.request(
                        route.method, route.path, headers=held[strategy], json={}
                    )
                    assert answer.status_code == 401, (strategy, route)
                    asked += 1
        assert asked > 20


@contextmanager
def failing_commits(api: Client) -> Iterator[None]:
    """In this block, every commit fails."""

    def fail(_: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("the disk is full"))

    engine = api.services.database.engine.sync_engine
    event.listen(engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(engine, "commit", fail)


async def test_row_25_failed_commit_has_no_effect(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    held = await credentials(api, alice.email)
    other = held["token"]
    listed = (await api.get("/me/sessions", headers=held["session"])).json()
    [target] = [item["id"] for item in listed if item["kind"] == "token"]
    new = {"email": "new@example.com", "password": PASSWORD}
    secret = {"current_password": PASSWORD, "new_password": "another horse battery staple"}
    with failing_commits(api):
        for method, path, body in (
            ("DELETE", f"/me/sessions/{target}", None),
            ("DELETE", "/me/sessions", None),
            ("POST", "/me/password", secret),
            ("POST", "/me/tokens", {"name": "script"}),
            ("PATCH", "/me", {"name": "Mallory"}),
            ("DELETE", "/me", None),
            ("POST", "/logout", None),
            ("POST", "/register", new),
            ("POST", "/login", {"email": alice.email, "password": PASSWORD}),
        ):
            answer = await api.request(method, path, json=body, headers=held["session"])
            assert answer.status_code == 503, path
            assert "set-cookie" not in answer.headers
    for headers in held.values():
        seen = await api.get("/me", headers=headers)
        assert (seen.status_code, seen.json()["name"]) == (200, None)
    assert (await api.get("/me/tokens", headers=held["session"])).json() == []
    assert (await api.post("/login", json=new)).status_code == 401
    api.cookies.clear()
    events = (await api.get("/me/events", headers=held["session"])).json()["items"]
    assert {item["type"] for item in events} == {"account_registered", "login"}
    path = f"/me/sessions/{target}"
    assert (await api.delete(path, headers=held["session"])).status_code == 204
    assert (await api.get("/me", headers=other)).status_code == 401


def a_shared_cache_may_keep(answer: httpx.Response) -> bool:
    """Whether a shared cache may store the response (RFC 9111, section 3)."""
    directives = {item.strip() for item in answer.headers["cache-control"].split(",")}
    return "no-store" not in directives and "private" not in directives


async def test_row_26_responses_about_a_caller_are_not_cached(api: Client) -> None:
    alice = await api.create_user()
    held = await credentials(api, alice.email)
    document = (await api.get("/openapi.json")).json()
    documents = ("jwks.json", "oauth-authorization-server", "oauth-protected-resource")
    public = {f"/.well-known/{name}" for name in documents}
    statuses = set()
    for route in operations(document):
        if (route.method, route.template) == ("DELETE", "/me"):
            continue
        for headers in ({}, bearer("a.b.c"), *held.values()):
            answer = await api.request(route.method, route.path, headers=headers)
            statuses.add(answer.status_code)
            kept = a_shared_cache_may_keep(answer)
            assert kept == (route.template in public), (route, headers, answer.headers)
            for name in ("authorization", "cookie"):
                assert name in answer.headers["vary"].lower()
    assert {200, 401, 415} <= statuses
    unauthenticated = await api.get("/me", headers={b"if-none-match": b"*"})
    assert unauthenticated.status_code == 401
    assert comparable(unauthenticated) == comparable(await api.get("/me"))
