"""/me/sessions and /me/session."""

import asyncio
import json
import uuid
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine

from authapi import create_app
from authapi.crypto.ids import new_id
from authapi.crypto.secrets import hash_secret
from authapi.domain.session import FLASH, SessionKind
from authapi.storage.inspection import record_statements
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.responses import BEARER, check_headers, input_errors, problem, unnamed

SESSION_MEMBERS = {
    "id",
    "kind",
    "current",
    "created_at",
    "last_seen_at",
    "idle_expires_at",
    "expires_at",
    "ip",
    "user_agent",
}


def statements(api: Client) -> AbstractContextManager[list[str]]:
    """Collects the SQL statements inside the block."""
    return record_statements(api.services.database)


async def identifier(api: Client, headers: Headers) -> str:
    """The id of the session of these headers."""
    return str((await api.get("/me/identity", headers=headers)).json()["session_id"])


async def statuses(api: Client, *credentials: Headers) -> list[int]:
    return [(await api.get("/me", headers=headers)).status_code for headers in credentials]


# The list


async def test_own_logins_are_listed_newest_first(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    await sign_in(api_on_each.services, await api_on_each.create_user(), "token")
    logins = [await sign_in(api_on_each.services, alice, strategy) for strategy in STRATEGIES]
    body = {"email": alice.email, "password": "correct horse battery staple"}
    agent = {"user-agent": "Browser/1.0 " + "x" * 300}
    await api_on_each.post("/login", json=body, headers=agent)
    await api_on_each.post("/me/tokens", json={"name": "script"}, headers=logins[0])
    api_on_each.cookies.clear()

    response = await api_on_each.get("/me/sessions", headers=logins[0])
    assert response.status_code == 200
    check_headers(response)
    found = response.json()
    assert [item["kind"] for item in found] == ["session", "jwt", "token", "session"]
    assert [item["current"] for item in found] == [False, False, False, True]
    assert [item["id"] for item in found] == sorted((item["id"] for item in found), reverse=True)
    for item in found:
        assert item.keys() == SESSION_MEMBERS
        assert (item["idle_expires_at"] is None) == (item["kind"] == "token")
        assert item["ip"] == "127.0.0.1"
    assert found[0]["user_agent"] == agent["user-agent"][:255]
    assert found[-1]["id"] == await identifier(api_on_each, logins[0])
    for headers in logins:
        for value in headers.values():
            assert value.removeprefix("authapi=").removeprefix("Bearer ") not in response.text


async def test_listing_sessions_is_one_statement(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    headers = await sign_in(api_on_each.services, alice)
    counts = []
    for count in (0, 5):
        for _ in range(count):
            await sign_in(api_on_each.services, alice, "token")
        api_on_each.services.identity_cache.clear()
        with statements(api_on_each) as seen:
            listed = (await api_on_each.get("/me/sessions", headers=headers)).json()
        counts.append((len(listed), len(seen)))
    # One statement authenticates the caller, one lists the sessions.
    assert counts == [(1, 2), (6, 2)]


async def test_expired_sessions_are_not_listed(api: Client) -> None:
    alice = await api.create_user()
    for strategy in STRATEGIES:
        await sign_in(api.services, alice, strategy)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=31)):
        headers = await sign_in(api.services, alice, "session")
        listed = (await api.get("/me/sessions", headers=headers)).json()
    assert [item["current"] for item in listed] == [True]


async def test_last_use_is_current_before_it_is_stored(api: Client) -> None:
    alice = await api.create_user()
    headers = await sign_in(api.services, alice)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=False):
        [listed] = (await api.get("/me/sessions", headers=headers)).json()
    lasted = datetime.fromisoformat(listed["last_seen_at"]) - datetime.fromisoformat(
        listed["created_at"]
    )
    assert timedelta(minutes=59) < lasted < timedelta(minutes=61)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/me/sessions"),
        ("DELETE", "/me/sessions"),
        ("DELETE", f"/me/sessions/{uuid.UUID(int=0)}"),
        ("GET", "/me/tokens"),
        ("POST", "/me/tokens"),
        ("DELETE", f"/me/tokens/{uuid.UUID(int=0)}"),
    ],
)
async def test_opaque_tokens_cannot_manage_sessions_or_tokens(
    api: Client, method: str, path: str
) -> None:
    headers = await sign_in(api.services, await api.create_user(), "token")
    json_body = {"name": "x"} if method == "POST" else None
    response = await api.request(method, path, json=json_body, headers=headers)
    problem(response, 401, "unauthenticated")
    assert response.headers.get_list("www-authenticate") == [
        f'{BEARER}, error="invalid_token"',
        'Cookie realm="authapi", cookie-name="authapi"',
    ]


# Ending


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_one_login_can_be_ended(api_on_each: Client, strategy: str) -> None:
    alice = await api_on_each.create_user()
    mine, *others = [
        await sign_in(api_on_each.services, alice, name) for name in (strategy, *STRATEGIES)
    ]
    doomed = await identifier(api_on_each, others[1])
    response = await api_on_each.delete(f"/me/sessions/{doomed}", headers=mine)
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    assert await statuses(api_on_each, mine, *others) == [200, 200, 401, 200]
    again = await api_on_each.delete(f"/me/sessions/{doomed}", headers=mine)
    problem(again, 404, "not_found")
    own = await identifier(api_on_each, mine)
    assert (await api_on_each.delete(f"/me/sessions/{own}", headers=mine)).status_code == 204
    assert await statuses(api_on_each, mine) == [401]


async def test_a_session_of_another_account_is_not_found(api_on_each: Client) -> None:
    alice, bob = await api_on_each.create_user(), await api_on_each.create_user()
    hers = [await sign_in(api_on_each.services, alice, name) for name in STRATEGIES]
    his = await sign_in(api_on_each.services, bob)
    token = (await api_on_each.post("/me/tokens", json={"name": "hers"}, headers=hers[0])).json()[
        "id"
    ]
    reference = await api_on_each.delete(f"/me/sessions/{new_id()}", headers=his)
    problem(reference, 404, "not_found")
    for target in [*[await identifier(api_on_each, headers) for headers in hers], token]:
        for path in (f"/me/sessions/{target}", f"/me/tokens/{target}"):
            response = await api_on_each.delete(path, headers=his)
            assert unnamed(response) == unnamed(reference)
    assert await statuses(api_on_each, *hers) == [200, 200, 200]
    assert len((await api_on_each.get("/me/tokens", headers=hers[0])).json()) == 1


async def test_a_personal_token_is_not_found_among_sessions(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    made = await api_on_each.post("/me/tokens", json={"name": "x"}, headers=headers)
    token = made.json()
    response = await api_on_each.delete(f"/me/sessions/{token['id']}", headers=headers)
    problem(response, 404, "not_found")
    bearer = {"authorization": f"Bearer {token['access_token']}"}
    assert await statuses(api_on_each, bearer) == [200]


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_all_other_logins_can_be_ended(api_on_each: Client, strategy: str) -> None:
    alice, bob = await api_on_each.create_user(), await api_on_each.create_user()
    mine, *others = [
        await sign_in(api_on_each.services, alice, name) for name in (strategy, *STRATEGIES)
    ]
    his = await sign_in(api_on_each.services, bob)
    made = await api_on_each.post("/me/tokens", json={"name": "x"}, headers=mine)
    personal = {"authorization": f"Bearer {made.json()['access_token']}"}
    response = await api_on_each.delete("/me/sessions", headers=mine)
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    assert await statuses(api_on_each, mine, personal, his, *others) == [200] * 3 + [401] * 3
    assert (await api_on_each.delete("/me/sessions", headers=mine)).status_code == 204


@pytest.mark.parametrize("what", ["sessions", "tokens"])
@pytest.mark.parametrize(
    "given", ["x", "1", "%00", "%ff", "' OR 1=1 --", f"{uuid.UUID(int=7)}x", "null"]
)
async def test_invalid_ids_are_refused(api: Client, what: str, given: str) -> None:
    headers = await sign_in(api.services, await api.create_user())
    response = await api.delete(f"/me/{what}/{given}", headers=headers)
    name = f"{what[:-1]}_id"
    assert input_errors(response) == [(("path", name), "uuid_parsing")]


# Session data


async def test_session_data_can_be_read_and_merged(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    response = await api_on_each.get("/me/session", headers=headers)
    assert response.status_code == 200
    check_headers(response)
    empty = response.json()
    assert empty.keys() == {"id", "expires_at", "data"}
    assert empty["id"] == await identifier(api_on_each, headers)
    assert empty["data"] == {}

    steps: list[tuple[dict[str, object], dict[str, object]]] = [
        ({"theme": "dark", "": "🦉", "n": 1}, {"theme": "dark", "": "🦉", "n": 1}),
        ({}, {"theme": "dark", "": "🦉", "n": 1}),
        ({"n": None, "nothing": None, "": [None]}, {"theme": "dark", "": [None]}),
        # Only the top-level object is merged: members are replaced as a whole.
        ({"theme": {"a": 1.5, "b": None}}, {"theme": {"a": 1.5, "b": None}, "": [None]}),
        ({"theme": {"c": True}}, {"theme": {"c": True}, "": [None]}),
        ({"theme": None, "": None}, {}),
    ]
    for changes, expected in steps:
        response = await api_on_each.patch("/me/session", json=changes, headers=headers)
        assert response.status_code == 200
        check_headers(response)
        assert response.json() == {**empty, "data": expected}
        read = await api_on_each.get("/me/session", headers=headers)
        assert read.json() == response.json()


async def test_data_belongs_to_one_session(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    one = await sign_in(api_on_each.services, alice)
    two = await sign_in(api_on_each.services, alice)
    await api_on_each.patch("/me/session", json={"a": 1}, headers=one)
    assert (await api_on_each.get("/me/session", headers=two)).json()["data"] == {}


async def test_concurrent_changes_are_all_stored(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    await asyncio.gather(
        *(api_on_each.patch("/me/session", json={f"k{n}": n}, headers=headers) for n in range(10))
    )
    data = (await api_on_each.get("/me/session", headers=headers)).json()["data"]
    assert data == {f"k{n}": n for n in range(10)}


async def test_members_of_the_pages_are_not_written(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    for value in ("password 9", ["x"], None):
        changes = {"theme": "dark", "_forms": value, "_flash": value}
        answer = await api.patch("/me/session", json=changes, headers=headers)
        assert input_errors(answer) == [
            (("body", "_flash"), "extra_forbidden"),
            (("body", "_forms"), "extra_forbidden"),
        ]
        assert (await api.get("/me/session", headers=headers)).json()["data"] == {}


@pytest.mark.parametrize("letter", ["x", "ü", "🦉"])
async def test_data_is_limited_to_4_kib_of_utf_8(api_on_each: Client, letter: str) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())

    async def keep(name: str, size: int) -> httpx.Response:
        return await api_on_each.patch("/me/session", json={name: letter * size}, headers=headers)

    fits = (4096 - len('{"a":""}')) // len(letter.encode())
    assert (await keep("a", fits)).status_code == 200
    assert input_errors(await keep("a", fits + 1)) == [(("body",), "session_data_too_large")]
    assert input_errors(await keep("b", 1)) == [(("body",), "session_data_too_large")]
    kept = (await api_on_each.get("/me/session", headers=headers)).json()["data"]
    assert kept == {"a": letter * fits}
    # Members that the same request removes do not count.
    both = await api_on_each.patch(
        "/me/session", json={"a": None, "b": letter * fits}, headers=headers
    )
    assert both.status_code == 200


async def test_messages_of_pages_leave_the_space_to_the_application(api_on_each: Client) -> None:
    services = api_on_each.services
    login = await sign_in(services, await api_on_each.create_user())
    full = {"a": "x" * (4096 - len('{"a":""}'))}
    assert (await api_on_each.patch("/me/session", json=full, headers=login)).status_code == 200
    identity = await services.sessions.identify_by_secret(
        hash_secret(login["cookie"].partition("=")[2]), SessionKind.SESSION, strategy="session"
    )
    assert identity is not None
    await services.sessions.merge_data(identity, {FLASH: "name"})
    assert (await api_on_each.patch("/me/session", json=full, headers=login)).status_code == 200


async def test_the_data_limit_is_configurable(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(session_data_bytes=16))) as api:
        headers = await sign_in(api.services, await api.create_user())
        for size, status in [(8, 200), (9, 422)]:
            response = await api.patch("/me/session", json={"a": "x" * size}, headers=headers)
            assert response.status_code == status


@pytest.mark.parametrize("body", [[], "x", 1, True, [["a", 1]]])
async def test_data_must_be_an_object(api: Client, body: object) -> None:
    headers = await sign_in(api.services, await api.create_user())
    response = await api.patch(
        "/me/session",
        content=json.dumps(body),
        headers={**headers, "content-type": "application/json"},
    )
    assert input_errors(response) == [(("body",), "dict_type")]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_only_cookie_sessions_have_data(api: Client, method: str) -> None:
    alice = await api.create_user()
    cookie_only = 'Cookie realm="authapi", cookie-name="authapi"'
    json_body: dict[str, object] | None = {} if method == "PATCH" else None
    for strategy in ("token", "jwt"):
        headers = await sign_in(api.services, alice, strategy)
        response = await api.request(method, "/me/session", json=json_body, headers=headers)
        problem(response, 401, "unauthenticated")
        assert response.headers.get_list("www-authenticate") == [cookie_only]


async def test_data_is_deleted_with_its_session(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    await api.patch("/me/session", json={"a": 1}, headers=headers)
    await api.post("/logout", headers=headers)
    problem(await api.get("/me/session", headers=headers), 401, "unauthenticated")
