"""Own columns on each way that makes or changes an account, and in memory."""

import asyncio
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa

from authapi import AuthAPI, Event, EventType, Transaction
from authapi.crypto.ids import new_id
from authapi.domain.email_address import parse_email
from authapi.domain.username import parse_username
from authapi.errors import InvalidInput, ProfileTaken
from authapi.services.accounts.importing import AccountImporter, Summary
from authapi.services.accounts.importing.lines import Ids
from authapi.storage.inspection import record_statements
from authapi.testing import PASSWORD, Client
from tests.profiles import (
    DefaultsIn,
    application,
    execute,
    profile,
    profiles,
    running,
    stored,
)

BERN = {"city": "Bern", "handle": "ada"}


def body(email: str = "ada@example.com", **members: object) -> dict[str, object]:
    return {"email": email, "password": PASSWORD, **members}


def statements(api: Client) -> AbstractContextManager[list[str]]:
    """Collects the SQL statements inside the block."""
    return record_statements(api.services.database)


async def log_in(api: Client, **members: object) -> None:
    user = await api.create_user(**members)  # type: ignore[arg-type]  # of any type
    await api.login(user, strategy="token")
    await api.get("/me")


# Jobs


async def test_a_deferred_registration_carries_the_profile(database_url: str) -> None:
    async with running(application(database_url, registration="confirm")) as api:
        refused = await api.post("/register", json=body(profile={}))
        assert refused.json()["errors"][0]["loc"] == ["body", "profile", "city"]
        response = await api.post("/register", json=body(profile={**BERN, "tags": {"a": True}}))
        assert (response.status_code, response.content) == (202, b"")
        async with api.services.database.read() as store:
            [entry] = await store.outbox.page("request", limit=9)
        assert b"Bern" not in entry.payload, "it is encrypted"
        assert await stored(api) == []
        assert len(await api.outbox()) == 1
        [row] = await stored(api)
        assert (row["city"], row["tags"]) == ("Bern", {"a": True})
        # Also for an address that has an account, the answer is about the profile alone.
        for email in ("ada@example.com", "bob@example.com"):
            taken = await api.post("/register", json=body(email, profile=BERN))
            assert (taken.status_code, taken.json()["code"]) == (409, "profile_taken")


async def test_a_deferred_registration_carries_the_user_name_too(database_url: str) -> None:
    auth = application(database_url, registration="confirm", login_identifier="both")
    async with running(auth) as api:
        taken = body("bob@example.com", username="ada", profile={**BERN, "handle": "bob"})
        for sent, status in ((body(username="Ada", profile=BERN), 202), (taken, 409)):
            assert (await api.post("/register", json=sent)).status_code == status
        await api.outbox()
        found = await api.services.accounts.profiles.find_by_username(parse_username("ada"))
        [row] = await stored(api)
        assert (found.username, found.id, row["handle"]) == ("Ada", row["user_id"], "ada")


async def test_a_value_that_is_taken_meanwhile_is_a_failed_job(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(application(database_url, registration="confirm")) as api:
        for email in ("ada@example.com", "bob@example.com"):
            response = await api.post("/register", json=body(email, profile=BERN))
            assert response.status_code == 202
        await api.services.outbox.drain()
        assert len(await stored(api)) == 1
        [left] = await api.services.outbox.list_undelivered("request", limit=9)
        assert left.error == "ProfileTaken"
        assert "delivery failed, will retry: ProfileTaken" in caplog.text


async def test_a_deferred_registration_has_the_defaults(database_url: str) -> None:
    auth = application(database_url, profile(create=DefaultsIn), registration="confirm")
    async with running(auth) as api:
        assert (await api.post("/register", json=body())).status_code == 202
        await api.outbox()
        assert [row["city"] for row in await stored(api)] == ["unknown"]


async def test_one_of_many_concurrent_registrations_gets_a_unique_value(
    database_url: str,
) -> None:
    async with running(application(database_url)) as api:
        answers = await asyncio.gather(
            *(
                api.post("/register", json=body(f"user{number}@example.com", profile=BERN))
                for number in range(6)
            )
        )
        assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 5}
        assert len(await stored(api)) == 1
        await log_in(api, profile={"city": "Chur"})
        await execute(api, sa.delete(profiles))
        answers = await asyncio.gather(
            *(api.patch("/me", json={"profile": {"city": name}}) for name in ("A", "B", "C"))
        )
        assert {answer.status_code for answer in answers} == {200}
        assert len(await stored(api)) == 1


# Operators, and imports


async def test_operators_create_accounts_with_defaults_or_get_one_sentence(
    sqlite_url: str,
) -> None:
    async with running(application(sqlite_url)) as api:
        registration = api.services.accounts.registration
        address = parse_email("ada@example.com")
        with pytest.raises(InvalidInput) as raised:
            await registration.create(address, None)
        [error] = raised.value.errors
        assert (error.loc, error.message) == (("body", "profile", "city"), "Field required")
        given = api.services.own_columns.parse(BERN)
        created = await registration.create(address, None, profile=given)
        assert await api.services.accounts.profiles.find(created.id) == created
        with pytest.raises(ProfileTaken):
            await registration.create(parse_email("bob@example.com"), None, profile=given)
        with pytest.raises(InvalidInput):
            api.services.own_columns.parse({"city": "Bern", "plan": "paid"})
    async with running(application(sqlite_url, profile(create=DefaultsIn))) as api:
        await api.services.accounts.registration.create(parse_email("b@example.com"), None)
        assert [row["city"] for row in await stored(api)] == ["unknown"]


async def test_code_of_the_application_creates_accounts_with_profiles(database_url: str) -> None:
    auth = application(database_url)
    async with running(auth) as api:
        created = await auth.accounts.create("ada@example.com", profile=MappingProxyType(BERN))
        assert created == await auth.accounts.find_by_email("ada@example.com")
        confirmed = await auth.accounts.confirm_email(created.id)
        assert confirmed == await auth.accounts.find(created.id)
        moved = await auth.accounts.change_email(created.id, "ada@example.org")
        assert moved == await auth.accounts.find_by_email("ada@example.org")
        invited = await auth.accounts.invite("eve@example.com", profile={"city": "Chur"})
        refused: Sequence[Any] = ({}, {"city": ""}, {"city": "A", "x": 1}, None, [], "Bern")
        for wrong in refused:
            with pytest.raises(InvalidInput):
                await auth.accounts.create("bob@example.com", profile=wrong)
        async with auth.transaction() as tx:
            for create in (tx.accounts.create, tx.accounts.invite):
                with pytest.raises(ProfileTaken):
                    await create("bob@example.com", profile=BERN)
            await tx.accounts.create("dan@example.com", profile={"city": "Davos"})
        cities = {row["user_id"]: row["city"] for row in await stored(api)}
        assert list(cities.values()) == ["Bern", "Chur", "Davos"]
        assert (cities[created.id], cities[invited.id]) == ("Bern", "Chur")


async def test_synchronous_code_creates_accounts_with_profiles(database_url: str) -> None:
    auth = application(database_url)
    async with running(auth) as api:
        accounts = auth.sync.accounts
        created = await asyncio.to_thread(accounts.create, "ada@example.com", profile=BERN)
        await asyncio.to_thread(accounts.invite, "eve@example.com", profile={"city": "Chur"})
        with pytest.raises(ProfileTaken):
            await asyncio.to_thread(accounts.create, "bob@example.com", profile=BERN)
        assert created == await auth.accounts.find(created.id)
        assert [row["city"] for row in await stored(api)] == ["Bern", "Chur"]


async def test_services_without_own_columns_refuse_a_profile(api: Client) -> None:
    with pytest.raises(InvalidInput):
        api.services.own_columns.parse({})


async def import_lines(
    api: Client, *lines: Mapping[str, Any], ids: Ids = Ids.NEW
) -> tuple[Summary, list[Any]]:
    services, told = api.services, list[Any]()
    importing = AccountImporter(
        services.database,
        services.audit,
        services.settings,
        ids=ids,
        own_columns=services.own_columns,
    )
    text = "\n".join(json.dumps(line) for line in lines)
    summary = await importing.run(io.BytesIO(text.encode()), lambda *error: told.append(error))
    return summary, told


async def test_lines_of_an_import_have_profiles(database_url: str) -> None:
    async with running(application(database_url)) as api:
        good = {"email": "ada@example.com", "profile": {**BERN, "tags": {"a": 1}}}
        summary, told = await import_lines(
            api,
            good,
            {"email": "bob@example.com"},
            {"email": "eve@example.com", "profile": {"city": "Bern", "x": 1}},
            {"email": "eve", "profile": {}, "x": 1},
        )
        assert (summary.added, summary.refused) == (0, 3)
        assert [(line, field) for line, field, _ in told] == [
            (2, "profile.city"),
            (3, "profile.x"),
            (4, "email"),
            (4, "x"),
            (4, "profile.city"),
        ]
        assert told[1][2] == "unknown field"
        summary, _ = await import_lines(api, good, good)
        assert (summary.added, summary.skipped) == (1, 1)
        assert [row["tags"] for row in await stored(api)] == [{"a": 1}]


async def test_a_line_whose_profile_the_database_refuses_is_refused(database_url: str) -> None:
    async with running(application(database_url)) as api:
        await api.create_user("ada@example.com", profile=BERN)
        for wrong, field, reason in (
            (BERN, "profile.handle", "is in use by another account"),
            ({"city": "Chur", "age": 7}, "profile.age", "is refused by the database"),
        ):
            summary, told = await import_lines(
                api,
                {"email": "eve@example.com", "profile": {"city": "Basel"}},
                {"email": "bob@example.com", "profile": wrong},
            )
            assert told == [(2, field, reason)]
            assert (summary.lines, summary.added, summary.refused) == (2, 0, 1)
            assert [row["city"] for row in await stored(api)] == ["Bern"]


async def test_profiles_come_along_with_kept_ids_and_user_names(database_url: str) -> None:
    auth = application(database_url, login_identifier="both")
    async with running(auth) as api:
        user_id = new_id()
        line = {"id": str(user_id), "email": "ada@example.com", "username": "Ada", "profile": BERN}
        for added in (1, 0):
            summary, _ = await import_lines(api, line, ids=Ids.KEPT)
            assert (summary.added, summary.refused) == (added, 0)
        [row] = await stored(api)
        assert (row["user_id"], row["handle"]) == (user_id, "ada")
        found = await auth.accounts.find_by_username("ada")
        assert (found.id, found) == (user_id, await auth.accounts.find(user_id))


async def test_a_line_is_nested_as_deep_as_a_profile(sqlite_url: str) -> None:
    async with running(application(sqlite_url)) as api:
        deep: object = 1
        for _ in range(20):
            deep = [deep]
        told = (await import_lines(api, {"email": "a@example.com", "profile": deep}))[1]
        assert told == [(1, "", "must be one JSON object in UTF-8 without repeated members")]
        told = (await import_lines(api, {"email": "a@example.com", "profile": [[[1]]]}))[1]
        assert [(number, field) for number, field, _ in told] == [(1, "profile")]


async def test_lines_without_a_profile_have_the_defaults(sqlite_url: str) -> None:
    async with running(application(sqlite_url, profile(create=DefaultsIn))) as api:
        summary, told = await import_lines(api, {"email": "ada@example.com"})
        assert (summary.added, told) == (1, [])
        assert [row["city"] for row in await stored(api)] == ["unknown"]


# Hooks, and the transfer to the owner of a mailbox


async def test_hooks_see_the_row(database_url: str) -> None:
    auth, seen = application(database_url), list[object]()
    note(auth, seen)
    async with running(auth) as api:
        await log_in(api, profile=BERN)
        assert (await api.patch("/me", json={"profile": {"city": "Chur"}})).status_code == 200
    assert seen == ["Bern", "Chur"]


def note(auth: AuthAPI, seen: list[object]) -> None:
    @auth.on(EventType.ACCOUNT_REGISTERED, EventType.PROFILE_CHANGED)
    async def city(event: Event, tx: Transaction) -> None:
        row = await tx.execute(sa.select(profiles).where(profiles.c.user_id == event.user_id))
        seen.append(row.one().city)


@pytest.mark.parametrize(("create", "left"), [(None, []), (DefaultsIn, ["unknown"])])
async def test_a_profile_of_another_person_goes_with_the_transfer(
    database_url: str, create: Any, left: list[str]
) -> None:
    declared = profile() if create is None else profile(create=create)
    async with running(application(database_url, declared)) as api:
        registered = await api.post("/register", json=body(profile=BERN, name="Eve"))
        assert registered.status_code == 201
        [mail] = await api.outbox()
        text = mail.get_body(("plain",))
        assert text is not None
        [token] = set(re.findall(r"token=([\w-]+)", text.get_content()))
        sent = {"token": token, "email": "ada@example.com"}
        assert (await api.post("/email/confirm", json=sent)).status_code == 204
        assert [row["city"] for row in await stored(api)] == left


# Memory


async def test_own_columns_cost_a_cached_caller_one_query_at_me_alone(sqlite_url: str) -> None:
    async with running(application(sqlite_url)) as api:
        await log_in(api, profile=BERN)
        with statements(api) as found:
            assert (await api.get("/me")).json()["profile"]["city"] == "Bern"
            [statement] = found
            assert "test_profiles" in statement
            await api.get("/me/identity")
            assert found == [statement]


@pytest.fixture
async def cached(database_url: str) -> AsyncIterator[Client]:
    async with running(application(database_url, profile(cached=True))) as api:
        yield api


async def test_cached_own_columns_cost_no_query(cached: Client) -> None:
    await log_in(cached, profile=BERN)
    with statements(cached) as found:
        assert (await cached.get("/me")).json()["profile"]["city"] == "Bern"
        assert found == []
    changed = await cached.patch("/me", json={"profile": {"city": "Chur"}})
    assert changed.json() == (await cached.get("/me")).json()
    assert changed.headers["etag"] == (await cached.get("/me")).headers["etag"]


async def test_the_application_announces_its_own_changes(postgres_url: str) -> None:
    auth = application(postgres_url, profile(cached=True))
    async with running(auth) as api:
        await log_in(api, profile=BERN)
        # By a connection of the application, of which authapi knows nothing.
        async with api.services.database.engine.begin() as connection:
            await connection.execute(sa.update(profiles).values(city="Chur"))
        assert (await api.get("/me")).json()["profile"]["city"] == "Bern"
        [row] = await stored(api)
        await auth.changed(row["user_id"])
        assert (await api.get("/me")).json()["profile"]["city"] == "Chur"


async def test_nothing_is_kept_without_an_identity_cache(sqlite_url: str) -> None:
    auth = application(sqlite_url, profile(cached=True), identity_cache_size=0)
    async with running(auth) as api:
        await log_in(api, profile=BERN)
        await execute(api, sa.update(profiles).values(city="Chur"))
        assert (await api.get("/me")).json()["profile"]["city"] == "Chur"
