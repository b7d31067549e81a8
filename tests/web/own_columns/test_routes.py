"""Own columns of an application, over HTTP: shown, changed and refused as `profile`."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import BaseModel, Field

from authapi import Profile
from authapi.orm import user_fk
from authapi.testing import PASSWORD, Client
from tests.profiles import (
    DefaultsIn,
    application,
    execute,
    profile,
    profiles,
    running,
    stored,
    teams,
)

BODY = {"email": "ada@example.com", "password": PASSWORD}
BERN = {"city": "Bern", "handle": "ada"}
SHOWN = {"city": "Bern", "handle": "ada", "tags": {}, "plan": "free"}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with running(application(database_url)) as found:
        yield found


class Card(BaseModel):
    """A model whose member has another name than its column."""

    city: str = Field(alias="town")


async def register(api: Client, **members: object) -> httpx.Response:
    return await api.post("/register", json={**BODY, **members})


async def logged_in(api: Client, **members: object) -> dict[str, Any]:
    """Registers and logs in; returns the account."""
    response = await register(api, **{"profile": BERN, **members})
    assert response.status_code == 201, response.text
    body = {**BODY, "email": response.json()["email"], "strategy": "token"}
    token = (await api.post("/login", json=body)).json()["access_token"]
    api.headers["Authorization"] = f"Bearer {token}"
    account: dict[str, Any] = response.json()
    return account


async def as_superuser(api: Client) -> None:
    root = await api.create_user(is_superuser=True, profile={"city": "Zug"})
    await api.login(root, strategy="jwt")


def errors(response: httpx.Response) -> list[tuple[list[str], str]]:
    return [(item["loc"], item["code"]) for item in response.json()["errors"]]


# Registering


async def test_a_profile_is_created_with_the_account(api: Client) -> None:
    account = await logged_in(api)
    assert account["profile"] == SHOWN
    [row] = await stored(api)
    assert (str(row["user_id"]), row["city"]) == (account["id"], "Bern")
    response = await api.get("/me")
    assert (response.status_code, response.json()) == (200, account)


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, [(["body", "profile", "city"], "missing")]),
        ({"profile": {}}, [(["body", "profile", "city"], "missing")]),
        (
            {"profile": {"city": "Bern", "plan": "paid"}},
            [(["body", "profile", "?"], "extra_forbidden")],
        ),
        ({"profile": {"city": 3}}, [(["body", "profile", "city"], "string_type")]),
        ({"profile": None}, [(["body", "profile"], "model_attributes_type")]),
        ({"profile": []}, [(["body", "profile"], "model_attributes_type")]),
    ],
)
async def test_the_model_of_the_application_decides(
    api: Client, members: dict[str, Any], found: Any
) -> None:
    response = await register(api, **members)
    assert (response.status_code, errors(response)) == (422, found)
    assert await stored(api) == []


async def test_a_body_that_is_no_object_is_refused(api: Client) -> None:
    bodies: list[Any] = [[], "x", None]
    for body in bodies:
        response = await api.post("/register", json=body)
        assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize(
    ("given", "loc", "code"),
    [
        ({"age": 17}, ["body", "profile", "age"], "constraint"),
        ({"team_id": 7}, ["body", "profile"], "constraint"),
        ({"age": 10**30}, ["body", "profile"], "out_of_range"),
    ],
)
async def test_constraints_of_the_database_are_422(
    api: Client, given: dict[str, Any], loc: list[str], code: str
) -> None:
    response = await register(api, profile={**BERN, **given})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    [(place, found)] = errors(response)
    # SQLite does not say which foreign key it is.
    assert (place[: len(loc)], found) == (loc, code)
    assert str(10**30) not in response.text
    assert await stored(api) == []
    assert (await register(api, profile=BERN)).status_code == 201, "nothing was written"


async def test_a_text_that_postgresql_cannot_store_is_422(postgres_url: str) -> None:
    async with running(application(postgres_url)) as api:
        response = await register(api, profile={"city": "x" * 29})
        found = [(["body", "profile"], "out_of_range")]
        assert (response.status_code, errors(response)) == (422, found)
        assert (await register(api, profile=BERN)).status_code == 201


async def test_a_unique_value_is_409(api: Client) -> None:
    await logged_in(api)
    response = await register(api, email="bob@example.com", profile=BERN)
    assert (response.status_code, response.json()["code"]) == (409, "profile_taken")
    assert errors(response) == [(["body", "profile", "handle"], "taken")]
    assert len(await stored(api)) == 1
    bob = await register(api, email="bob@example.com", profile={"city": "Bern"})
    assert bob.status_code == 201, "nothing was written, and null is no value"


async def test_a_taken_address_adds_no_profile(api: Client) -> None:
    assert (await register(api, profile=BERN)).status_code == 201
    response = await register(api, profile={"city": "Chur"})
    assert (response.status_code, response.json()["code"]) == (409, "email_taken")
    assert len(await stored(api)) == 1


async def test_defaults_stand_for_a_profile(database_url: str) -> None:
    async with running(application(database_url, profile(create=DefaultsIn))) as api:
        response = await register(api)
        assert response.status_code == 201
        assert response.json()["profile"] == {**SHOWN, "city": "unknown", "handle": None}


# The own account


async def test_a_change_is_typed_and_atomic(api: Client) -> None:
    account = await logged_in(api)
    response = await api.patch("/me", json={"name": "Ada", "profile": {"handle": None}})
    assert response.status_code == 200
    assert response.json()["profile"] == {**SHOWN, "handle": None}
    assert response.json()["updated_at"] > account["updated_at"]
    response = await api.patch("/me", json={"name": "Bob", "profile": {"age": 3}})
    assert (response.status_code, errors(response)) == (
        422,
        [(["body", "profile", "age"], "constraint")],
    )
    assert (await api.get("/me")).json()["name"] == "Ada"
    response = await api.patch("/me", json={"profile": {"plan": "paid"}})
    assert (response.status_code, errors(response)) == (
        422,
        [(["body", "profile", "?"], "extra_forbidden")],
    )
    kinds = [event["type"] for event in (await events(api))["items"]]
    assert kinds.count("profile_changed") == 1


async def events(api: Client) -> dict[str, Any]:
    token = api.headers.pop("Authorization")
    await api.post("/login", json=BODY)
    found: dict[str, Any] = (await api.get("/me/events")).json()
    api.cookies.clear()
    api.headers["Authorization"] = token
    return found


async def test_the_same_values_change_nothing(api: Client) -> None:
    account = await logged_in(api)
    for members in ({}, {"city": "Bern"}, {"handle": "ada", "tags": {}}):
        response = await api.patch("/me", json={"profile": members})
        assert (response.status_code, response.json()) == (200, account)


async def test_json_keeps_its_types(api: Client) -> None:
    await logged_in(api, profile={**BERN, "tags": {"a": 1}})
    response = await api.patch("/me", json={"profile": {"tags": {"a": True}}})
    assert '"tags":{"a":true}' in response.text


async def test_the_etag_includes_the_profile(api: Client) -> None:
    await logged_in(api)
    first = (await api.get("/me")).headers["etag"]
    response = await api.get("/me", headers={"If-None-Match": first})
    assert response.status_code == 304
    # By the application itself, without a change of the account.
    await execute(api, sa.update(profiles).values(plan="paid"))
    response = await api.get("/me", headers={"If-None-Match": first})
    assert (response.status_code, response.json()["profile"]["plan"]) == (200, "paid")
    for body in ({"profile": {"city": "Chur"}}, {"name": "x"}, {}):
        stale = await api.patch("/me", json=body, headers={"If-Match": first})
        assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    current = {"If-Match": response.headers["etag"]}
    changed = await api.patch("/me", json={"profile": {"city": "Chur"}}, headers=current)
    assert (changed.status_code, changed.json()["profile"]["city"]) == (200, "Chur")
    assert changed.headers["etag"] == (await api.get("/me")).headers["etag"]


async def test_an_account_without_a_row_can_get_one(api: Client) -> None:
    await logged_in(api)
    await execute(api, sa.delete(profiles))
    assert (await api.get("/me")).json()["profile"] is None
    response = await api.patch("/me", json={"profile": {"handle": "a"}})
    assert (response.status_code, errors(response)) == (
        422,
        [(["body", "profile", "city"], "missing")],
    )
    response = await api.patch("/me", json={"profile": BERN})
    assert (response.status_code, response.json()["profile"]) == (200, SHOWN)


async def test_deleting_the_account_deletes_the_row(api: Client) -> None:
    user = await api.create_user(profile=BERN)
    await api.login(user, strategy="jwt")
    assert (await api.delete("/me")).status_code == 204
    assert await stored(api) == []


async def test_a_row_can_refuse_the_deletion(database_url: str) -> None:
    kept = sa.Table(
        "test_kept",
        sa.MetaData(),
        sa.Column("user_id", sa.Uuid, user_fk(ondelete="RESTRICT"), primary_key=True),
        sa.Column("city", sa.String(20), nullable=False),
    )
    models: dict[str, Any] = dict.fromkeys(("create", "update", "read"), Card)
    async with running(application(database_url, Profile(table=kept, **models))) as api:
        await execute(api, sa.schema.CreateTable(kept))
        user = await api.create_user(profile={"town": "Bern"})
        await api.login(user, strategy="jwt")
        before = await api.get("/me")
        assert before.json()["profile"] == {"town": "Bern"}
        response = await api.delete("/me")
        assert (response.status_code, response.json()["code"]) == (409, "account_in_use")
        after = await api.get("/me")
        assert after.json() == before.json()
        changed = await api.patch("/me", json={"profile": {"town": "Chur"}})
        assert changed.json()["profile"] == {"town": "Chur"}
        refused = await api.patch("/me", json={"profile": {"city": "Chur"}})
        assert errors(refused) == [
            (["body", "profile", "town"], "missing"),
            (["body", "profile", "?"], "extra_forbidden"),
        ]
        await execute(api, sa.schema.DropTable(kept))


async def test_the_export_has_the_profile(api: Client) -> None:
    user = await api.create_user(profile=BERN)
    await api.login(user, strategy="jwt")
    response = await api.get("/me/export")
    assert json.loads(response.text)["account"]["profile"] == SHOWN


# Administration


async def test_superusers_see_and_change_profiles(api: Client) -> None:
    await as_superuser(api)
    invitation = {"email": "bob@example.com", "profile": {**BERN, "handle": "bob"}}
    invited = await api.post("/admin/users", json=invitation)
    assert invited.status_code == 201
    assert invited.json()["profile"] == {**SHOWN, "handle": "bob"}
    path = f"/admin/users/{invited.json()['id']}"
    shown = await api.get(path)
    assert shown.json() == invited.json()
    changed = await api.patch(
        path, json={"profile": {"city": "Chur"}}, headers={"If-Match": shown.headers["etag"]}
    )
    assert (changed.status_code, changed.json()["profile"]["city"]) == (200, "Chur")
    stale = await api.patch(
        path, json={"profile": {"city": "Uri"}}, headers={"If-Match": shown.headers["etag"]}
    )
    assert stale.status_code == 412
    await execute(api, sa.delete(profiles).where(profiles.c.city == "Zug"))
    page = (await api.get("/admin/users")).json()["items"]
    assert [item["profile"] and item["profile"]["city"] for item in page] == [None, "Chur"]
    events = (await api.get("/admin/events", params={"type": "profile_changed"})).json()["items"]
    assert [event["user_id"] for event in events] == [invited.json()["id"]]
    assert events[0]["actor_id"] is not None


async def test_an_invitation_without_a_required_profile_is_refused(api: Client) -> None:
    await as_superuser(api)
    response = await api.post("/admin/users", json={"email": "bob@example.com"})
    assert (response.status_code, errors(response)) == (
        422,
        [(["body", "profile", "city"], "missing")],
    )
    taken = {"email": "bob@example.com", "profile": {"city": "B", "handle": "h"}}
    assert (await api.post("/admin/users", json=taken)).status_code == 201
    response = await api.post("/admin/users", json={**taken, "email": "carol@example.com"})
    assert (response.status_code, response.json()["code"]) == (409, "profile_taken")


async def test_superusers_change_their_own_profile(api: Client) -> None:
    await as_superuser(api)
    own = (await api.get("/me")).json()["id"]
    response = await api.patch(f"/admin/users/{own}", json={"profile": {"city": "Chur"}})
    assert (response.status_code, response.json()["profile"]["city"]) == (200, "Chur")


# The document, and applications without own columns


async def test_the_document_has_the_models(sqlite_url: str) -> None:
    async with running(application(sqlite_url)) as api:
        document = (await api.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    reference = "#/components/schemas/"
    assert schemas["Registration"]["properties"]["profile"] == {"$ref": f"{reference}ProfileIn"}
    assert "profile" in schemas["Registration"]["required"]
    assert schemas["ProfileIn"]["additionalProperties"] is False
    assert schemas["ProfileIn"]["description"] == "The profile of a new account."
    for name, model in (
        ("OwnChange", "ProfilePatch"),
        ("AccountChange", "ProfilePatch"),
        ("Invitation", "ProfileIn"),
    ):
        assert schemas[name]["properties"]["profile"] == {"$ref": f"{reference}{model}"}, name
        assert "profile" not in schemas[name].get("required", ()), name
    for name in ("UserWithProfileOut", "AccountOut"):
        choices = schemas[name]["properties"]["profile"]["anyOf"]
        assert choices == [{"$ref": f"{reference}ProfileOut"}, {"type": "null"}], name
    answers = {
        ("/register", "post", "201"): "UserWithProfileOut",
        ("/me", "get", "200"): "UserWithProfileOut",
        ("/me", "patch", "200"): "UserWithProfileOut",
        ("/me/export", "get", "200"): "ExportOut",
        ("/admin/users", "post", "201"): "AccountOut",
        ("/admin/users/{user_id}", "patch", "200"): "AccountOut",
    }
    for (path, method, status), model in answers.items():
        operation = document["paths"][path][method]
        content = operation["responses"][status]["content"]["application/json"]
        assert content["schema"] == {"$ref": f"{reference}{model}"}, path
        assert ("409" in operation["responses"]) == (method != "get"), path
        assert bool(operation["security"]) == (path != "/register")


async def test_routes_stay_the_same_without_a_profile(api_on_each: Client) -> None:
    response = await register(api_on_each, profile=BERN)
    assert (response.status_code, errors(response)) == (422, [(["body", "?"], "extra_forbidden")])
    response = await register(api_on_each)
    assert "profile" not in response.json()


async def test_teams_are_a_table_of_the_application(api: Client) -> None:
    await execute(api, sa.insert(teams).values(id=7))
    assert (await register(api, profile={**BERN, "team_id": 7})).status_code == 201
