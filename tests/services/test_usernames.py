"""User names over HTTP and in imports: registration, changes, logins, releases, guesses."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from authapi import create_app
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.domain.email_address import parse_email
from authapi.domain.user import User, UserFilter
from authapi.domain.username import LoginIdentifier, parse_username
from authapi.services.accounts.importing import AccountImporter, Summary
from authapi.storage.tables.users import UserTable
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
MAIL = {"mail_url": "console:", "mail_from": "auth@example.com"}
Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start(make_settings: SettingsFactory, database_url: str) -> AsyncIterator[Start]:
    """Starts the application on each database, by default with user names and addresses."""
    async with AsyncExitStack() as stack:

        async def run(login_identifier: LoginIdentifier = "both", **changes: object) -> Client:
            settings = make_settings(
                database_url=database_url, login_identifier=login_identifier, **changes
            )
            return await stack.enter_async_context(client(create_app(settings)))

        yield run


@pytest.fixture
async def api(start: Start) -> Client:
    return await start()


async def register(
    api: Client, email: str, username: str | None = None, *, password: str = PASSWORD
) -> httpx.Response:
    body = {"email": email, "password": password}
    return await api.post(
        "/register", json=body if username is None else {**body, "username": username}
    )


async def log_in(api: Client, password: str = PASSWORD, **name: str) -> httpx.Response:
    return await api.post("/login", json={**name, "password": password, "strategy": "jwt"})


async def bearer(api: Client, **name: str) -> dict[str, str]:
    answer = await log_in(api, **name)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def refusal(answer: httpx.Response) -> tuple[int, str, list[tuple[str, str]]]:
    problem = answer.json()
    errors = [(error["loc"][-1], error["code"]) for error in problem.get("errors", ())]
    return answer.status_code, problem["code"], errors


async def test_login_by_either_name(api: Client) -> None:
    created = (await register(api, "alice@example.com", "Alice")).json()
    assert created["username"] == "Alice"
    for name in ("alice", "ALICE", "Ａlice", "alice@example.com", "Alice@Example.com"):
        answer = await log_in(api, username=name)
        assert (answer.status_code, answer.json()["user"]) == (200, created), name
    assert (await log_in(api, email="alice@example.com")).status_code == 200
    for name in ("alicf", "alice@example.org"):
        assert refusal(await log_in(api, username=name)) == (401, "invalid_credentials", [])
    for body, error in (
        ({}, ("username", "missing")),
        ({"username": "a b"}, ("username", "username_invalid")),
        ({"username": "a@"}, ("username", "email_invalid")),
        ({"username": None}, ("username", "string_type")),
        ({"username": "alice", "email": "alice@example.com"}, ("email", "extra_forbidden")),
    ):
        answer = await api.post("/login", json={**body, "password": PASSWORD})
        assert refusal(answer) == (422, "validation_failed", [error]), body


async def test_login_by_user_name_only(start: Start) -> None:
    api = await start("username")
    assert refusal(await register(api, "alice@example.com"))[2] == [
        ("username", "username_required")
    ]
    assert (await register(api, "alice@example.com", "alice")).status_code == 201
    headers = await bearer(api, username="Alice")
    assert refusal(await log_in(api, email="alice@example.com"))[2] == [
        ("email", "extra_forbidden")
    ]
    assert refusal(await log_in(api, username="alice@example.com"))[2] == [
        ("username", "username_invalid")
    ]
    answer = await api.patch("/me", json={"username": None}, headers=headers)
    assert refusal(answer)[2] == [("username", "username_required")]


async def test_without_user_names_the_members_do_not_exist(start: Start) -> None:
    api = await start("email")
    for name in ("alice", None):
        body = {"email": "a@example.com", "password": PASSWORD, "username": name}
        answer = await api.post("/register", json=body)
        assert refusal(answer)[2] == [("username", "extra_forbidden")]
    assert (await register(api, "a@example.com")).json()["username"] is None
    headers = await bearer(api, email="a@example.com")
    answer = await api.patch("/me", json={"username": "alice"}, headers=headers)
    assert refusal(answer)[2] == [("username", "extra_forbidden")]
    assert refusal(await log_in(api, username="alice"))[2] == [("username", "extra_forbidden")]
    assert refusal(await log_in(api))[2] == [("email", "missing")]


async def test_a_taken_name_is_refused_in_every_spelling(api: Client) -> None:
    assert (await register(api, "a@example.com", "École")).status_code == 201
    for name in ("école", "ÉCOLE", "E\u0301cole"):
        answer = await register(api, "b@example.com", name)
        assert refusal(answer) == (409, "username_taken", [])
    assert (await register(api, "b@example.com", "ecole")).status_code == 201
    headers = await bearer(api, username="ecole")
    answer = await api.patch("/me", json={"username": "éCOLE", "name": "x"}, headers=headers)
    assert refusal(answer) == (409, "username_taken", [])
    me = (await api.get("/me", headers=headers)).json()
    assert (me["username"], me["name"]) == ("ecole", None), "nothing was changed"


async def test_one_of_concurrent_registrations_gets_the_name(api: Client) -> None:
    for round_ in range(3):
        answers = await asyncio.gather(
            *(register(api, f"u{round_}{i}@example.com", f"racer{round_}") for i in range(4))
        )
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_a_name_that_is_given_up_stays_reserved_for_its_owner(api: Client) -> None:
    with travel_to(NOON) as clock:
        await register(api, "a@example.com", "alice")
        headers = await bearer(api, username="alice")
        for name in ("bob", "BOB", "Bob"):  # a change of case releases nothing
            answer = await api.patch("/me", json={"username": name}, headers=headers)
            assert (answer.status_code, answer.json()["username"]) == (200, name)
        assert refusal(await log_in(api, username="alice"))[0] == 401
        assert refusal(await register(api, "b@example.com", "Alice")) == (409, "username_taken", [])
        answer = await api.patch("/me", json={"username": "alice"}, headers=headers)
        assert answer.status_code == 200
        answer = await api.patch("/me", json={"username": None}, headers=headers)
        assert answer.json()["username"] is None
        clock.shift(timedelta(days=90) - timedelta(seconds=5))
        assert refusal(await register(api, "b@example.com", "bob"))[0] == 409
        clock.shift(timedelta(seconds=10))
        assert (await api.services.cleanup.run_once())["user names"] == 2
        assert (await register(api, "b@example.com", "bob")).status_code == 201
        assert (await register(api, "c@example.com", "alice")).status_code == 201


async def test_a_release_and_a_claim_at_once(api: Client) -> None:
    await register(api, "a@example.com", "name0")
    headers = await bearer(api, username="name0")
    for round_ in range(4):
        change = api.patch("/me", json={"username": f"name{round_ + 1}"}, headers=headers)
        changed, claimed = await asyncio.gather(
            change, register(api, f"b{round_}@example.com", f"name{round_}")
        )
        assert (changed.status_code, claimed.status_code) == (200, 409)


async def test_a_deleted_account_releases_its_name(api: Client) -> None:
    with travel_to(NOON) as clock:
        await register(api, "a@example.com", "alice")
        headers = await bearer(api, username="alice")
        assert (await api.delete("/me", headers=headers)).status_code == 204
        assert (await register(api, "b@example.com", "alice")).status_code == 409
        clock.shift(timedelta(days=90, seconds=1))
        assert (await register(api, "b@example.com", "alice")).status_code == 201


async def test_an_address_stays_hidden_where_it_must_be_confirmed(start: Start) -> None:
    api = await start(registration="confirm", **MAIL)
    await api.create_user("known@example.com")
    answers = [
        await register(api, "known@example.com", "name1"),
        await register(api, "new@example.com", "name2"),
    ]
    assert [(it.status_code, it.content) for it in answers] == [(202, b"")] * 2
    for _ in range(2):  # before and after the job has created the account, or not
        for name in ("name1", "NAME2"):
            answer = await register(api, "other@example.com", name)
            assert refusal(answer) == (409, "username_taken", [])
        assert len(await api.outbox()) == 2
    profiles = api.services.accounts.profiles
    page = await api.services.accounts.administration.page(UserFilter())
    assert {user.email: user.username for user in page.items} == {
        "known@example.com": None,
        "new@example.com": "name2",
    }
    known = next(user for user in page.items if user.email == "known@example.com")
    assert (await _edit(api, known, "name1")).username == "name1", "reserved for the owner"
    assert (await profiles.find(known.id)).username == "name1"


async def test_a_reservation_whose_job_never_runs_ends(start: Start) -> None:
    api = await start(registration="confirm", **MAIL)
    with travel_to(NOON) as clock:
        async with api.services.database.transaction() as store:
            until = NOON + timedelta(days=90)
            await store.usernames.claim({"alice": new_id()}, now=NOON, until=until)
        assert (await register(api, "a@example.com", "alice")).status_code == 409
        clock.shift(timedelta(days=91))
        assert (await register(api, "a@example.com", "alice")).status_code == 202


async def test_guesses_count_by_either_name(start: Start) -> None:
    api = await start(limit_account_and_network="4/minute")
    await register(api, "alice@example.com", "alice")
    names = (
        {"username": "Alice"},
        {"username": "alice@example.com"},
        {"email": "alice@example.com"},
    )
    for index in range(4):
        answer = await log_in(api, "wrong password here", **names[index % 3])
        assert refusal(answer)[0] == 401
    for name in names:
        assert refusal(await log_in(api, **name)) == (429, "too_many_attempts", [])
    for _ in range(4):
        assert refusal(await log_in(api, username="unknown"))[0] == 401
    assert refusal(await log_in(api, username="UNKNOWN"))[0] == 429


async def test_an_unknown_name_costs_what_a_wrong_password_costs(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(api, "alice@example.com", "alice")
    events: list[str] = []
    verify = PasswordHasher.verify

    def counted(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        events.append("hash")
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name in ("find_email_by_username", "find_credentials_by_username"):
        query = getattr(UserTable, name)

        async def counted_query(
            self: UserTable, username: str, query: Callable[..., Awaitable[object]] = query
        ) -> object:
            events.append("query")
            return await query(self, username)

        monkeypatch.setattr(UserTable, name, counted_query)
    seen = []
    for name in ("alice", "nobody.here"):
        events.clear()
        answer = await log_in(api, "wrong password here", username=name)
        problem = {key: value for key, value in answer.json().items() if key != "request_id"}
        seen.append((answer.status_code, problem, list(events)))
    assert seen[0] == seen[1]
    assert seen[0][2] == ["query", "query", "hash"]


async def test_basic_and_the_password_grant_take_the_same_name(start: Start) -> None:
    api = await start(strategies=("session", "token", "jwt", "basic"))
    await register(api, "alice@example.com", "alice")
    for name, status in (("Alice", 200), ("alice@example.com", 200), ("bob", 401), ("a b", 401)):
        credentials = base64.b64encode(f"{name}:{PASSWORD}".encode()).decode()
        answer = await api.get("/me", headers={"Authorization": f"Basic {credentials}"})
        assert answer.status_code == status, name
        form = {"grant_type": "password", "username": name, "password": PASSWORD}
        answer = await api.post("/token", data=form)
        assert answer.status_code == (200 if status == 200 else 400), name
        assert status == 200 or answer.json()["error"] == "invalid_grant"


async def test_a_forgotten_name_is_in_the_mail_to_the_address(start: Start) -> None:
    api = await start(**MAIL)
    await register(api, "alice@example.com", "Alice")
    user = (await api.services.accounts.administration.page(UserFilter())).items[0]
    answer = await api.post("/password/forgot", json={"email": "alice"})
    assert refusal(answer)[2] == [("email", "email_invalid")]
    answer = await api.post("/password/forgot", json={"username": "alice"})
    assert answer.status_code == 422
    await api.post("/password/forgot", json={"email": "alice@example.com"})
    assert "Your user name" not in (await api.outbox())[-1].as_string(), "not confirmed"
    async with api.services.database.transaction() as store:
        await store.users.confirm_email(user.id, at=user.updated_at)
    await api.post("/password/forgot", json={"email": "alice@example.com"})
    assert "Your user name is Alice." in (await api.outbox())[-1].as_string()


async def test_a_password_is_not_the_user_name(api: Client) -> None:
    name = "a.long.user.name"
    answer = await register(api, "x@example.com", name, password=name + "1")
    assert refusal(answer)[2] == [("password", "password_guessable")]


async def test_superusers_see_set_and_search_user_names(start: Start) -> None:
    api = await start(**MAIL)
    root = await api.create_user("root@example.com", username="Root", is_superuser=True)
    headers = await bearer(api, username="root")
    invitation = {"email": "new@example.com", "username": "Alice"}
    invited = await api.post("/admin/users", json=invitation, headers=headers)
    assert (invited.status_code, invited.json()["username"]) == (201, "Alice")
    again = {"email": "other@example.com", "username": "ALICE"}
    assert refusal(await api.post("/admin/users", json=again, headers=headers))[0] == 409
    for prefix, found in (("AL", ["Alice"]), ("alicex", []), ("a%", []), ("_", [])):
        answer = await api.get("/admin/users", params={"username": prefix}, headers=headers)
        assert [item["username"] for item in answer.json()["items"]] == found, prefix
    url = f"/admin/users/{invited.json()['id']}"
    answer = await api.patch(url, json={"username": "root"}, headers=headers)
    assert refusal(answer) == (409, "username_taken", [])
    answer = await api.patch(url, json={"username": "Carol"}, headers=headers)
    assert (answer.status_code, answer.json()["username"]) == (200, "Carol")
    own = await api.patch(f"/admin/users/{root.id}", json={"username": "boss"}, headers=headers)
    assert own.json()["username"] == "boss"
    events = await api.get("/admin/events?type=username_changed", headers=headers)
    assert [event["user_id"] for event in events.json()["items"]] == [
        str(root.id),
        invited.json()["id"],
    ]
    exported = await api.get("/me/export", headers=await bearer(api, email="root@example.com"))
    assert exported.status_code != 200 or exported.json()["account"]["username"] == "boss"


async def run_import(api: Client, *lines: Mapping[str, object]) -> tuple[Summary, list[object]]:
    services, reported = api.services, list[object]()
    importing = AccountImporter(services.database, services.audit, services.settings)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    summary = await importing.run(
        io.BytesIO(text.encode()), lambda line, field, _: reported.append((line, field))
    )
    return summary, reported


async def test_import_of_user_names(api: Client) -> None:
    await api.create_user("old@example.com", username="taken")
    line = {"email": "a@example.com", "username": "Alice"}
    summary, reported = await run_import(
        api,
        {"email": "b@example.com", "username": "TAKEN"},
        line,
        {"email": "c@example.com", "username": "alice"},
        {"email": "d@example.com", "username": "a b"},
        {"email": "e@example.com", "username": 7},
    )
    assert (summary.added, summary.refused) == (0, 4)
    assert sorted(map(str, reported)) == [f"({number}, 'username')" for number in (1, 3, 4, 5)]
    more = [{"email": f"n{i}@example.com", "username": f"name{i}"} for i in range(450)]
    plain: list[Mapping[str, object]] = [{"email": "p@example.com", "username": None}]
    lines: list[Mapping[str, object]] = [line, line, *more, *plain]
    summary, reported = await run_import(api, *lines)
    assert (summary.added, summary.skipped, reported) == (452, 1, [])
    assert (await run_import(api, *lines))[0].added == 0, "a repeated import skips all lines"
    user = await api.services.accounts.profiles.find_by_email(parse_email("a@example.com"))
    assert user.username == "Alice"
    assert refusal(await register(api, "z@example.com", "name449"))[0] == 409


async def test_names_of_skipped_lines_stay_free(api: Client) -> None:
    summary, _ = await run_import(
        api,
        {"email": "a@example.com", "username": "first"},
        {"email": "a@example.com", "username": "second"},
    )
    assert (summary.added, summary.skipped) == (1, 1)
    assert (await register(api, "b@example.com", "second")).status_code == 201
    assert (await register(api, "c@example.com", "first")).status_code == 409


async def test_the_import_follows_the_setting(start: Start) -> None:
    api = await start("email")
    assert (await run_import(api, {"email": "a@example.com", "username": "abc"}))[1] == [
        (1, "username")
    ]
    api = await start("username")
    assert (await run_import(api, {"email": "a@example.com"}))[1] == [(1, "username")]
    assert (await run_import(api, {"email": "a@example.com", "username": "abc"}))[0].added == 1


async def test_the_document_follows_the_setting(start: Start) -> None:
    document = await _schemas(await start("email"))
    assert "username" not in document["LoginRequest"]["properties"]
    assert document["LoginRequest"]["required"] == ["email", "password"]
    for name in ("Registration", "OwnChange", "Invitation", "AccountChange"):
        assert "username" not in document[name]["properties"], name
    document = await _schemas(await start("username"))
    assert "email" not in document["LoginRequest"]["properties"]
    assert document["LoginRequest"]["required"] == ["password", "username"]
    assert "username" in document["Registration"]["required"]
    assert "anyOf" not in document["OwnChange"]["properties"]["username"]
    document = await _schemas(await start("both"))
    assert document["LoginRequest"]["oneOf"] == [
        {"required": ["email"]},
        {"required": ["username"]},
    ]
    assert "username" not in document["Registration"]["required"]
    assert "x-limit" not in json.dumps(document)


async def _edit(api: Client, user: User, username: str) -> User:
    edit = api.services.accounts.profiles.edit
    return await edit(user.id, {}, username=parse_username(username), is_stale=lambda _: False)


async def _schemas(api: Client) -> dict[str, Any]:
    schemas: dict[str, Any] = (await api.get("/openapi.json")).json()["components"]["schemas"]
    return schemas
