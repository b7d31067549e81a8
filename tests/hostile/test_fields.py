"""Invalid values of members, unknown members, SQL injection, and account ids in input."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import sqlalchemy as sa

from authapi.testing import PASSWORD
from tests.hostile.checked_app import JSON, CheckedApp, raw
from tests.hostile.nasty_json import CANARY
from tests.storage.rows import stored_users
from tests.tables import sessions, users
from tests.web.logins import sign_in
from tests.web.operations import Operation
from tests.web.responses import input_errors, problem

FORM = [(b"content-type", b"application/x-www-form-urlencoded")]
UNSTORABLE = ["\\u0000", "\\ud800", "\\udfff", "\\udc00\\ud800"]
"""JSON escapes of characters that PostgreSQL refuses or UTF-8 cannot encode."""
OF_ANOTHER_TYPE: list[Any] = [
    {CANARY: CANARY},
    [CANARY],
    [[CANARY]],
    CANARY,
    7331.7331,
    10**30,
    -1,
    True,
    None,
]
SQL = [
    "' OR '1'='1",
    "'; DROP TABLE users; --",
    '" OR ""="',
    "') OR 1=1 --",
    "admin'--",
    "' UNION SELECT password_hash FROM users --",
    "%' AND 1=(SELECT 1 FROM users) --",
    "\\'; SELECT pg_sleep(9); --",
    "1; ATTACH DATABASE 'x' AS x",
    "$1 :id ? %s %(id)s {0}",
]
ELSEWHERE = {
    "role": "admin",
    "roles": ["admin"],
    "admin": True,
    "is_admin": True,
    "is_verified": True,
    "hashed_password": CANARY,
    "user": {"is_superuser": True},
    "data": {"is_superuser": True},
    "security_question": CANARY,
    "isSuperuser": True,
    "is-superuser": True,
    "__proto__": {"is_superuser": True},
}


def members(operation: Operation) -> list[str]:
    """The members in the OpenAPI document; none for an object with arbitrary members."""
    return list(operation.body["application/json"].get("properties", {}))


def texts(body: dict[str, Any], value: str) -> Iterator[bytes]:
    """`body` with the JSON text `value` in each place for a string, also in names."""
    for name, given in body.items():
        others = {key: item for key, item in body.items() if key != name}
        rest = "".join(f",{json.dumps(key)}:{json.dumps(item)}" for key, item in others.items())
        for member in (
            f'{json.dumps(name)}:"{CANARY}{value}"',
            f'{json.dumps(name)}:"{value}"',
            f'{json.dumps(name)}:["a","{value}"]',
            f'{json.dumps(name)}:{{"a":{{"{value}":1}}}}',
            f'"{value}":1,{json.dumps(name)}:{json.dumps(given)}',
        ):
            yield f"{{{member}{rest}}}".encode()


async def snapshot(app: CheckedApp) -> list[tuple[Any, ...]]:
    """All rows, without `last_seen_at`, which each request changes."""
    found: list[tuple[Any, ...]] = []
    async with app.api.services.database.engine.connect() as connection:
        for table in (users, sessions):
            columns = [column for column in table.columns if column.name != "last_seen_at"]
            rows = await connection.execute(sa.select(*columns).order_by(table.c.id))
            found += [tuple(row) for row in rows]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("escape", UNSTORABLE)
async def test_unstorable_characters_are_refused_in_every_member(
    app: CheckedApp, escape: str
) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        before = await snapshot(app)
        for body in texts(operation.example, escape):
            response = await app.ask(operation.method, operation.path, headers=headers, body=body)
            problem(response, 400, "malformed_json")
        assert await snapshot(app) == before


async def test_unstorable_characters_are_refused_in_forms(app: CheckedApp) -> None:
    await app.api.create_user("alice@example.com")
    good = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
    for bad in ("%00", "%ff", "%ed%a0%80", "%c0%80", "%e2%82", "\x00", "\xff", "ü"):
        for name in (*good, "scope"):
            pairs = [
                f"{key}={quote_plus(value)}{CANARY if key == name else ''}"
                for key, value in {**good, "scope": ""}.items()
            ]
            at = [*good, "scope"].index(name)
            pairs[at] += bad
            for body in ("&".join(pairs), "&".join([*pairs, f"{name}{bad}=1"])):
                response = await app.ask("POST", "/token", headers=FORM, body=body.encode())
                problem(response, 400, "invalid_request")


async def test_values_of_other_types_are_not_converted(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        schema = operation.body["application/json"]
        for name in members(operation):
            for value in OF_ANOTHER_TYPE:
                if _fits(schema["properties"][name], value):
                    continue
                body = json.dumps({**operation.example, name: value}).encode()
                response = await app.ask(
                    operation.method, operation.path, headers=headers, body=body
                )
                found = input_errors(response)
                assert {loc[:2] for loc, _ in found} == {("body", name)}, (operation, value)


def _fits(schema: dict[str, Any], value: Any) -> bool:
    kinds = {item.get("type") for item in schema.get("anyOf", [schema])}
    of_value = {bool: "boolean", int: "integer", str: "string", type(None): "null"}
    return of_value.get(type(value)) in kinds or (isinstance(value, list) and "array" in kinds)


async def test_too_long_strings_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        schema = operation.body["application/json"]
        for name in operation.example:
            kinds = schema.get("properties", {}).get(name, {})
            if "string" not in json.dumps(kinds) and kinds:
                continue
            for value in (CANARY * 5000, "ü" * 30_000):
                body = json.dumps({**operation.example, name: value}, ensure_ascii=False).encode()
                response = await app.ask(
                    operation.method, operation.path, headers=headers, body=body
                )
                problem(response, 422, "validation_failed")


@pytest.mark.slow
async def test_unknown_members_cannot_write_columns(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    columns = {column.name for table in (users, sessions) for column in table.columns}
    assert {"is_superuser", "password_hash", "email_confirmed_at", "secret_hash"} <= columns
    for operation in app.json_readers:
        schema = operation.body["application/json"]
        if "properties" not in schema:
            continue  # session data may have any member; see the next test
        headers = [*JSON, *await app.headers(operation, user)]
        before = await snapshot(app)
        for name in sorted((columns | ELSEWHERE.keys()) - schema["properties"].keys()):
            for value in (True, None, str(user.id), ELSEWHERE.get(name, 1)):
                body = json.dumps({**operation.example, name: value}).encode()
                response = await app.ask(
                    operation.method, operation.path, headers=headers, body=body
                )
                [(loc, code)] = input_errors(response)
                assert code == "extra_forbidden"
                # Accounts have no user names by default: routes that know the member refuse it.
                assert loc == ("body", "?") or (name, loc) == ("username", ("body", "username"))
        assert await snapshot(app) == before


async def test_session_data_cannot_write_columns(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com")
    headers = [*JSON, *raw(await sign_in(app.api.services, user))]
    columns = {column.name for table in (users, sessions) for column in table.columns}
    [*_, before] = await snapshot(app)
    body = json.dumps(dict.fromkeys(columns, "x")).encode()
    response = await app.ask("PATCH", "/me/session", headers=headers, body=body)
    assert response.json()["data"] == dict.fromkeys(columns, "x")
    [unchanged_user, after] = await snapshot(app)
    kept = [column.name for column in sessions.columns if column.name != "last_seen_at"]
    each = zip(kept, before, after, strict=True)
    assert [name for name, was, value in each if was != value] == ["data"]
    assert unchanged_user[0] == user.id
    me = (await app.ask("GET", "/me", headers=headers)).json()
    assert (me["is_superuser"], me["email"]) == (False, "alice@example.com")


async def test_sql_injection_has_no_effect(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com")
    cookie = raw(await sign_in(app.api.services, user))
    before = await snapshot(app)
    for text in SQL:
        bearer = b"Bearer " + text.encode()
        bare: list[tuple[int, str, str, list[tuple[bytes, bytes]]]] = [
            (401, "GET", "/me", [(b"authorization", bearer)]),
            (401, "GET", "/me", [(b"authorization", b"Bearer aat_" + text.encode())]),
            (401, "GET", "/me", [(b"cookie", b"authapi=" + text.encode())]),
            (422, "DELETE", f"/me/sessions/{quote(text)}", cookie),
            (422, "DELETE", f"/me/tokens/{quote(text)}", cookie),
        ]
        for status, method, path, headers in bare:
            response = await app.ask(method, path, headers=headers)
            assert response.status_code == status, (method, path)
        bodies: list[tuple[int, str, dict[str, Any]]] = [
            (422, "/login", {"email": text, "password": PASSWORD}),
            (401, "/login", {"email": "alice@example.com", "password": text}),
            (422, "/register", {"email": text, "password": PASSWORD}),
            (422, "/me/tokens", {"name": "x", "scopes": [text]}),
        ]
        for status, path, body in bodies:
            content = json.dumps(body).encode()
            response = await app.ask("POST", path, headers=[*JSON, *cookie], body=content)
            assert response.status_code == status, path
    assert await snapshot(app) == before


async def test_sql_is_stored_as_text(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com")
    headers = [*JSON, *raw(await sign_in(app.api.services, user))]
    login = json.dumps({"email": "alice@example.com", "password": PASSWORD}).encode()
    for text in SQL:
        named = json.dumps({"name": text}).encode()
        for method, path in (("PATCH", "/me"), ("POST", "/me/tokens")):
            response = await app.ask(method, path, headers=headers, body=named)
            assert response.json()["name"] == text
        kept = json.dumps({text: text}).encode()
        response = await app.ask("PATCH", "/me/session", headers=headers, body=kept)
        assert response.json()["data"][text] == text
        agent = [*JSON, (b"user-agent", text.encode())]
        assert (await app.ask("POST", "/login", headers=agent, body=login)).status_code == 200
        listed = (await app.ask("GET", "/me/sessions", headers=headers)).json()
        assert listed[0]["user_agent"] == text
    assert len(await stored_users(app.api.services.database)) == 1


async def test_only_the_credential_selects_the_account(app: CheckedApp) -> None:
    alice = await app.api.create_user("alice@example.com", name="Alice")
    bob = await app.api.create_user("bob@example.com", name="Bob")
    for operation in app.json_readers:
        if operation.is_open:
            continue
        for name in ("id", "user_id", "sub", "owner", "account"):
            body = json.dumps({**operation.example, name: str(alice.id)}).encode()
            response = await app.ask(operation.method, operation.path, headers=JSON, body=body)
            problem(response, 401, "unauthenticated")
            headers = [*JSON, *await app.headers(operation, bob)]
            await app.ask(operation.method, operation.path, headers=headers, body=body)
    query = f"user_id={alice.id}&id={alice.id}".encode()
    headers = [*raw(await sign_in(app.api.services, bob)), (b"x-user-id", str(alice.id).encode())]
    me = await app.ask("GET", "/me", headers=headers, query=query)
    assert me.json()["id"] == str(bob.id)
    assert await app.api.services.accounts.profiles.find(alice.id) == alice
    assert await app.api.services.sessions.list_for_user(alice.id) == []
    assert await app.api.services.tokens.personal.list_of(alice.id) == []
