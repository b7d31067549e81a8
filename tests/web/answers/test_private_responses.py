"""A response to a request with an ended session cookie removes the cookie; others do not."""

from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Annotated, Any

import httpx
import pytest
import time_machine
from fastapi import Depends, FastAPI
from starlette.responses import Response

from authapi import AuthAPI, Settings, User, create_app, current_identity, current_user
from authapi.clock import now
from authapi.crypto.secrets import new_secret
from authapi.domain.identity import Identity
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, secret_in
from tests.web.responses import problem

REMOVED = "authapi=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
ALICE = "alice@example.com"
OTHER = "another horse, another battery"

Optional = Annotated[User | None, Depends(current_user(optional=True))]


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    """A client of the shipped app with its pages; mail stays in the outbox."""
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]
    async with client_with_mailbox(settings) as found:
        yield found


@pytest.fixture
async def imported(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/reports")
    async def reports(user: Annotated[User, Depends(current_user())]) -> str:
        return user.email

    @app.get("/session-only")
    async def session_only(
        caller: Annotated[Identity, Depends(current_identity("session"))],
    ) -> str:
        return caller.user.email

    @app.get("/greeting")
    async def greeting(user: Optional) -> str:
        return "anonymous" if user is None else user.email

    @app.get("/cached")
    async def cached(user: Optional, response: Response, value: str) -> str:
        response.headers["cache-control"] = value
        return "the same to all"

    @app.get("/own-cookie")
    async def own_cookie(user: Optional, response: Response) -> None:
        response.headers.append("set-cookie", "theme=dark")
        response.headers.append("set-cookie", "authapi=set-by-the-application; Path=/")

    async with client(app) as found:
        yield found


def removed(answer: httpx.Response) -> bool:
    """Whether the response removes the session cookie. It must not set another one."""
    found = [
        it for it in answer.headers.get_list("set-cookie") if not it.startswith("authapi-address=")
    ]
    assert found in ([], [REMOVED]), found
    return bool(found)


async def ended(api: Client) -> Headers:
    """Returns headers with a cookie whose session has ended."""
    headers = await sign_in(api.services, await api.create_user())
    assert (await api.post("/logout", headers=headers)).status_code == 204
    api.cookies.clear()
    return headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/logout"),
        ("GET", "/me"),
        ("HEAD", "/me"),
        ("DELETE", "/me"),
        ("PATCH", "/me"),
        ("POST", "/me/password"),
        ("POST", "/me/reauthenticate"),
        ("POST", "/me/email"),
        ("GET", "/me/session"),
        ("GET", "/me/sessions"),
        ("DELETE", "/me/sessions"),
        ("GET", "/me/tokens"),
        ("POST", "/me/tokens"),
        ("GET", "/me/export"),
        ("GET", "/admin/users"),
        ("POST", "/token/introspect"),
        # Public routes: browsers attach the cookie by themselves.
        ("POST", "/token/revoke"),
        ("GET", "/account/nothing"),
    ],
)
async def test_response_to_an_ended_cookie_removes_it(api: Client, method: str, path: str) -> None:
    headers = await ended(api)
    bodies: dict[str, dict[str, Any]] = {
        "/me": {"json": {"name": "x"}} if method == "PATCH" else {},
        "/me/password": {"json": {"current_password": PASSWORD, "new_password": OTHER}},
        "/me/reauthenticate": {"json": {"password": PASSWORD}},
        "/me/email": {"json": {"email": ALICE}},
        "/me/tokens": {"json": {"name": "x"}} if method == "POST" else {},
        "/token/introspect": {"data": {"token": "x"}},
        "/token/revoke": {"data": {"token": "x"}},
    }
    answer = await api.request(method, path, headers=headers, **bodies.get(path, {}))
    # An unknown page reads no cookie.
    assert removed(answer) is not path.endswith("nothing")
    assert answer.status_code in {200, 401, 404}
    # Without a cookie in the request, the response removes none.
    assert not removed(await api.request(method, path, **bodies.get(path, {})))


async def test_removal_over_https_uses_the_host_prefix_and_secure(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings)) as api:
        headers = {"cookie": f"__Host-authapi={new_secret()}", "x-forwarded-proto": "https"}
        answer = await api.get("/me", headers=headers)
        assert answer.status_code == 401
        assert answer.headers.get_list("set-cookie") == [
            "__Host-authapi=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"
        ]
        # Without the `__Host-` prefix it is another cookie.
        answer = await api.get("/me", headers={"cookie": f"authapi={new_secret()}"})
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/reports", "/session-only", "/greeting"])
async def test_routes_of_the_importing_application_remove_it(imported: Client, path: str) -> None:
    headers = await ended(imported)
    answer = await imported.get(path, headers=headers)
    assert answer.status_code == (200 if path == "/greeting" else 401)
    assert removed(answer)
    live = await sign_in(imported.services, await imported.create_user())
    answer = await imported.get(path, headers=live)
    assert answer.status_code == 200
    assert not removed(answer)


@pytest.mark.parametrize(
    ("value", "is_removed"),
    [
        ("no-store", True),
        ("private, max-age=60", True),
        ("public, max-age=60", False),
        ("max-age=60", False),
        ("s-maxage=60", False),
        ("no-cache", False),
    ],
)
async def test_cacheable_responses_do_not_remove_it(
    imported: Client, value: str, is_removed: bool
) -> None:
    headers = await ended(imported)
    answer = await imported.get("/cached", params={"value": value}, headers=headers)
    assert answer.status_code == 200
    assert removed(answer) is is_removed


async def test_cookie_set_by_the_response_is_kept(imported: Client) -> None:
    answer = await imported.get("/own-cookie", headers=await ended(imported))
    assert answer.headers.get_list("set-cookie") == [
        "theme=dark",
        "authapi=set-by-the-application; Path=/",
    ]


@pytest.mark.parametrize(
    "how", ["idle", "absolute", "deactivated", "deleted", "ended", "password", "reset"]
)
async def test_cookie_is_removed_for_every_reason_of_its_end(api: Client, how: str) -> None:
    alice = await api.create_user(ALICE)
    headers = await sign_in(api.services, alice)
    services, later = api.services, timedelta(0)
    match how:
        case "idle":
            later = services.settings.session_idle + timedelta(minutes=1)
        case "absolute":
            later = services.settings.session_absolute + timedelta(minutes=1)
        case "deactivated":
            await services.accounts.administration.change(alice.id, {"is_active": False})
        case "deleted":
            await services.accounts.deletion.delete(alice.id)
        case "ended":
            await services.sessions.end_all(alice.id)
        case "password":
            await services.accounts.passwords.set(alice.id, OTHER)
        case _:
            await api.post("/password/forgot", json={"email": ALICE})
            body = {"token": await secret_in(services, "reset", ALICE), "new_password": OTHER}
            assert (await api.post("/password/reset", json=body)).status_code == 204
    with time_machine.travel(now() + later, tick=True):
        answer = await api.get("/me", headers=headers)
    problem(answer, 401, "unauthenticated")
    assert removed(answer)


async def test_ending_the_own_session_removes_its_cookie(api: Client) -> None:
    alice = await api.create_user(ALICE)
    headers, other = [await sign_in(api.services, alice) for _ in range(2)]
    bearer = await sign_in(api.services, alice, "jwt")

    async def session_of(caller: Headers) -> str:
        found: str = (await api.get("/me/identity", headers=caller)).json()["session_id"]
        return found

    path = f"/me/sessions/{await session_of(other)}"
    assert not removed(await api.delete(path, headers=headers))
    path = f"/me/sessions/{await session_of(headers)}"
    answer = await api.delete(path, headers=headers)
    assert answer.status_code == 204
    assert removed(answer)
    # A browser stores no bearer token.
    path = f"/me/sessions/{await session_of(bearer)}"
    assert not removed(await api.delete(path, headers=bearer))
    last = await sign_in(api.services, alice)
    answer = await api.delete("/me", headers=last)
    assert answer.status_code == 204
    assert removed(answer)


async def test_superuser_ending_their_own_sessions_loses_the_cookie(api: Client) -> None:
    root = await api.create_user("root@example.com", is_superuser=True)
    bob = await api.create_user()
    headers = await sign_in(api.services, root)
    assert not removed(await api.delete(f"/admin/users/{bob.id}/sessions", headers=headers))
    answer = await api.delete(f"/admin/users/{root.id}/sessions", headers=headers)
    assert answer.status_code == 204
    assert removed(answer)


@pytest.mark.parametrize("is_own", [True, False])
async def test_page_that_ends_the_readers_session_removes_the_cookie(
    api: Client, is_own: bool
) -> None:
    alice, bob = await api.create_user(ALICE), await api.create_user()
    headers = await sign_in(api.services, alice if is_own else bob)
    await api.post("/password/forgot", json={"email": ALICE})
    form = {"token": await secret_in(api.services, "reset", ALICE), "new_password": OTHER}
    answer = await api.post("/account/reset", data=form, headers=headers)
    assert answer.status_code == 303
    assert removed(answer) is is_own
    assert (await api.get("/me", headers=headers)).status_code == (401 if is_own else 200)


@pytest.mark.parametrize(
    "values",
    [
        [new_secret(), new_secret()],
        ["live", new_secret()],
        [new_secret(), "live"],
        ["live", ""],
        [""],
        ["garbage"],
        ["theirs.of-another-service"],
    ],
    ids=range(7),
)
async def test_ambiguous_and_malformed_cookies_are_kept(api: Client, values: list[str]) -> None:
    live = await sign_in(api.services, await api.create_user())
    own = live["cookie"].partition("=")[2]
    pairs = (f"authapi={own if value == 'live' else value}" for value in values)
    answer = await api.get("/me", headers={"cookie": "; ".join(pairs)})
    problem(answer, 401, "unauthenticated")
    assert not removed(answer)


@pytest.mark.parametrize("path", ["/me/password", "/me/reauthenticate", "/login"])
async def test_concurrent_request_does_not_remove_the_new_cookie(api: Client, path: str) -> None:
    # A request with the old cookie may be answered after the cookie was replaced.
    await api.create_user(ALICE)
    assert (await api.post("/login", json={"email": ALICE, "password": PASSWORD})).is_success
    old = {"cookie": f"authapi={api.cookies['authapi']}"}
    body = {
        "/me/password": {"current_password": PASSWORD, "new_password": OTHER},
        "/me/reauthenticate": {"password": PASSWORD},
        "/login": {"email": ALICE, "password": PASSWORD},
    }[path]
    replaced = await api.post(path, json=body)
    assert replaced.is_success
    new = SimpleCookie(replaced.headers["set-cookie"])["authapi"].value
    api.cookies.clear()
    answer = await api.get("/me", headers=old)
    problem(answer, 401, "unauthenticated")
    assert not removed(answer)
    assert (await api.get("/me", headers={"cookie": f"authapi={new}"})).status_code == 200
    # A browser that still sends it later has not received the new one.
    with time_machine.travel(now() + timedelta(minutes=2), tick=True):
        assert removed(await api.get("/me", headers=old))
    # Once the new session has ended, the old cookie is removed too.
    headers = {"cookie": f"authapi={new}"}
    assert (await api.post("/logout", headers=headers)).status_code == 204
    assert removed(await api.get("/me", headers=old))


async def test_concurrent_request_does_not_undo_a_login_with_an_ended_cookie(api: Client) -> None:
    dead = await ended(api)
    alice = await api.create_user(ALICE)
    body = {"email": alice.email, "password": PASSWORD}
    assert (await api.post("/login", json=body, headers=dead)).status_code == 200
    api.cookies.clear()
    # A concurrent request of another tab.
    assert not removed(await api.get("/me", headers=dead))


async def test_unavailable_database_removes_no_cookie(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from authapi.errors import StorageUnavailable

    async def unavailable(*_: object, **__: object) -> None:
        raise StorageUnavailable

    headers = await sign_in(api.services, await api.create_user())
    monkeypatch.setattr(type(api.services.sessions), "identify_by_secret", unavailable)
    answer = await api.get("/me", headers=headers)
    problem(answer, 503, "database_unavailable")
    assert not removed(answer)
