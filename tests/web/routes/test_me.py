"""/me, /me/identity and /me/password."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
import time_machine

from authapi.domain.user import User
from authapi.testing import PASSWORD, Client
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.responses import BEARER, check_headers, input_errors, problem, unnamed

REVALIDATE = "private, no-cache"
NEW_PASSWORD = "another horse, another battery"
CHALLENGES = [
    BEARER,
    'Cookie realm="authapi", cookie-name="authapi"',
]
STALE_CHALLENGES = [
    f'{BEARER}, error="insufficient_user_authentication", max_age="300"',
    'Cookie realm="authapi", cookie-name="authapi"',
]


async def login(api: Client, user: User, strategy: str = "session") -> Headers:
    return await sign_in(api.services, user, strategy)


async def personal_token(api: Client, headers: Headers) -> Headers:
    response = await api.post("/me/tokens", json={"name": "script"}, headers=headers)
    return {"authorization": f"Bearer {response.json()['access_token']}"}


async def statuses(api: Client, *credentials: Headers) -> list[int]:
    return [(await api.get("/me", headers=headers)).status_code for headers in credentials]


async def rows(api: Client, table: str) -> int:
    async with api.services.database.engine.connect() as connection:
        found = await connection.execute(sa.text(f"SELECT count(*) FROM authapi_{table}"))
        return int(found.scalar_one())


# Reading


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_own_account_is_returned(api_on_each: Client, strategy: str) -> None:
    alice = await api_on_each.create_user("Alice@example.com", name="Alice", is_superuser=True)
    headers = await login(api_on_each, alice, strategy)
    response = await api_on_each.get("/me", headers=headers)
    assert response.status_code == 200
    check_headers(response, cache_control=REVALIDATE)
    assert response.headers["content-type"] == "application/json"
    created = f"{alice.created_at:%Y-%m-%dT%H:%M:%S.%f}Z"
    assert response.json() == {
        "id": str(alice.id),
        "email": "Alice@example.com",
        "name": "Alice",
        "username": None,
        "is_active": True,
        "is_superuser": True,
        "email_confirmed_at": None,
        "created_at": created,
        "updated_at": created,
        "locale": None,
        "roles": [],
    }


async def test_an_unchanged_account_is_a_304(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    headers = await login(api_on_each, alice)
    first = await api_on_each.get("/me", headers=headers)
    etag = first.headers["etag"]
    assert etag.startswith('"')
    for condition in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        response = await api_on_each.get("/me", headers={**headers, "if-none-match": condition})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == etag
        check_headers(response, cache_control=REVALIDATE)
    changed = await api_on_each.patch("/me", json={"name": "Al"}, headers=headers)
    assert changed.headers["etag"] != etag
    for condition in (etag, '""', "x", ""):
        response = await api_on_each.get("/me", headers={**headers, "if-none-match": condition})
        assert response.status_code == 200
        assert response.content == changed.content
        assert response.headers["etag"] == changed.headers["etag"]


@pytest.mark.parametrize("path", ["/me", "/me/identity"])
async def test_callers_without_a_credential_are_refused(api: Client, path: str) -> None:
    response = await api.get(path)
    problem(response, 401, "unauthenticated")
    assert response.headers.get_list("www-authenticate") == CHALLENGES


async def test_a_token_in_the_url_is_ignored(api: Client) -> None:
    alice = await api.create_user()
    token = (await login(api, alice, "token"))["authorization"].removeprefix("Bearer ")
    response = await api.get(f"/me?access_token={token}&token={token}")
    problem(response, 401, "unauthenticated")


async def test_unknown_and_repeated_parameters_are_ignored(api: Client) -> None:
    headers = await login(api, await api.create_user(), "token")
    plain = await api.get("/me", headers=headers)
    for query in ("callback=x", "id=1&id=2", "email=a@example.com&email=", "a[]=1;b=2", "%00=%ff"):
        response = await api.get(f"/me?{query}", headers=headers)
        assert (response.status_code, response.content) == (200, plain.content)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_identity_describes_the_credential(api_on_each: Client, strategy: str) -> None:
    alice = await api_on_each.create_user()
    headers = await login(api_on_each, alice, strategy)
    response = await api_on_each.get("/me/identity", headers=headers)
    assert response.status_code == 200
    check_headers(response)
    body = response.json()
    sessions = await api_on_each.services.sessions.list_for_user(alice.id)
    ends = sessions[0].expires_at
    if strategy == "jwt":  # the JWT expires before its session
        ends = (sessions[0].created_at + timedelta(minutes=10)).replace(microsecond=0)
    assert body == {
        "user_id": str(alice.id),
        "strategy": strategy,
        "session_id": str(sessions[0].id),
        "scopes": [],
        "auth_time": f"{sessions[0].auth_time:%Y-%m-%dT%H:%M:%S.%f}Z",
        "amr": ["pwd"],
        "acr": "urn:authapi:acr:1",
        "mfa_at": None,
        "expires_at": f"{ends:%Y-%m-%dT%H:%M:%S.%f}Z",
    }


async def test_a_personal_token_has_no_amr(api: Client) -> None:
    alice = await api.create_user()
    headers = await personal_token(api, await login(api, alice))
    body = (await api.get("/me/identity", headers=headers)).json()
    assert (body["strategy"], body["amr"]) == ("token", [])


# Changing


async def test_the_name_can_be_changed(api_on_each: Client) -> None:
    headers = await login(api_on_each, await api_on_each.create_user(name="Alice"))
    before = (await api_on_each.get("/me", headers=headers)).json()
    response = await api_on_each.patch("/me", json={"name": "Al 🦉"}, headers=headers)
    assert response.status_code == 200
    check_headers(response, cache_control=REVALIDATE)
    after = response.json()
    assert after["updated_at"] > before["updated_at"]
    assert after == {**before, "name": "Al 🦉", "updated_at": after["updated_at"]}
    read = await api_on_each.get("/me", headers=headers)
    assert (read.content, read.headers["etag"]) == (response.content, response.headers["etag"])


async def test_null_removes_the_name_and_omission_keeps_it(api_on_each: Client) -> None:
    headers = await login(api_on_each, await api_on_each.create_user(name="Alice"))
    before = await api_on_each.get("/me", headers=headers)
    kept = await api_on_each.patch("/me", json={}, headers=headers)
    assert (kept.status_code, kept.content) == (200, before.content)
    assert kept.headers["etag"] == before.headers["etag"]
    same = await api_on_each.patch("/me", json={"name": "Alice"}, headers=headers)
    assert same.content == before.content
    removed = await api_on_each.patch("/me", json={"name": None}, headers=headers)
    assert removed.status_code == 200
    assert removed.json()["name"] is None


async def test_an_empty_change_does_not_revert_a_concurrent_change(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await api.create_user(name="Alice")
    headers = await login(api, alice)
    profiles = api.services.accounts.profiles
    find, edit = profiles.find, profiles.edit

    async def late_find(user_id: UUID) -> User:
        await edit(alice.id, {"name": "Meanwhile"}, is_stale=lambda _: False)
        return await find(user_id)

    async def late_edit(
        user_id: UUID, changes: Mapping[str, str | None], *, is_stale: Callable[[User], bool]
    ) -> User:
        await edit(alice.id, {"name": "Meanwhile"}, is_stale=lambda _: False)
        return await edit(user_id, changes, is_stale=is_stale)

    monkeypatch.setattr(profiles, "find", late_find)
    monkeypatch.setattr(profiles, "edit", late_edit)
    response = await api.patch("/me", json={}, headers=headers)
    assert response.json()["name"] == "Meanwhile"


async def test_if_match_is_honoured(api_on_each: Client) -> None:
    headers = await login(api_on_each, await api_on_each.create_user(name="Alice"))
    etag = (await api_on_each.get("/me", headers=headers)).headers["etag"]

    async def patch(condition: str, body: Mapping[str, object]) -> httpx.Response:
        return await api_on_each.patch("/me", json=body, headers={**headers, "if-match": condition})

    for stale in ('"x"', f"W/{etag}", etag.strip('"'), ""):
        for body in ({"name": "Al"}, dict[str, str]()):
            problem(await patch(stale, body), 412, "precondition_failed")
    changed = await patch(f'"x", {etag}', {"name": "Al"})
    assert changed.status_code == 200
    problem(await patch(etag, {"name": "Alice"}), 412, "precondition_failed")
    problem(await patch(etag, {}), 412, "precondition_failed")
    assert (await patch(changed.headers["etag"], {"name": "Alice"})).status_code == 200
    assert (await patch("*", {"name": "Al"})).status_code == 200


async def test_one_of_many_conditional_changes_succeeds(api_on_each: Client) -> None:
    headers = await login(api_on_each, await api_on_each.create_user(name="Alice"), "token")
    for _ in range(3):
        etag = (await api_on_each.get("/me", headers=headers)).headers["etag"]
        responses = await asyncio.gather(
            *(
                api_on_each.patch(
                    "/me", json={"name": f"{etag} {n}"}, headers={**headers, "if-match": etag}
                )
                for n in range(8)
            )
        )
        assert Counter(r.status_code for r in responses) == {200: 1, 412: 7}
        [winner] = [r for r in responses if r.status_code == 200]
        assert (await api_on_each.get("/me", headers=headers)).content == winner.content


async def test_restoring_a_name_does_not_restore_the_etag(api: Client) -> None:
    headers = await login(api, await api.create_user(name="a"))
    seen = [(await api.get("/me", headers=headers)).headers["etag"]]
    with time_machine.travel(datetime.now(UTC), tick=False):
        for name in "babab":
            response = await api.patch("/me", json={"name": name}, headers=headers)
            seen.append(response.headers["etag"])
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"name": ""}, (("body", "name"), "string_too_short")),
        ({"name": "x" * 201}, (("body", "name"), "string_too_long")),
        ({"name": "\u202e\u2028"}, (("body", "name"), "string_pattern_mismatch")),
        ({"name": ["a"]}, (("body", "name"), "string_type")),
        ([], (("body",), "model_attributes_type")),
        (None, (("body",), "missing")),
    ],
)
async def test_invalid_names_are_refused(
    api: Client, body: object, expected: tuple[tuple[str, ...], str]
) -> None:
    headers = await login(api, await api.create_user(name="Alice"), "token")
    response = await api.patch("/me", json=body, headers=headers)
    assert input_errors(response) == [expected]
    assert (await api.get("/me", headers=headers)).json()["name"] == "Alice"


# Removing


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_deleting_the_account_deletes_all_data(api_on_each: Client, strategy: str) -> None:
    bob = await api_on_each.create_user("bob@example.com")
    bystander = await login(api_on_each, bob)
    alice = await api_on_each.create_user("alice@example.com")
    others = [await login(api_on_each, alice, name) for name in STRATEGIES]
    others.append(await personal_token(api_on_each, others[0]))
    mine = await login(api_on_each, alice, strategy)

    response = await api_on_each.delete("/me", headers=mine)
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    assert await statuses(api_on_each, mine, *others) == [401] * 5
    assert (await rows(api_on_each, "users"), await rows(api_on_each, "sessions")) == (1, 1)
    assert await statuses(api_on_each, bystander) == [200]
    refused = await api_on_each.post(
        "/login", json={"email": "alice@example.com", "password": PASSWORD}
    )
    problem(refused, 401, "invalid_credentials")

    again = await api_on_each.post(
        "/register", json={"email": "alice@example.com", "password": PASSWORD}
    )
    assert again.status_code == 201
    assert again.json()["id"] != str(alice.id)
    assert await statuses(api_on_each, mine, *others) == [401] * 5


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_deletion_requires_a_recent_login(api: Client, strategy: str) -> None:
    alice = await api.create_user()
    headers = await login(api, alice, strategy)
    start = datetime.now(UTC)
    with time_machine.travel(start + timedelta(seconds=310), tick=False):
        response = await api.delete("/me", headers=headers)
        problem(response, 401, "stale_authentication")
        assert response.headers.get_list("www-authenticate") == STALE_CHALLENGES
        assert await statuses(api, headers) == [200]
    with time_machine.travel(start + timedelta(seconds=290), tick=False):
        assert (await api.delete("/me", headers=headers)).status_code == 204


async def test_a_personal_token_never_counts_as_recent_login(api: Client) -> None:
    headers = await personal_token(api, await login(api, await api.create_user()))
    response = await api.delete("/me", headers=headers)
    problem(response, 401, "stale_authentication")
    assert response.headers.get_list("www-authenticate") == STALE_CHALLENGES
    assert await statuses(api, headers) == [200]


# The password


async def change(api: Client, headers: Headers, **changes: object) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD, **changes}
    return await api.post("/me/password", json=body, headers=headers)


async def test_a_password_change_ends_all_other_sessions(api_on_each: Client) -> None:
    alice = await api_on_each.create_user("alice@example.com")
    others = [await login(api_on_each, alice, name) for name in STRATEGIES]
    others.append(await personal_token(api_on_each, others[0]))
    mine = await login(api_on_each, alice)
    session = (await api_on_each.get("/me/session", headers=mine)).json()["id"]

    response = await change(api_on_each, mine)
    assert response.status_code == 204
    assert response.content == b""
    check_headers(response)
    [set_cookie] = response.headers.get_list("set-cookie")
    cookie = SimpleCookie(set_cookie)["authapi"]
    api_on_each.cookies.clear()
    assert set_cookie == f"authapi={cookie.value}; Path=/; HttpOnly; SameSite=Lax"
    renewed = {"cookie": f"authapi={cookie.value}"}
    assert renewed != mine
    assert await statuses(api_on_each, renewed, mine, *others) == [200, 401, 401, 401, 401, 401]
    assert (await api_on_each.get("/me/session", headers=renewed)).json()["id"] == session

    for password, status in [(PASSWORD, 401), (NEW_PASSWORD, 200)]:
        body = {"email": "alice@example.com", "password": password}
        assert (await api_on_each.post("/login", json=body)).status_code == status


async def test_a_password_change_keeps_the_jwt_of_the_request(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    mine = await login(api_on_each, alice, "jwt")
    others = [await login(api_on_each, alice, name) for name in STRATEGIES]
    response = await change(api_on_each, mine)
    assert response.status_code == 204
    assert "set-cookie" not in response.headers
    assert await statuses(api_on_each, mine, *others) == [200, 401, 401, 401]


async def test_a_password_change_does_not_affect_other_accounts(api: Client) -> None:
    bystander = await login(api, await api.create_user())
    assert (await change(api, await login(api, await api.create_user()))).status_code == 204
    assert await statuses(api, bystander) == [200]


async def test_an_opaque_token_cannot_change_the_password(api: Client) -> None:
    alice = await api.create_user()
    session = await login(api, alice)
    for headers in (await login(api, alice, "token"), await personal_token(api, session)):
        response = await change(api, headers)
        problem(response, 401, "unauthenticated")
        assert response.headers.get_list("www-authenticate") == [
            f'{BEARER}, error="invalid_token"',
            'Cookie realm="authapi", cookie-name="authapi"',
        ]


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_wrong_current_password_changes_nothing(api: Client, strategy: str) -> None:
    alice = await api.create_user()
    headers, other = await login(api, alice, strategy), await login(api, alice)
    problem(await change(api, headers, current_password="wrong"), 403, "wrong_password")
    assert await statuses(api, headers, other) == [200, 200]
    assert (await api.login(alice)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"new_password": PASSWORD}, ("new_password", "password_unchanged")),
        ({"new_password": "x" * 14}, ("new_password", "password_too_short")),
        ({"new_password": "x" * 1025}, ("new_password", "string_too_long")),
        ({"new_password": None}, ("new_password", "string_type")),
        ({"current_password": None}, ("current_password", "string_type")),
        ({"current_password": ""}, ("current_password", "string_too_short")),
    ],
)
async def test_invalid_passwords_are_refused(
    api: Client, changes: dict[str, object], expected: tuple[str, str]
) -> None:
    alice = await api.create_user()
    headers, other = await login(api, alice), await login(api, alice)
    field, code = expected
    assert input_errors(await change(api, headers, **changes)) == [(("body", field), code)]
    assert await statuses(api, headers, other) == [200, 200]


async def test_policy_errors_do_not_reveal_the_current_password(
    api: Client,
) -> None:
    # Only a caller who knows the password learns that the new password is the same.
    headers = await login(api, await api.create_user())
    wrong = await change(api, headers, current_password=NEW_PASSWORD, new_password=NEW_PASSWORD)
    problem(wrong, 403, "wrong_password")
    assert unnamed(wrong) == unnamed(await change(api, headers, current_password="wrong"))


async def test_one_of_two_concurrent_changes_succeeds(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    logins = [await login(api_on_each, alice, "jwt") for _ in range(4)]
    responses = await asyncio.gather(
        *(
            change(api_on_each, headers, new_password=f"{NEW_PASSWORD} {n}")
            for n, headers in enumerate(logins)
        )
    )
    # The losing requests were verified against the old password, or lost their session meanwhile.
    counted = Counter(r.status_code for r in responses)
    assert counted[204] == 1
    assert counted[401] + counted[403] == 3
    assert Counter(await statuses(api_on_each, *logins)) == {200: 1, 401: 3}
