"""/admin/users over HTTP: who may, what happens, and that it happens to nobody else."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any
from uuid import uuid4

import httpx
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto import base64url
from authapi.identity import User
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.storage.rows import sql
from tests.web.answers import check_headers, input_errors, problem
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.operations import operations

REVALIDATE = "private, no-cache"
SCOPES = {"reports:read": "Read"}
ROLES = {"reader": frozenset({"reports:read"}), "nothing": frozenset[str]()}
OPERATIONS = [
    *("GET /admin/users", "POST /admin/users", "GET /admin/users/{user_id}"),
    *("PATCH /admin/users/{user_id}", "DELETE /admin/users/{user_id}"),
    *("DELETE /admin/users/{user_id}/sessions", "POST /admin/users/{user_id}/invitation"),
    *("GET /admin/events", "GET /admin/events/export"),
]


class House:
    """The shipped app with a superuser, Root, another, Spare, and a user, Alice."""

    api: Client
    root: User
    spare: User
    alice: User
    headers: Headers

    async def ask(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        """A request of Root's."""
        return await self.api.request(
            method, f"/admin/users{path}", headers=self.headers | options.pop("more", {}), **options
        )

    async def patch(self, user: User, **changes: object) -> httpx.Response:
        return await self.ask("PATCH", f"/{user.id}", json=changes)


def secret_of(mail: EmailMessage, path: str) -> str:
    """That of the link in a mail that leads to `path`."""
    body = mail.get_body(("plain",))
    assert body is not None
    [secret] = re.findall(rf"{path}\?token=([\w-]+)", body.get_content())
    return str(secret)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    settings = Settings(database_url=database_url, scopes=SCOPES, roles=ROLES)  # type: ignore[arg-type]
    found = House()
    async with client(create_app(settings)) as found.api:
        found.root = await found.api.create_user("root@example.com", is_superuser=True)
        found.spare = await found.api.create_user("spare@example.com", is_superuser=True)
        found.alice = await found.api.create_user("alice@example.com", name="Alice")
        found.headers = await sign_in(found.api.services, found.root)
        yield found


def test_these_are_all(make_settings: SettingsFactory) -> None:
    found = operations(create_app(make_settings()))
    found = [it for it in found if it.template.startswith("/admin")]
    assert sorted(map(str, found)) == sorted(OPERATIONS)
    for operation in found:
        # A personal access token is not let in: see `web/routes/admin`.
        assert set(operation.strategies) == {"session", "jwt"}, operation


async def ask(
    house: House, operation: str, headers: Headers | None = None, *, user_id: object = None
) -> httpx.Response:
    """A request of `operation`, about nobody's account unless another is named."""
    method, _, template = operation.partition(" ")
    path = template.replace("{user_id}", str(user_id or uuid4()))
    body = {"email": "new@example.com"} if method == "POST" else {}
    return await house.api.request(
        method, path, headers=headers, json=body if method in ("POST", "PATCH") else None
    )


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_anonymous_401_others_403_superusers_let_in(house: House, operation: str) -> None:
    services = house.api.services
    problem(await ask(house, operation), 401, "unauthenticated")
    for strategy in ("session", "jwt"):
        alice = await sign_in(services, house.alice, strategy)
        for user in (house.alice, house.root, None):
            answer = await ask(house, operation, alice, user_id=user and user.id)
            problem(answer, 403, "superuser_required")
    # A superuser's opaque token is no credential here.
    token = await sign_in(services, house.root, "token")
    problem(await ask(house, operation, token), 401, "unauthenticated")
    for strategy in ("session", "jwt"):
        answer = await ask(house, operation, await sign_in(services, house.root, strategy))
        if "{user_id}" in operation:
            problem(answer, 404, "not_found")
        else:
            assert answer.status_code in (200, 201, 409), answer.text
    assert await services.accounts.find(house.alice.id) == house.alice


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_what_changes_something_asks_for_a_fresh_login(house: House, operation: str) -> None:
    with acting_as(house.root, auth_time=now() - timedelta(hours=1)):
        answer = await ask(house, operation, user_id=house.alice.id)
    if operation.startswith("GET"):
        assert answer.status_code == 200
    else:
        problem(answer, 401, "stale_authentication")


@pytest.mark.parametrize("operation", [it for it in OPERATIONS if "{" in it])
async def test_an_id_that_is_none_is_said_to_superusers_only(house: House, operation: str) -> None:
    answer = await ask(house, operation, house.headers, user_id="1' OR '1'='1")
    assert input_errors(answer) == [(("path", "user_id"), "uuid_parsing")]
    alice = await sign_in(house.api.services, house.alice)
    answer = await ask(house, operation, alice, user_id="1' OR '1'='1")
    problem(answer, 403, "superuser_required")


# List and show.


async def test_an_account_has_what_its_owner_sees_and_its_roles(house: House) -> None:
    assert (await house.patch(house.alice, roles=["reader"])).status_code == 200
    answer = await house.ask("GET", f"/{house.alice.id}")
    check_headers(answer, cache_control=REVALIDATE)
    alice = await sign_in(house.api.services, house.alice)
    own = (await house.api.get("/me", headers=alice)).json()
    assert answer.json() == own | {"roles": ["reader"]}
    listed = (await house.ask("GET", params={"role": "reader"})).json()
    assert listed == {"items": [answer.json()], "next": None}
    again = await house.ask(
        "GET", f"/{house.alice.id}", more={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    await house.patch(house.alice, name="Al")
    again = await house.ask(
        "GET", f"/{house.alice.id}", more={"If-None-Match": answer.headers["etag"]}
    )
    assert again.json()["name"] == "Al"


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "email", "-email"])
async def test_pages_follow_one_another(house: House, sort: str) -> None:
    for number in range(8):
        await house.api.create_user(f"user{number}@example.com")
    seen, parameters = list[str](), {"sort": sort, "limit": "3"}
    while True:
        answer = await house.ask("GET", params=parameters)
        check_headers(answer)
        page = answer.json()
        seen += [item["email"] for item in page["items"]]
        if page["next"] is None:
            break
        assert len(page["items"]) == 3
        parameters["after"] = page["next"]
    first = ["alice@example.com", "root@example.com", "spare@example.com"]
    users = [f"user{number}@example.com" for number in range(8)]
    if sort.endswith("created_at"):
        expected = ["root@example.com", "spare@example.com", "alice@example.com", *users]
    else:
        expected = [*first, *users]
    assert seen == (expected[::-1] if sort.startswith("-") else expected)


async def test_filters_are_parameters(house: House) -> None:
    await house.patch(house.spare, is_active=False)

    async def found(**parameters: str) -> list[str]:
        answer = await house.ask("GET", params=parameters)
        assert answer.status_code == 200, answer.text
        return [item["email"].partition("@")[0] for item in answer.json()["items"]]

    assert await found(email="AL") == ["alice"]
    assert await found(active="false") == ["spare"]
    assert await found(superuser="true", active="true") == ["root"]
    assert await found(confirmed="true") == []
    assert await found(email="%") == await found(email="a_ice") == await found(email="' --") == []


@pytest.mark.parametrize(
    "after",
    [
        *(
            "x",
            "AA",
            "created_at",
            "=",
            "../../etc",
            "'; DROP TABLE users; --",
            "\u00e9",
            "A" * 513,
        ),
        base64url.encode(b"created_at\nx\n0"),
        base64url.encode(f"created_at\n{uuid4().hex}\n{'9' * 30}".encode()),
        base64url.encode(f"email\n{uuid4().hex}\na@b.example".encode()),
        base64url.encode(f"created_at\n{uuid4().hex}\n0 OR 1=1".encode()),
        base64url.encode(b"\xff\x00\n\n"),
    ],
    ids=range(13),
)
async def test_a_cursor_that_is_none_is_said(house: House, after: str) -> None:
    answer = await house.ask("GET", params={"after": after})
    [(where, code)] = input_errors(answer)
    assert where == ("query", "after")
    assert code in ("cursor_invalid", "string_pattern_mismatch", "string_too_long")
    assert after not in answer.text or len(after) < 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", "0"), ("limit", "201"), ("limit", "x"), ("sort", "name"), ("active", "maybe")),
        *(("role", "A'--"), ("email", "x" * 255), ("email", "a\0b")),
    ],
)
async def test_a_parameter_that_is_wrong_is_said(house: House, name: str, value: str) -> None:
    answer = await house.ask("GET", params={name: value})
    assert [where for where, _ in input_errors(answer)] == [("query", name)]


# Invite.


async def test_an_invitation_makes_an_account_that_nobody_can_log_in_to_yet(house: House) -> None:
    body = {"email": "Carol@example.com", "name": "Carol", "roles": ["reader"]}
    answer = await house.ask("POST", json=body)
    assert answer.status_code == 201, answer.text
    check_headers(answer)
    made = answer.json()
    assert made["roles"] == ["reader"]
    assert (made["is_active"], made["is_superuser"], made["email_confirmed_at"]) == (
        True,
        False,
        None,
    )
    assert (await house.ask("GET", f"/{made['id']}")).json() == made
    for password in ("", " ", "Carol@example.com"):
        login = {"email": "carol@example.com", "password": password}
        assert (await house.api.post("/login", json=login)).status_code in (401, 422)
    [mail] = await house.api.outbox()
    assert mail["to"] == "Carol@example.com"
    assert "/account/invitation?token=" in mail.as_string()
    problem(await house.ask("POST", json=body), 409, "email_taken")


async def test_of_many_invitations_to_one_address_one_makes_an_account(house: House) -> None:
    body = {"email": "carol@example.com"}
    answers = await asyncio.gather(*(house.ask("POST", json=body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert len(await house.api.outbox()) == 1


async def test_an_invitation_is_sent_again_until_it_is_accepted(house: House) -> None:
    carol = (await house.ask("POST", json={"email": "carol@example.com", "name": "Carol"})).json()
    again = f"/{carol['id']}/invitation"
    assert (await house.ask("POST", again)).status_code == 204
    first, second = [secret_of(mail, "/account/invitation") for mail in await house.api.outbox()]
    accept = {"password": PASSWORD}
    for secret, status in ((first, 400), (second, 204)):
        answer = await house.api.post("/invitation/accept", json=accept | {"token": secret})
        assert answer.status_code == status
    login = {"email": "carol@example.com", "password": PASSWORD}
    assert (await house.api.post("/login", json=login)).status_code == 200
    problem(await house.ask("POST", again), 409, "not_invited")
    assert len(await house.api.outbox()) == 2
    problem(await house.ask("POST", f"/{house.alice.id}/invitation"), 409, "not_invited")
    problem(await house.ask("POST", f"/{house.root.id}/invitation"), 403, "own_account")
    problem(await house.ask("POST", f"/{uuid4()}/invitation"), 404, "not_found")


async def test_who_is_deactivated_is_not_invited_again(house: House) -> None:
    carol = (await house.ask("POST", json={"email": "carol@example.com"})).json()
    await house.ask("PATCH", f"/{carol['id']}", json={"is_active": False})
    problem(await house.ask("POST", f"/{carol['id']}/invitation"), 409, "not_invited")
    assert len(await house.api.outbox()) == 1


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"email": "x@example.com", "password": "correct horse battery staple"}, "?"),
        ({"email": "x@example.com", "is_superuser": True}, "?"),
        ({"email": "x@example.com", "roles": ["nope"]}, "roles"),
        ({"email": "x@example.com", "roles": ["reader", "reader"]}, "roles"),
        ({"email": "x@example.com", "name": "a\nb"}, "name"),
        ({"email": "a@x\r\nBcc: b@y"}, "email"),
    ],
    ids=range(6),
)
async def test_an_invitation_that_breaks_a_rule_makes_nothing(
    house: House, body: dict[str, object], where: str
) -> None:
    answer = await house.ask("POST", json=body)
    assert [place[1] for place, _ in input_errors(answer)] == [where]
    url = house.api.services.settings.resolved_database_url
    assert len(sql(url, "SELECT id FROM users")) == 3
    assert sql(url, "SELECT id FROM outbox") == []


# Change.


@pytest.mark.parametrize("how", ["deactivate", "end sessions", "delete"])
async def test_every_credential_is_dead_before_it_is_answered(house: House, how: str) -> None:
    services = house.api.services
    credentials = [await sign_in(services, house.alice, name) for name in STRATEGIES]
    made = await house.api.post("/me/tokens", json={"name": "x"}, headers=credentials[0])
    credentials.append({"authorization": f"Bearer {made.json()['access_token']}"})
    for headers in credentials * 2:
        assert (await house.api.get("/me", headers=headers)).status_code == 200
    path = f"/{house.alice.id}"
    if how == "deactivate":
        answer = await house.patch(house.alice, is_active=False)
        assert answer.json()["is_active"] is False
    elif how == "delete":
        assert (await house.ask("DELETE", path)).status_code == 204
        problem(await house.ask("GET", path), 404, "not_found")
    else:
        assert (await house.ask("DELETE", f"{path}/sessions")).status_code == 204
    for headers in credentials:
        problem(await house.api.get("/me", headers=headers), 401, "unauthenticated")
    assert (await house.api.get("/me", headers=house.headers)).status_code == 200
    if how == "deactivate":
        # Being active again brings none of them back.
        assert (await house.patch(house.alice, is_active=True)).json()["is_active"] is True
        for headers in credentials:
            problem(await house.api.get("/me", headers=headers), 401, "unauthenticated")


async def test_a_rank_that_is_taken_away_opens_nothing_at_the_next_request(house: House) -> None:
    for strategy in ("session", "jwt"):
        spare = await sign_in(house.api.services, house.spare, strategy)
        for _ in range(2):
            assert (await house.api.get("/admin/users", headers=spare)).status_code == 200
        assert (await house.patch(house.spare, is_superuser=False)).status_code == 200
        problem(await house.api.get("/admin/users", headers=spare), 403, "superuser_required")
        assert (await house.patch(house.spare, is_superuser=True)).status_code == 200
        assert (await house.api.get("/admin/users", headers=spare)).status_code == 200


async def test_my_own_account_is_for_others_to_change(house: House) -> None:
    for changes in ({"is_superuser": False}, {"is_active": False}, {"roles": ["reader"]}):
        problem(await house.patch(house.root, **changes), 403, "own_account")
    problem(await house.ask("DELETE", f"/{house.root.id}"), 403, "own_account")
    assert (await house.patch(house.root, name="Root")).json()["name"] == "Root"


async def test_the_last_superuser_cannot_go(house: House) -> None:
    assert (await house.patch(house.spare, is_superuser=False)).status_code == 200
    problem(await house.api.delete("/me", headers=house.headers), 409, "last_superuser")
    assert (await house.api.get("/me", headers=house.headers)).json()["is_superuser"] is True
    assert (await house.patch(house.spare, is_superuser=True)).status_code == 200
    assert (await house.api.delete("/me", headers=house.headers)).status_code == 204


async def test_of_parallel_demotions_over_http_one_superuser_is_left(house: House) -> None:
    spare = await sign_in(house.api.services, house.spare)
    for _ in range(10):
        one, other = await asyncio.gather(
            house.patch(house.spare, is_superuser=False),
            house.api.patch(
                f"/admin/users/{house.root.id}", json={"is_superuser": False}, headers=spare
            ),
        )
        assert sorted((one.status_code, other.status_code)) == [200, 403]
        rows = sql(
            house.api.services.settings.resolved_database_url,
            "SELECT email FROM users WHERE is_superuser",
        )
        assert rows == [("root@example.com" if one.status_code == 200 else "spare@example.com",)]
        for user in (house.root, house.spare):
            await house.api.services.administration.change(user.id, {"is_superuser": True})


@pytest.mark.parametrize(
    "body",
    [
        *({"password": "correct horse battery staple"}, {"email": "x@example.com"}, {"id": "x"}),
        *({"email_confirmed_at": None}, {"is_active": "false"}, {"is_active": None}),
        *({"roles": None}, {"roles": "reader"}, {"roles": ["nope"]}, {"is_superuser": 1}),
    ],
    ids=str,
)
async def test_nothing_else_can_be_changed(house: House, body: dict[str, object]) -> None:
    input_errors(await house.patch(house.alice, **body))
    assert await house.api.services.accounts.find(house.alice.id) == house.alice


async def test_who_has_read_an_older_state_changes_nothing(house: House) -> None:
    read = await house.ask("GET", f"/{house.alice.id}")
    condition = {"If-Match": read.headers["etag"]}
    path = f"/{house.alice.id}"
    answer = await house.ask("PATCH", path, json={"name": "A"}, more=condition)
    assert answer.json()["name"] == "A"
    answer = await house.ask("PATCH", path, json={"is_active": False}, more=condition)
    problem(answer, 412, "precondition_failed")
    assert (await house.ask("GET", path)).json()["is_active"] is True


async def test_events_name_who_did_it_and_keep_that_from_their_owner(house: House) -> None:
    answer = await house.patch(house.alice, roles=["reader"])
    request_id = answer.headers["x-request-id"]
    found = await house.api.get(
        "/admin/events", params={"user": str(house.alice.id), "limit": "1"}, headers=house.headers
    )
    [event] = found.json()["items"]
    assert event["type"] == "roles_changed"
    assert event["detail"] == {"roles": ["reader"]}
    assert (event["user_id"], event["actor_id"]) == (str(house.alice.id), str(house.root.id))
    assert (event["ip"], event["request_id"]) == ("127.0.0.1", request_id)
    alice = await sign_in(house.api.services, house.alice)
    own = (await house.api.get("/me/events", headers=alice)).json()["items"]
    [mine] = [item for item in own if item["type"] == "roles_changed"]
    assert (mine["ip"], mine["user_agent"], mine["request_id"]) == (None, None, request_id)
    assert str(house.root.id) not in str(own)
