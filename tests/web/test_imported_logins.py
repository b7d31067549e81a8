"""Imported accounts log in over HTTP with the password hashes of another system."""

import io
import json

import pytest

from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.services.accounts.importing import AccountImporter, Summary
from authapi.testing import Client
from tests.crypto.imported_hash_vectors import BCRYPT_OF_72, CHEAP, DEFAULT, PASSWORD
from tests.web.responses import problem, unnamed

EMAIL = "alice@example.com"


async def bring_in(api: Client, text: str, **more: object) -> None:
    """Imports an account with this hash."""
    services = api.services
    importing = AccountImporter(services.database, services.audit, services.settings)
    line = json.dumps({"email": EMAIL, "password_hash": text, **more}).encode()
    reported: list[object] = []
    summary = await importing.run(io.BytesIO(line), lambda *fault: reported.append(fault))
    assert (summary, reported) == (Summary(lines=1, added=1, skipped=0, refused=0), [])


async def stored(api: Client) -> str:
    async with api.services.database.read() as store:
        found = await store.users.find_credentials_by_email(EMAIL)
    assert found
    assert found[1]
    return found[1].text


def body(password: str, email: str = EMAIL) -> dict[str, str]:
    return {"email": email, "password": password, "strategy": "token"}


@pytest.mark.parametrize("text", CHEAP.values(), ids=CHEAP.keys())
async def test_imported_password_logs_in_and_is_rehashed(api_on_each: Client, text: str) -> None:
    api = api_on_each
    await bring_in(api, text)
    before = await stored(api)
    assert before.startswith("foreign:")

    refused = await api.post("/login", json=body("not " + PASSWORD))
    problem(refused, 401, "invalid_credentials")
    unknown = await api.post("/login", json=body(PASSWORD, "unknown@example.com"))
    assert unnamed(refused) == unnamed(unknown)
    assert await stored(api) == before

    answer = await api.post("/login", json=body(PASSWORD))
    assert answer.status_code == 200, answer.text
    after = await stored(api)
    assert after.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await api.get("/me", headers=bearer)).json()["email"] == EMAIL

    # The new hash is like that of any other account.
    problem(await api.post("/login", json=body("not " + PASSWORD)), 401, "invalid_credentials")
    assert (await api.post("/login", json=body(PASSWORD))).status_code == 200
    assert await stored(api) == after


async def test_stronger_imported_hash_is_rehashed(api_on_each: Client) -> None:
    # Otherwise the response time would show that the account was imported.
    await bring_in(api_on_each, DEFAULT["pwdlib: argon2id"])
    assert (await api_on_each.post("/login", json=body(PASSWORD))).status_code == 200
    assert (await stored(api_on_each)).startswith("$argon2id$v=19$m=8,t=1,p=1$")


async def test_password_longer_than_bcrypt_reads_is_wrong(api: Client) -> None:
    await bring_in(api, BCRYPT_OF_72)
    before = await stored(api)
    for wrong in ("x" * 73, "x" * 71 + "é"):
        problem(await api.post("/login", json=body(wrong)), 401, "invalid_credentials")
    assert await stored(api) == before
    assert (await api.post("/login", json=body("x" * 72))).status_code == 200


async def test_deactivated_imported_account_cannot_log_in(api: Client) -> None:
    await bring_in(api, CHEAP["Werkzeug: scrypt"], is_active=False)
    problem(await api.post("/login", json=body(PASSWORD)), 401, "invalid_credentials")
    assert (await stored(api)).startswith("foreign:")


async def test_imported_account_without_hash_cannot_log_in(api: Client) -> None:
    services = api.services
    importing = AccountImporter(services.database, services.audit, services.settings)
    await importing.run(io.BytesIO(json.dumps({"email": EMAIL}).encode()), lambda *_: None)
    for password in ("x", "None", PASSWORD):
        problem(await api.post("/login", json=body(password)), 401, "invalid_credentials")


async def test_owner_sees_the_import_event(api_on_each: Client) -> None:
    await bring_in(api_on_each, CHEAP["Django: pbkdf2_sha256"])
    user = await api_on_each.services.accounts.profiles.find_by_email(parse_email(EMAIL))
    await api_on_each.login(user, password=PASSWORD)
    events = (await api_on_each.get("/me/events")).json()["items"]
    assert [event["type"] for event in events] == [EventType.LOGIN, EventType.ACCOUNT_IMPORTED]
    assert events[1]["outcome"] == "success"
