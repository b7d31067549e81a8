"""Known vulnerabilities of other products, as attacks on administration, roles and its lists.

Tests of rows by number, and of the requirements of OWASP ASVS on administration (6.4.1, 6.4.6,
7.4.2, 7.4.5, 8.2.3, 8.3.1, 8.3.2). tests/web/routes/admin tests each route.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from authapi import Settings, create_app
from authapi.crypto import base64url
from authapi.domain.user import UserOrder
from authapi.errors import ConfigurationError
from authapi.services.cursors import encode_cursor
from authapi.settings import load_settings
from authapi.testing import PASSWORD, Client, client
from tests.security.attack import SECRET, bearer, claims_of, credentials, forge, header
from tests.storage.rows import sql
from tests.tables import users
from tests.web.logins import Headers, sign_in
from tests.web.responses import input_errors, problem

SCOPES = {"reports:read": "Read", "admin": "Sounds like much"}
ROLES = {"reader": frozenset({"reports:read"}), "admin": frozenset({"admin"})}
USERS, EVENTS = "/admin/users", "/admin/events"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        secret=SECRET,  # type: ignore[arg-type]
        scopes=SCOPES,
        roles=ROLES,
        strategies=("session", "token", "jwt", "basic"),
    )
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def root(api: Client) -> Headers:
    user = await api.create_user("root@example.com", is_superuser=True)
    return await sign_in(api.services, user)


async def test_row_23_deactivated_user_is_logged_out_everywhere(api: Client, root: Headers) -> None:
    for how in ("deactivate", "delete"):
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        form = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
        refresh = (await api.post("/login", json=form)).json()["refresh_token"]
        api.cookies.clear()
        assert {"session", "token", "jwt"} <= held.keys()
        for headers in held.values():
            assert (await api.get("/me", headers=headers)).status_code == 200
        path = f"{USERS}/{alice.id}"
        if how == "delete":
            assert (await api.delete(path, headers=root)).status_code == 204
        else:
            answer = await api.patch(path, json={"is_active": False}, headers=root)
            assert answer.status_code == 200
        for name, headers in held.items():
            assert (await api.get("/me", headers=headers)).status_code == 401, (how, name)
        renewal = {"grant_type": "refresh_token", "refresh_token": refresh}
        problem(await api.post("/token", data=renewal), 400, "invalid_grant")


HOSTILE = [
    "id) UNION SELECT password_hash FROM users --",
    "0; DROP TABLE users",
    "' OR ''='",
    "9" * 400,
    "\x00",
    "2026-01-01' --",
]


@pytest.mark.parametrize("order", UserOrder)
async def test_row_40_tampered_cursor_is_rejected(
    api: Client, root: Headers, order: UserOrder
) -> None:
    alice = await api.create_user("alice@example.com")
    genuine = encode_cursor(alice, order)
    sort = {"sort": order.value}
    answer = await api.get(USERS, params={**sort, "after": genuine}, headers=root)
    assert answer.status_code == 200
    first, key, value = base64url.decode(genuine).decode().split("\n")
    for text in HOSTILE:
        for lines in ([text, key, value], [first, text, value], [first, key, text]):
            forged = base64url.encode("\n".join(lines).encode())
            answer = await api.get(USERS, params={**sort, "after": forged}, headers=root)
            input_errors(answer)
            assert "UNION" not in answer.text
    url = api.services.settings.resolved_database_url
    assert len(sql(url, "SELECT id FROM authapi_users")) == 2
    # A cursor grants nothing: a forged one only changes where the list begins.
    made = encode_cursor(await api.services.accounts.profiles.find(alice.id), order)
    assert made == genuine


@pytest.mark.parametrize("text", HOSTILE)
async def test_row_40_filter_values_are_bound_parameters(
    api: Client, root: Headers, text: str
) -> None:
    for path, names in ((USERS, ("email", "role")), (EVENTS, ("user", "type", "ip", "since"))):
        for name in names:
            answer = await api.get(path, params={name: text}, headers=root)
            assert answer.status_code in (200, 422), (name, answer.text)
            if answer.status_code == 200:
                assert answer.json()["items"] == []


async def test_invitation_response_does_not_reveal_accounts(api: Client, root: Headers) -> None:
    """Superusers see all accounts. All other callers get the same response for every address."""
    alice = await api.create_user("alice@example.com")
    logins = [await sign_in(api.services, alice, name) for name in ("session", "jwt")]
    for headers in (None, *logins):
        responses = set()
        for email in ("alice@example.com", "root@example.com", "unknown@example.com"):
            answer = await api.post(USERS, json={"email": email}, headers=headers)
            body = {k: v for k, v in answer.json().items() if k != "request_id"}
            responses.add((answer.status_code, json.dumps(body, sort_keys=True)))
        assert len(responses) == 1
        assert responses.pop()[0] in (401, 403)
    answer = await api.post(USERS, json={"email": "alice@example.com"}, headers=root)
    problem(answer, 409, "email_taken")


async def test_row_56_columns_cannot_be_set_through_admin_routes(
    api: Client, root: Headers
) -> None:
    alice = await api.create_user("alice@example.com")
    own = await sign_in(api.services, alice)
    columns = set(users.c.keys())
    for column in columns:
        value: Any = True
        for nested in ({column: value}, {"data": {column: value}}, {f"user.{column}": value}):
            answer = await api.patch("/me", json=nested, headers=own)
            assert answer.status_code == 422 or column == "locale", nested
    for column in columns - {"name", "is_active", "is_superuser", "roles"}:
        answer = await api.patch(f"{USERS}/{alice.id}", json={column: "x"}, headers=root)
        assert answer.status_code == 422, column
    for column in columns - {"name", "email", "roles"}:
        answer = await api.post(USERS, json={"email": "x@example.com", column: "x"}, headers=root)
        assert answer.status_code == 422, column
    found = await api.services.accounts.profiles.find(alice.id)
    assert (found.is_superuser, found.is_active, found.roles) == (False, True, frozenset())


async def test_v6_4_1_invited_user_sets_the_initial_password(api: Client, root: Headers) -> None:
    answer = await api.post(USERS, json={"email": "carol@example.com"}, headers=root)
    assert answer.status_code == 201
    assert not {"password", "token", "secret"} & answer.json().keys()
    url = api.services.settings.resolved_database_url
    rows = sql(url, "SELECT password_hash FROM authapi_users WHERE email = 'carol@example.com'")
    assert rows == [(None,)]
    for password in ("", " ", "carol@example.com", "None"):
        login = {"email": "carol@example.com", "password": password}
        assert (await api.post("/login", json=login)).status_code in (401, 422)


async def test_v6_4_6_superuser_cannot_set_a_password(api: Client, root: Headers) -> None:
    alice = await api.create_user("alice@example.com")
    for name in ("password", "new_password", "password_hash", "hashed_password"):
        answer = await api.patch(f"{USERS}/{alice.id}", json={name: PASSWORD * 2}, headers=root)
        input_errors(answer)
    assert (await api.login(alice)).status_code == 200


async def test_v8_3_1_claims_and_headers_do_not_make_a_superuser(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    login = await sign_in(api.services, alice, "jwt")
    token = login["authorization"].removeprefix("Bearer ")
    for name in ("X-Role", "X-Admin", "X-Superuser", "X-Forwarded-User", "X-HTTP-Method-Override"):
        headers = {**login, name: "superuser"}
        problem(await api.get(USERS, headers=headers), 403, "superuser_required")
    # Even with a valid signature: only the database decides who is a superuser.
    more = {"role": "admin", "roles": ["admin"], "is_superuser": True, "scope": "admin superuser"}
    signed = forge(header(), {**claims_of(token), **more})
    problem(await api.get(USERS, headers=bearer(signed)), 403, "superuser_required")
    identity = (await api.get("/me/identity", headers=bearer(signed))).json()
    assert identity["scopes"] == []
    # A scope or role of that name does not make a superuser.
    await api.services.accounts.administration.change(alice.id, {"roles": frozenset({"admin"})})
    login = await sign_in(api.services, alice)
    assert (await api.get("/me/identity", headers=login)).json()["scopes"] == ["admin"]
    problem(await api.get(USERS, headers=login), 403, "superuser_required")


async def test_v8_3_2_demotion_applies_at_once(api: Client, root: Headers) -> None:
    bob = await api.create_user("bob@example.com", is_superuser=True)
    held = {name: await sign_in(api.services, bob, name) for name in ("session", "jwt")}
    for headers in held.values():
        assert (await api.get(USERS, headers=headers)).status_code == 200
    path = f"{USERS}/{bob.id}"
    assert (await api.patch(path, json={"is_superuser": False}, headers=root)).status_code == 200
    for headers in held.values():
        for target in (USERS, EVENTS, f"{EVENTS}/export", path):
            problem(await api.get(target, headers=headers), 403, "superuser_required")
        answer = await api.patch(path, json={"is_superuser": True}, headers=headers)
        problem(answer, 403, "superuser_required")


def test_role_with_an_unknown_scope_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AUTHAPI_SCOPES", "a=A")
    monkeypatch.setenv("AUTHAPI_ROLES", "reader=b")
    with pytest.raises(ConfigurationError):
        load_settings()
