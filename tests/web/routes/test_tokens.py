"""/me/tokens: personal access tokens. `test_exchange` tests JWTs for other services."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
import time_machine

from authapi import create_app
from authapi.crypto.ids import new_id
from authapi.testing import Client, acting_as, client
from authapi.testing.strategy_harness import statements
from tests.conftest import SettingsFactory
from tests.web.logins import Headers, sign_in
from tests.web.responses import BEARER, check_headers, input_errors, problem

SCOPES = {"reports:read": "Read reports", "reports:write": "Write reports"}
MEMBERS = {"id", "name", "scopes", "created_at", "last_used_at", "expires_at"}
SECRET_MEMBERS = MEMBERS | {"access_token", "token_type"}


def bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_the_secret_is_shown_once(api_on_each: Client, strategy: str) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user(), strategy)
    response = await api_on_each.post("/me/tokens", json={"name": "backup 🦉"}, headers=headers)
    assert response.status_code == 201
    check_headers(response)
    made = response.json()
    assert made.keys() == SECRET_MEMBERS
    assert (made["name"], made["scopes"], made["last_used_at"]) == ("backup 🦉", [], None)
    assert made["token_type"] == "bearer"
    secret = made["access_token"]
    assert len(secret) == len("aat_") + 43 + 6
    assert secret.startswith("aat_")
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(days=90)

    listed = await api_on_each.get("/me/tokens", headers=headers)
    assert listed.status_code == 200
    check_headers(listed)
    assert listed.json() == [{name: made[name] for name in MEMBERS}]
    assert secret not in listed.text
    async with api_on_each.services.database.engine.connect() as connection:
        for table in ("users", "sessions"):
            for row in await connection.execute(sa.text(f"SELECT * FROM authapi_{table}")):
                assert secret not in str(row)
                assert secret.removeprefix("aat_")[:43] not in str(row)


async def test_tokens_are_listed_newest_first_without_logins(api_on_each: Client) -> None:
    alice, bob = await api_on_each.create_user(), await api_on_each.create_user()
    hers = await sign_in(api_on_each.services, alice)
    his = await sign_in(api_on_each.services, bob)
    await sign_in(api_on_each.services, alice, "token")
    for headers, name in [(hers, "a"), (his, "b"), (hers, "c"), (hers, "a")]:
        await api_on_each.post("/me/tokens", json={"name": name}, headers=headers)
    listed = (await api_on_each.get("/me/tokens", headers=hers)).json()
    assert sorted(item["name"] for item in listed) == ["a", "a", "c"]
    assert [item["id"] for item in listed] == sorted((i["id"] for i in listed), reverse=True)


async def test_a_token_has_only_its_scopes(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(scopes=SCOPES))) as api:
        headers = await sign_in(api.services, await api.create_user())
        granted = {}
        for scopes in (None, ["reports:read"], []):
            body = {"name": "x", "scopes": scopes}
            made = (await api.post("/me/tokens", json=body, headers=headers)).json()
            identity = await api.get("/me/identity", headers=bearer(made["access_token"]))
            assert identity.json()["scopes"] == made["scopes"]
            assert identity.json()["session_id"] == made["id"]
            granted[str(scopes)] = made["scopes"]
        assert granted == {
            "None": ["reports:read", "reports:write"],
            "['reports:read']": ["reports:read"],
            "[]": [],
        }


async def test_scopes_of_the_caller_limit_those_of_a_token(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(scopes=SCOPES))) as api:
        alice = await api.create_user()
        not_allowed = [(("body", "scopes"), "scope_not_allowed")]
        with acting_as(alice, scopes={"reports:read"}, strategy="jwt"):
            for scopes in (["reports:write"], ["reports:read", "reports:write"], ["admin"]):
                response = await api.post("/me/tokens", json={"name": "x", "scopes": scopes})
                assert input_errors(response) == not_allowed
            made = await api.post("/me/tokens", json={"name": "x"})
            assert made.json()["scopes"] == ["reports:read"]


@pytest.mark.parametrize("seconds", [1, 3600, 366 * 86400])
async def test_a_token_has_the_requested_lifetime(api: Client, seconds: int) -> None:
    headers = await sign_in(api.services, await api.create_user())
    start = datetime.now(UTC)
    with time_machine.travel(start, tick=False):
        body = {"name": "x", "expires_in": seconds}
        made = (await api.post("/me/tokens", json=body, headers=headers)).json()
    assert datetime.fromisoformat(made["expires_at"]) == start + timedelta(seconds=seconds)
    for age, status in [(seconds - 0.5, 200), (seconds, 401)]:
        with time_machine.travel(start + timedelta(seconds=age), tick=False):
            response = await api.get("/me", headers=bearer(made["access_token"]))
            assert response.status_code == status


async def test_integral_floats_are_accepted(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    content = b'{"name": "x", "expires_in": 6.0e1}'
    typed = {**headers, "content-type": "application/json"}
    made = (await api.post("/me/tokens", content=content, headers=typed)).json()
    lasts = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["created_at"])
    assert lasts == timedelta(seconds=60)


async def test_last_used_at_is_updated(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    made = (await api_on_each.post("/me/tokens", json={"name": "x"}, headers=headers)).json()
    used = datetime.now(UTC) + timedelta(minutes=1)
    with time_machine.travel(used, tick=False):
        await api_on_each.get("/me", headers=bearer(made["access_token"]))
    await api_on_each.services.last_used.flush()
    [listed] = (await api_on_each.get("/me/tokens", headers=headers)).json()
    assert datetime.fromisoformat(listed["last_used_at"]) == used


async def test_using_a_token_writes_nothing(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    made = (await api_on_each.post("/me/tokens", json={"name": "x"}, headers=headers)).json()
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=2)):
        for expected in (
            1,
            0,
        ):  # the first request reads the database; later ones use the identity cache
            with statements(api_on_each) as seen:
                answer = await api_on_each.get("/me", headers=bearer(made["access_token"]))
            assert answer.status_code == 200
            assert len(seen) == expected
            assert all(text.startswith("SELECT") for text in seen)
        [before] = (await api_on_each.get("/me/tokens", headers=headers)).json()
        await api_on_each.services.last_used.flush()
        [after] = (await api_on_each.get("/me/tokens", headers=headers)).json()
    assert before["last_used_at"] is None
    assert after["last_used_at"] is not None


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_creating_a_token_requires_a_recent_login(api: Client, strategy: str) -> None:
    headers = await sign_in(api.services, await api.create_user(), strategy)
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=310)):
        response = await api.post("/me/tokens", json={"name": "x"}, headers=headers)
        problem(response, 401, "stale_authentication")
        assert response.headers.get_list("www-authenticate") == [
            f'{BEARER}, error="insufficient_user_authentication", max_age="300"',
            'Cookie realm="authapi", cookie-name="authapi"',
        ]
        assert (await api.get("/me/tokens", headers=headers)).json() == []


async def test_a_token_can_be_revoked(api_on_each: Client) -> None:
    headers = await sign_in(api_on_each.services, await api_on_each.create_user())
    doomed, kept = [
        (await api_on_each.post("/me/tokens", json={"name": "x"}, headers=headers)).json()
        for _ in range(2)
    ]
    path = f"/me/tokens/{doomed['id']}"
    response = await api_on_each.delete(path, headers=headers)
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    problem(await api_on_each.delete(path, headers=headers), 404, "not_found")
    problem(
        await api_on_each.get("/me", headers=bearer(doomed["access_token"])), 401, "unauthenticated"
    )
    assert (await api_on_each.get("/me", headers=bearer(kept["access_token"]))).status_code == 200
    listed = (await api_on_each.get("/me/tokens", headers=headers)).json()
    assert [item["id"] for item in listed] == [kept["id"]]


async def test_a_login_is_not_found_among_tokens(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    headers = await sign_in(api_on_each.services, alice)
    other = await sign_in(api_on_each.services, alice, "token")
    identity = (await api_on_each.get("/me/identity", headers=other)).json()
    for target in (identity["session_id"], str(new_id())):
        response = await api_on_each.delete(f"/me/tokens/{target}", headers=headers)
        problem(response, 404, "not_found")
    assert (await api_on_each.get("/me", headers=other)).status_code == 200


async def test_a_token_can_log_out(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    made = (await api.post("/me/tokens", json={"name": "x"}, headers=headers)).json()
    token = bearer(made["access_token"])
    assert (await api.post("/logout", headers=token)).status_code == 204
    assert (await api.get("/me", headers=token)).status_code == 401
    assert (await api.get("/me/tokens", headers=headers)).json() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "jwt "}, [(("body", "kind"), "literal_error")]),
        ({"kind": None}, [(("body", "kind"), "literal_error")]),
        ({"kind": ["token"]}, [(("body", "kind"), "literal_error")]),
        ({"audience": "billing"}, [(("body", "?"), "extra_forbidden")]),
        ({"name": ""}, [(("body", "name"), "string_too_short")]),
        ({"name": "x" * 101}, [(("body", "name"), "string_too_long")]),
        ({"name": "a\tb"}, [(("body", "name"), "string_pattern_mismatch")]),
        ({"name": None}, [(("body", "name"), "string_type")]),
        ({"scopes": "a b"}, [(("body", "scopes"), "list_type")]),
        ({"scopes": ["a b"]}, [(("body", "scopes", 0), "string_pattern_mismatch")]),
        ({"scopes": ["a", 1]}, [(("body", "scopes", 1), "string_type")]),
        ({"scopes": ["a", "a"]}, [(("body", "scopes"), "duplicate_items")]),
        ({"scopes": ["none-such"]}, [(("body", "scopes"), "scope_not_allowed")]),
        ({"scopes": [f"s{n}" for n in range(101)]}, [(("body", "scopes"), "too_long")]),
        ({"expires_in": 0}, [(("body", "expires_in"), "greater_than_equal")]),
        ({"expires_in": -1}, [(("body", "expires_in"), "greater_than_equal")]),
        ({"expires_in": 1.5}, [(("body", "expires_in"), "int_type")]),
        ({"expires_in": 1e300}, [(("body", "expires_in"), "less_than_equal")]),
        ({"expires_in": "60"}, [(("body", "expires_in"), "int_type")]),
        ({"expires_in": True}, [(("body", "expires_in"), "int_type")]),
        ({"expires_in": 366 * 86400 + 1}, [(("body", "expires_in"), "lifetime_too_long")]),
        ({"expires_in": 10**4000}, [(("body", "expires_in"), "less_than_equal")]),
    ],
)
async def test_invalid_requests_are_refused(
    api: Client, change: dict[str, object], expected: list[tuple[tuple[object, ...], str]]
) -> None:
    headers = await sign_in(api.services, await api.create_user())
    response = await api.post("/me/tokens", json={"name": "x", **change}, headers=headers)
    assert input_errors(response) == expected
    assert (await api.get("/me/tokens", headers=headers)).json() == []
