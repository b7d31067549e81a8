"""/admin/users over HTTP: authorization, and effects on the account and on no other."""

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
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory
from tests.storage.rows import sql
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.operations import operations
from tests.web.responses import check_headers, input_errors, problem

REVALIDATE = "private, no-cache"
SCOPES = {"reports:read": "Read"}
ROLES = {"reader": frozenset({"reports:read"}), "nothing": frozenset[str]()}
OPERATIONS = [
    *("GET /admin/users", "POST /admin/users", "GET /admin/users/{user_id}"),
    *("PATCH /admin/users/{user_id}", "DELETE /admin/users/{user_id}"),
    *("DELETE /admin/users/{user_id}/sessions", "POST /admin/users/{user_id}/invitation"),
    "POST /admin/users/{user_id}/reset-link",
    *("GET /admin/users/{user_id}/factors", "DELETE /admin/users/{user_id}/factors"),
    *(
        "GET /admin/users/{user_id}/identities",
        "DELETE /admin/users/{user_id}/identities/{identity_id}",
    ),
    *("GET /admin/users/{user_id}/sessions", "GET /admin/users/{user_id}/tokens"),
    "DELETE /admin/users/{user_id}/sessions/{session_id}",
    "DELETE /admin/users/{user_id}/tokens/{token_id}",
    *("GET /admin/events", "GET /admin/events/export"),
    "GET /admin/stats",
]


class AdminAPI:
    """The service with two superusers, Root and Spare, and a user, Alice."""

    api: Client
    root: User
    spare: User
    alice: User
    headers: Headers

    async def request(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        """Send a request of Root."""
        return await self.api.request(
            method,
            f"/admin/users{path}",
            headers=self.headers | options.pop("extra_headers", {}),
            **options,
        )

    async def patch(self, user: User, **changes: object) -> httpx.Response:
        return await self.request("PATCH", f"/{user.id}", json=changes)


def secret_of(mail: EmailMessage, path: str) -> str:
    """The token of the link to `path` in a mail."""
    body = mail.get_body(("plain",))
    assert body is not None
    [secret] = re.findall(rf"{path}\?token=([\w-]+)", body.get_content())
    return str(secret)


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[AdminAPI]:
    settings = Settings(database_url=database_url, scopes=SCOPES, roles=ROLES)  # type: ignore[arg-type]
    found = AdminAPI()
    async with client(create_app(settings)) as found.api:
        found.root = await found.api.create_user("root@example.com", is_superuser=True)
        found.spare = await found.api.create_user("spare@example.com", is_superuser=True)
        found.alice = await found.api.create_user("alice@example.com", name="Alice")
        found.headers = await sign_in(found.api.services, found.root)
        yield found


def test_all_admin_operations_are_tested(make_settings: SettingsFactory) -> None:
    found = operations(create_app(make_settings()))
    found = [operation for operation in found if operation.template.startswith("/admin")]
    assert sorted(map(str, found)) == sorted(OPERATIONS)
    for operation in found:
        # Personal access tokens are not accepted: see `web/routes/admin`.
        assert set(operation.strategies) == {"session", "jwt"}, operation


async def ask(
    admin: AdminAPI, operation: str, headers: Headers | None = None, *, user_id: object = None
) -> httpx.Response:
    """Send a request of `operation`; by default for an account that does not exist."""
    method, _, template = operation.partition(" ")
    path = template.replace("{user_id}", str(user_id or uuid4()))
    for part in ("{session_id}", "{token_id}", "{identity_id}"):
        path = path.replace(part, str(uuid4()))
    body = {"email": "new@example.com"} if method == "POST" else {}
    return await admin.api.request(
        method, path, headers=headers, json=body if method in ("POST", "PATCH") else None
    )


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_superusers_are_allowed(admin: AdminAPI, operation: str) -> None:
    services = admin.api.services
    problem(await ask(admin, operation), 401, "unauthenticated")
    for strategy in ("session", "jwt"):
        alice = await sign_in(services, admin.alice, strategy)
        for user in (admin.alice, admin.root, None):
            answer = await ask(admin, operation, alice, user_id=user and user.id)
            problem(answer, 403, "superuser_required")
    # An opaque token of a superuser is not accepted.
    token = await sign_in(services, admin.root, "token")
    problem(await ask(admin, operation, token), 401, "unauthenticated")
    for strategy in ("session", "jwt"):
        answer = await ask(admin, operation, await sign_in(services, admin.root, strategy))
        if "{user_id}" in operation:
            problem(answer, 404, "not_found")
        else:
            assert answer.status_code in (200, 201, 409), answer.text
    assert await services.accounts.profiles.find(admin.alice.id) == admin.alice


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_changes_and_ways_in_require_a_recent_login(admin: AdminAPI, operation: str) -> None:
    with acting_as(admin.root, auth_time=now() - timedelta(hours=1)):
        answer = await ask(admin, operation, user_id=admin.alice.id)
    if operation.startswith("GET") and not operation.endswith(("/factors", "/identities")):
        assert answer.status_code == 200
    else:
        problem(answer, 401, "stale_authentication")


@pytest.mark.parametrize("operation", [item for item in OPERATIONS if "{" in item])
async def test_invalid_ids_are_reported_to_superusers_only(admin: AdminAPI, operation: str) -> None:
    answer = await ask(admin, operation, admin.headers, user_id="1' OR '1'='1")
    assert input_errors(answer) == [(("path", "user_id"), "uuid_parsing")]
    alice = await sign_in(admin.api.services, admin.alice)
    answer = await ask(admin, operation, alice, user_id="1' OR '1'='1")
    problem(answer, 403, "superuser_required")


# List and read


async def test_an_account_has_its_own_roles(admin: AdminAPI) -> None:
    assert (await admin.patch(admin.alice, roles=["reader"])).status_code == 200
    answer = await admin.request("GET", f"/{admin.alice.id}")
    check_headers(answer, cache_control=REVALIDATE)
    alice = await sign_in(admin.api.services, admin.alice)
    own = (await admin.api.get("/me", headers=alice)).json()
    assert answer.json() == own | {"roles": ["reader"]}
    listed = (await admin.request("GET", params={"role": "reader"})).json()
    assert listed == {"items": [answer.json()], "next": None}
    again = await admin.request(
        "GET", f"/{admin.alice.id}", extra_headers={"If-None-Match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    await admin.patch(admin.alice, name="Al")
    again = await admin.request(
        "GET", f"/{admin.alice.id}", extra_headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.json()["name"] == "Al"


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "email", "-email"])
async def test_pages_contain_each_account_once(admin: AdminAPI, sort: str) -> None:
    for number in range(8):
        await admin.api.create_user(f"user{number}@example.com")
    seen, parameters = list[str](), {"sort": sort, "limit": "3"}
    while True:
        answer = await admin.request("GET", params=parameters)
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


async def test_filters_select_accounts(admin: AdminAPI) -> None:
    await admin.patch(admin.spare, is_active=False)

    async def found(**parameters: str) -> list[str]:
        answer = await admin.request("GET", params=parameters)
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
async def test_invalid_cursors_are_refused(admin: AdminAPI, after: str) -> None:
    answer = await admin.request("GET", params={"after": after})
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
async def test_invalid_parameters_are_refused(admin: AdminAPI, name: str, value: str) -> None:
    answer = await admin.request("GET", params={name: value})
    assert [where for where, _ in input_errors(answer)] == [("query", name)]


# Invite


async def test_an_invited_account_cannot_log_in_before_acceptance(admin: AdminAPI) -> None:
    body = {"email": "Carol@example.com", "name": "Carol", "roles": ["reader"]}
    answer = await admin.request("POST", json=body)
    assert answer.status_code == 201, answer.text
    check_headers(answer)
    made = answer.json()
    assert made["roles"] == ["reader"]
    assert (made["is_active"], made["is_superuser"], made["email_confirmed_at"]) == (
        True,
        False,
        None,
    )
    assert (await admin.request("GET", f"/{made['id']}")).json() == made
    for password in ("", " ", "Carol@example.com"):
        login = {"email": "carol@example.com", "password": password}
        assert (await admin.api.post("/login", json=login)).status_code in (401, 422)
    [mail] = await admin.api.outbox()
    assert mail["to"] == "Carol@example.com"
    assert "/account/invitation?token=" in mail.as_string()
    problem(await admin.request("POST", json=body), 409, "email_taken")


async def test_concurrent_invitations_create_one_account(admin: AdminAPI) -> None:
    body = {"email": "carol@example.com"}
    answers = await asyncio.gather(*(admin.request("POST", json=body) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert len(await admin.api.outbox()) == 1


async def test_an_invitation_can_be_resent_until_accepted(admin: AdminAPI) -> None:
    carol = (
        await admin.request("POST", json={"email": "carol@example.com", "name": "Carol"})
    ).json()
    again = f"/{carol['id']}/invitation"
    assert (await admin.request("POST", again)).status_code == 204
    first, second = [secret_of(mail, "/account/invitation") for mail in await admin.api.outbox()]
    accept = {"password": PASSWORD}
    for secret, status in ((first, 400), (second, 204)):
        answer = await admin.api.post("/invitation/accept", json=accept | {"token": secret})
        assert answer.status_code == status
    login = {"email": "carol@example.com", "password": PASSWORD}
    assert (await admin.api.post("/login", json=login)).status_code == 200
    problem(await admin.request("POST", again), 409, "not_invited")
    assert len(await admin.api.outbox()) == 2
    problem(await admin.request("POST", f"/{admin.alice.id}/invitation"), 409, "not_invited")
    problem(await admin.request("POST", f"/{admin.root.id}/invitation"), 403, "own_account")
    problem(await admin.request("POST", f"/{uuid4()}/invitation"), 404, "not_found")


async def test_a_deactivated_account_is_not_invited_again(admin: AdminAPI) -> None:
    carol = (await admin.request("POST", json={"email": "carol@example.com"})).json()
    await admin.request("PATCH", f"/{carol['id']}", json={"is_active": False})
    problem(await admin.request("POST", f"/{carol['id']}/invitation"), 409, "not_invited")
    assert len(await admin.api.outbox()) == 1


async def test_a_superuser_sends_a_link_for_a_new_password(admin: AdminAPI) -> None:
    path, carol = f"/{admin.alice.id}/reset-link", str(uuid4())
    answers = [await admin.request("POST", path) for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    mails = await admin.api.outbox()
    assert [mail["to"] for mail in mails] == ["alice@example.com"] * 2
    first, second = [secret_of(mail, "/account/reset") for mail in mails]
    login = {"email": "alice@example.com", "password": PASSWORD}
    assert (await admin.api.post("/login", json=login)).status_code == 200
    for secret, status in ((first, 400), (second, 204)):
        body = {"token": secret, "new_password": PASSWORD[::-1]}
        assert (await admin.api.post("/password/reset", json=body)).status_code == status
    problem(await admin.api.post("/login", json=login), 401, "invalid_credentials")
    listed = await admin.api.get("/admin/events", headers=admin.headers)
    sent = [item for item in listed.json()["items"] if item["type"] == "password_reset_sent"]
    owners = {(item["user_id"], item["actor_id"]) for item in sent}
    assert (len(sent), owners) == (2, {(str(admin.alice.id), str(admin.root.id))})
    assert first not in listed.text
    assert second not in listed.text
    problem(await admin.request("POST", f"/{admin.root.id}/reset-link"), 403, "own_account")
    problem(await admin.request("POST", f"/{carol}/reset-link"), 404, "not_found")


async def test_a_deactivated_account_gets_no_link(admin: AdminAPI) -> None:
    await admin.patch(admin.alice, is_active=False)
    refused = await admin.request("POST", f"/{admin.alice.id}/reset-link")
    problem(refused, 409, "account_deactivated")
    assert await admin.api.outbox() == []


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
async def test_an_invalid_invitation_creates_nothing(
    admin: AdminAPI, body: dict[str, object], where: str
) -> None:
    answer = await admin.request("POST", json=body)
    assert [place[1] for place, _ in input_errors(answer)] == [where]
    url = admin.api.services.settings.resolved_database_url
    assert len(sql(url, "SELECT id FROM authapi_users")) == 3
    assert sql(url, "SELECT id FROM authapi_outbox") == []


# Change


@pytest.mark.parametrize("how", ["deactivate", "end sessions", "delete"])
async def test_all_credentials_are_revoked_before_the_response(admin: AdminAPI, how: str) -> None:
    services = admin.api.services
    credentials = [await sign_in(services, admin.alice, name) for name in STRATEGIES]
    made = await admin.api.post("/me/tokens", json={"name": "x"}, headers=credentials[0])
    credentials.append({"authorization": f"Bearer {made.json()['access_token']}"})
    for headers in credentials * 2:
        assert (await admin.api.get("/me", headers=headers)).status_code == 200
    path = f"/{admin.alice.id}"
    if how == "deactivate":
        answer = await admin.patch(admin.alice, is_active=False)
        assert answer.json()["is_active"] is False
    elif how == "delete":
        assert (await admin.request("DELETE", path)).status_code == 204
        problem(await admin.request("GET", path), 404, "not_found")
    else:
        assert (await admin.request("DELETE", f"{path}/sessions")).status_code == 204
    for headers in credentials:
        problem(await admin.api.get("/me", headers=headers), 401, "unauthenticated")
    assert (await admin.api.get("/me", headers=admin.headers)).status_code == 200
    if how == "deactivate":
        # Reactivation does not restore them.
        assert (await admin.patch(admin.alice, is_active=True)).json()["is_active"] is True
        for headers in credentials:
            problem(await admin.api.get("/me", headers=headers), 401, "unauthenticated")


async def test_a_demoted_superuser_is_refused_at_the_next_request(admin: AdminAPI) -> None:
    for strategy in ("session", "jwt"):
        spare = await sign_in(admin.api.services, admin.spare, strategy)
        for _ in range(2):
            assert (await admin.api.get("/admin/users", headers=spare)).status_code == 200
        assert (await admin.patch(admin.spare, is_superuser=False)).status_code == 200
        problem(await admin.api.get("/admin/users", headers=spare), 403, "superuser_required")
        assert (await admin.patch(admin.spare, is_superuser=True)).status_code == 200
        assert (await admin.api.get("/admin/users", headers=spare)).status_code == 200


async def test_superusers_cannot_change_their_own_account(admin: AdminAPI) -> None:
    for changes in ({"is_superuser": False}, {"is_active": False}, {"roles": ["reader"]}):
        problem(await admin.patch(admin.root, **changes), 403, "own_account")
    problem(await admin.request("DELETE", f"/{admin.root.id}"), 403, "own_account")
    assert (await admin.patch(admin.root, name="Root")).json()["name"] == "Root"


async def test_the_last_superuser_cannot_be_deleted(admin: AdminAPI) -> None:
    assert (await admin.patch(admin.spare, is_superuser=False)).status_code == 200
    problem(await admin.api.delete("/me", headers=admin.headers), 409, "last_superuser")
    assert (await admin.api.get("/me", headers=admin.headers)).json()["is_superuser"] is True
    assert (await admin.patch(admin.spare, is_superuser=True)).status_code == 200
    assert (await admin.api.delete("/me", headers=admin.headers)).status_code == 204


async def test_concurrent_demotions_leave_one_superuser(admin: AdminAPI) -> None:
    spare = await sign_in(admin.api.services, admin.spare)
    for _ in range(10):
        one, other = await asyncio.gather(
            admin.patch(admin.spare, is_superuser=False),
            admin.api.patch(
                f"/admin/users/{admin.root.id}", json={"is_superuser": False}, headers=spare
            ),
        )
        assert sorted((one.status_code, other.status_code)) == [200, 403]
        rows = sql(
            admin.api.services.settings.resolved_database_url,
            "SELECT email FROM authapi_users WHERE is_superuser",
        )
        assert rows == [("root@example.com" if one.status_code == 200 else "spare@example.com",)]
        for user in (admin.root, admin.spare):
            await admin.api.services.accounts.administration.change(user.id, {"is_superuser": True})


@pytest.mark.parametrize(
    "body",
    [
        *({"password": "correct horse battery staple"}, {"email": "x@example.com"}, {"id": "x"}),
        *({"email_confirmed_at": None}, {"is_active": "false"}, {"is_active": None}),
        *({"roles": None}, {"roles": "reader"}, {"roles": ["nope"]}, {"is_superuser": 1}),
    ],
    ids=str,
)
async def test_other_members_cannot_be_changed(admin: AdminAPI, body: dict[str, object]) -> None:
    input_errors(await admin.patch(admin.alice, **body))
    assert await admin.api.services.accounts.profiles.find(admin.alice.id) == admin.alice


async def test_a_stale_if_match_is_refused(admin: AdminAPI) -> None:
    read = await admin.request("GET", f"/{admin.alice.id}")
    condition = {"If-Match": read.headers["etag"]}
    path = f"/{admin.alice.id}"
    answer = await admin.request("PATCH", path, json={"name": "A"}, extra_headers=condition)
    assert answer.json()["name"] == "A"
    answer = await admin.request("PATCH", path, json={"is_active": False}, extra_headers=condition)
    problem(answer, 412, "precondition_failed")
    assert (await admin.request("GET", path)).json()["is_active"] is True


async def test_events_show_the_actor_only_to_superusers(admin: AdminAPI) -> None:
    answer = await admin.patch(admin.alice, roles=["reader"])
    request_id = answer.headers["x-request-id"]
    found = await admin.api.get(
        "/admin/events", params={"user": str(admin.alice.id), "limit": "1"}, headers=admin.headers
    )
    [event] = found.json()["items"]
    assert event["type"] == "roles_changed"
    assert event["detail"] == {"roles": ["reader"]}
    assert (event["user_id"], event["actor_id"]) == (str(admin.alice.id), str(admin.root.id))
    assert (event["ip"], event["request_id"]) == ("127.0.0.1", request_id)
    alice = await sign_in(admin.api.services, admin.alice)
    own = (await admin.api.get("/me/events", headers=alice)).json()["items"]
    [mine] = [item for item in own if item["type"] == "roles_changed"]
    assert (mine["ip"], mine["user_agent"], mine["request_id"]) == (None, None, request_id)
    assert str(admin.root.id) not in str(own)
