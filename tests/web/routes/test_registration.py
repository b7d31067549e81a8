"""POST /register."""

import asyncio
from collections import Counter

import pytest

from authapi import create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.storage.rows import stored_users
from tests.web.responses import check_headers, input_errors, problem

USER_MEMBERS = {
    "id",
    "email",
    "name",
    "username",
    "is_active",
    "is_superuser",
    "locale",
    "roles",
    "email_confirmed_at",
    "created_at",
    "updated_at",
}


async def test_registration_returns_the_stored_account(api_on_each: Client) -> None:
    response = await api_on_each.post(
        "/register",
        json={"email": "Alice@Example.com", "password": PASSWORD, "name": "Alice Ünïcode 🦉"},
    )
    assert response.status_code == 201
    check_headers(response)
    assert response.headers["content-type"] == "application/json"
    user = response.json()
    assert user.keys() == USER_MEMBERS
    assert user["id"][14] == "7"
    assert user["email"] == "Alice@Example.com"
    assert user["name"] == "Alice Ünïcode 🦉"
    assert (user["is_active"], user["is_superuser"]) == (True, False)
    assert user["email_confirmed_at"] is None
    assert user["created_at"] == user["updated_at"]
    assert user["created_at"].endswith("Z")
    assert "set-cookie" not in response.headers

    await api_on_each.post("/login", json={"email": "alice@example.com", "password": PASSWORD})
    assert (await api_on_each.get("/me")).json() == user


async def test_the_name_is_optional(api: Client) -> None:
    for number, members in enumerate([{}, {"name": None}]):
        body = {"email": f"a{number}@example.com", "password": PASSWORD, **members}
        response = await api.post("/register", json=body)
        assert response.status_code == 201
        assert response.json()["name"] is None


@pytest.mark.parametrize("spelling", ["alice@example.com", "ALICE@example.COM"])
async def test_a_taken_address_is_a_conflict(api_on_each: Client, spelling: str) -> None:
    await api_on_each.create_user("Alice@Example.com")
    response = await api_on_each.post("/register", json={"email": spelling, "password": PASSWORD})
    problem(response, 409, "email_taken")


async def test_one_of_many_concurrent_registrations_succeeds(api_on_each: Client) -> None:
    spellings = ["alice@example.com", "Alice@example.com", "ALICE@EXAMPLE.COM"] * 5
    responses = await asyncio.gather(
        *(
            api_on_each.post("/register", json={"email": email, "password": PASSWORD})
            for email in spellings
        )
    )
    assert Counter(r.status_code for r in responses) == {201: 1, 409: len(spellings) - 1}
    users = await stored_users(api_on_each.services.database)
    assert len(users) == 1


async def test_closed_registration_is_forbidden(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(registration="closed"))) as api:
        response = await api.post(
            "/register", json={"email": "a@example.com", "password": PASSWORD}
        )
        problem(response, 403, "registration_closed")
        assert await stored_users(api.services.database) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"email": None}, ("email", "string_type")),
        ({"email": ["a@example.com"]}, ("email", "string_type")),
        ({"email": "a@example.com,b@example.com"}, ("email", "email_invalid")),
        ({"email": "Alice <a@example.com>"}, ("email", "email_invalid")),
        ({"email": " a@example.com"}, ("email", "email_invalid")),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, ("email", "email_invalid")),
        ({"email": "mıke@example.com"}, ("email", "email_invalid")),
        ({"email": "a＠example.com"}, ("email", "email_invalid")),
        ({"email": "a" * 250 + "@example.com"}, ("email", "email_invalid")),
        ({"password": None}, ("password", "string_type")),
        ({"password": 123456789012345}, ("password", "string_type")),
        ({"password": "x" * 14}, ("password", "password_too_short")),
        ({"password": "x" * 1025}, ("password", "string_too_long")),
        ({"name": ""}, ("name", "string_too_short")),
        ({"name": "x" * 201}, ("name", "string_too_long")),
        ({"name": "two\nlines"}, ("name", "string_pattern_mismatch")),
        ({"name": 7}, ("name", "string_type")),
    ],
)
async def test_invalid_registrations_are_refused(
    api: Client, change: dict[str, object], expected: tuple[str, str]
) -> None:
    body: dict[str, object] = {"email": "a@example.com", "password": PASSWORD, **change}
    field, code = expected
    response = await api.post("/register", json=body)
    assert input_errors(response) == [(("body", field), code)]
    assert await stored_users(api.services.database) == []


async def test_missing_members_are_named(api: Client) -> None:
    assert input_errors(await api.post("/register", json={})) == [
        (("body", "email"), "missing"),
        (("body", "password"), "missing"),
    ]
    assert input_errors(await api.post("/register")) == [(("body",), "missing")]


def _text(length: int) -> str:
    # Different characters: a repeated character would be refused as guessable.
    return ("🦉🐎🐄🐖🐏🐐🐕🐈🐓" + "🦆🦢🦉🐇🦔🐁🐿🐎🐄🐖🐏🐐" * 100)[:length]


@pytest.mark.parametrize("length", [15, 1024])
async def test_password_length_is_counted_in_characters(api: Client, length: int) -> None:
    response = await api.post(
        "/register", json={"email": "a@example.com", "password": _text(length)}
    )
    assert response.status_code == 201


async def test_the_minimum_password_length_is_configurable(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(password_min_length=8))) as api:
        for password, status in [(_text(7), 422), (_text(8), 201)]:
            body = {"email": "a@example.com", "password": password}
            assert (await api.post("/register", json=body)).status_code == status
