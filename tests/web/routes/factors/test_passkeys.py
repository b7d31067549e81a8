"""/me/factors/passkeys: adding, naming and removing passkeys, on each database."""

import importlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import cbor2
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.soft_authenticator import (
    BACKED_UP,
    ELIGIBLE,
    PRESENT,
    VERIFIED,
    SoftAuthenticator,
    b64,
    unb64,
)
from tests.storage.rows import sql
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds
from tests.web.passkeys import add_passkey, log_in, options, register, renewed
from tests.web.responses import check_headers, problem

OPTIONS, PASSKEYS = "/me/factors/passkeys/options", "/me/factors/passkeys"


@pytest.fixture
async def api_on_each(database_url: str) -> AsyncIterator[Client]:
    async with client_with_mailbox(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


async def a_user(api: Client, email: str = "alice@example.com") -> User:
    user = await api.create_user(email)
    return await api.services.accounts.email_changes.confirm_for_operator(user.id)


async def factors(api: Client, headers: Headers) -> dict[str, Any]:
    answer = await api.get("/me/factors", headers=headers)
    assert answer.status_code == 200
    check_headers(answer)
    found: dict[str, Any] = answer.json()
    return found


async def events(api: Client, user: User, kind: EventType) -> list[dict[str, Any]]:
    found = await api.services.audit.page(user.id, before=None, limit=30)
    return [dict(event.detail) for event in found if event.type is kind]


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_a_passkey_is_added_named_and_removed(api_on_each: Client, strategy: str) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    alice = await a_user(api)
    other = await sign_in(api.services, alice, "token")
    headers = await sign_in(api.services, alice, strategy)
    answer = await register(api, headers, passkey)
    assert answer.status_code == 201
    check_headers(answer)
    assert ("set-cookie" in answer.headers) is (strategy == "session")
    added = answer.json()
    assert len(set(added["recovery_codes"])) == 10
    # The first factor ends the other logins, and replaces the secret of this one.
    problem(await api.get("/me", headers=other), 401, "unauthenticated")
    if strategy == "session":
        problem(await api.get("/me", headers=headers), 401, "unauthenticated")
    headers = renewed(answer, headers)
    api.cookies.clear()
    identity = (await api.get("/me/identity", headers=headers)).json()
    assert (identity["amr"], identity["acr"]) == (["pwd", "pop", "mfa"], "phr")
    found = await factors(api, headers)
    assert (found["mfa"], found["totp"], found["passkeys"]) == (True, None, [added["passkey"]])
    shown = dict(added["passkey"])
    assert shown.pop("id")
    assert shown.pop("created_at")
    assert shown == {
        "name": "My phone",
        "last_used_at": None,
        "is_synced": True,
        "backed_up": True,
        "transports": ["internal", "hybrid"],
        "aaguid": "00000000-0000-0000-0000-000000000000",
        "credential_id": passkey.id,
    }
    assert await events(api, alice, EventType.FACTOR_ADDED) == [{"method": "passkey"}]
    path = f"{PASSKEYS}/{added['passkey']['id']}"
    named = await api.patch(path, json={"name": "New phone"}, headers=headers)
    assert named.json() == {**added["passkey"], "name": "New phone"}
    removed = await api.delete(path, headers=headers)
    assert (removed.status_code, removed.content) == (204, b"")
    found = await factors(api, headers)
    nothing: dict[str, Any] = {"mfa": False, "required": False, "totp": None, "passkeys": []}
    assert found == {**nothing, "recovery_codes": None}
    assert await events(api, alice, EventType.FACTOR_REMOVED) == [{"method": "passkey"}]
    assert (await mail_kinds(api.services, alice.email))[-2:] == ["factor_added", "factor_removed"]
    body = {"email": alice.email, "password": PASSWORD, "strategy": "token"}
    assert (await api.post("/login", json=body)).status_code == 200
    assert problem(await log_in(api, passkey), 401, "passkey_refused")["unknown"] is True
    problem(await api.delete(path, headers=headers), 404, "not_found")
    problem(await api.patch(path, json={"name": "x"}, headers=headers), 404, "not_found")


async def test_the_options_ask_for_a_passkey_of_the_device_and_its_user(api: Client) -> None:
    alice, passkey = await a_user(api), SoftAuthenticator()
    _, headers = await add_passkey(api, alice, passkey)
    found = await options(api, OPTIONS, headers)
    assert found.pop("challenge")
    user = found.pop("user")
    assert found == {
        "rp": {"id": "localhost", "name": "authapi"},
        "pubKeyCredParams": [{"type": "public-key", "alg": alg} for alg in (-8, -7, -257)],
        "timeout": 300_000,
        "excludeCredentials": [
            {"type": "public-key", "id": passkey.id, "transports": ["internal", "hybrid"]}
        ],
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }
    # Random, and the same for all passkeys of the account.
    assert (user["name"], user["displayName"]) == (alice.email, alice.email)
    assert len(unb64(user["id"])) == 32
    assert alice.id.bytes not in unb64(user["id"])
    assert unb64(user["id"]) == passkey.handle
    again = await options(api, OPTIONS, headers)
    assert again["user"] == user


async def test_further_passkeys_keep_the_codes_and_the_other_logins(api_on_each: Client) -> None:
    api, one, two = api_on_each, SoftAuthenticator(), SoftAuthenticator(-8)
    alice = await a_user(api)
    _, headers = await add_passkey(api, alice, one)
    other = (await log_in(api, one)).json()["access_token"]
    api.cookies.clear()
    answer = await register(api, headers, two, "Key")
    assert answer.json().keys() == {"passkey"}
    headers = renewed(answer, headers)
    bearer = {"authorization": f"Bearer {other}"}
    assert (await api.get("/me", headers=bearer)).status_code == 200
    found = await factors(api, headers)
    assert [item["name"] for item in found["passkeys"]] == ["My phone", "Key"]
    first, _ = found["passkeys"]
    answer = await api.delete(f"{PASSKEYS}/{first['id']}", headers=headers)
    assert answer.status_code == 204
    found = await factors(api, headers)
    assert (found["mfa"], found["recovery_codes"]["left"]) == (True, 10)
    assert (await log_in(api, two)).status_code == 200


async def test_an_app_and_a_passkey_stand_for_one_another(api: Client) -> None:
    import pyotp

    alice, passkey = await a_user(api), SoftAuthenticator()
    added, headers = await add_passkey(api, alice, passkey)
    secret = (await api.post("/me/factors/totp", headers=headers)).json()["secret"]
    code = {"code": pyotp.TOTP(secret).at(now())}
    confirmed = await api.post("/me/factors/totp/confirm", json=code, headers=headers)
    assert (confirmed.status_code, confirmed.json()) == (200, {})
    headers = renewed(confirmed, headers)
    api.cookies.clear()
    assert (await api.delete("/me/factors/totp", headers=headers)).status_code == 204
    found = await factors(api, headers)
    assert (found["mfa"], found["totp"], found["recovery_codes"]["left"]) == (True, None, 10)
    path = f"{PASSKEYS}/{added['passkey']['id']}"
    assert (await api.delete(path, headers=headers)).status_code == 204
    assert (await factors(api, headers))["recovery_codes"] is None


async def test_only_a_recent_login_with_the_factor_changes_passkeys(api: Client) -> None:
    alice, passkey = await a_user(api), SoftAuthenticator()
    added, headers = await add_passkey(api, alice, passkey)
    path = f"{PASSKEYS}/{added['passkey']['id']}"
    weak = await sign_in(api.services, alice)  # one factor, from before
    created = {"credential": passkey.get(FAKE) | {"response": RESPONSE}, "name": "x"}
    calls: list[tuple[str, str, Any]] = [
        ("POST", OPTIONS, None),
        ("POST", PASSKEYS, created),
        ("DELETE", path, None),
    ]
    for method, url, body in calls:
        refused = await api.request(method, url, json=body, headers=weak)
        problem(refused, 401, "insufficient_authentication")
    refused = await api.patch(path, json={"name": "x"}, headers=weak)
    problem(refused, 401, "insufficient_authentication")
    with time_machine.travel(now() + timedelta(minutes=6), tick=True):
        for method, url, body in calls:
            refused = await api.request(method, url, json=body, headers=headers)
            problem(refused, 401, "stale_authentication")
        assert (await api.patch(path, json={"name": "x"}, headers=headers)).status_code == 200
    token = (await api.post("/me/tokens", json={"name": "x"}, headers=headers)).json()
    personal = {"authorization": f"Bearer {token['access_token']}"}
    problem(await api.post(OPTIONS, headers=personal), 401, "unauthenticated")


FAKE = {"challenge": b64(bytes(37)), "rpId": "localhost", "allowCredentials": []}
RESPONSE = {"clientDataJSON": b64(b"{}"), "attestationObject": b64(b"x")}


async def test_an_unconfirmed_address_adds_nothing(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    problem(await api.post(OPTIONS, headers=headers), 403, "email_not_confirmed")


async def test_without_second_factors_there_are_no_new_passkeys(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(mfa="off"))) as api:
        headers = await sign_in(api.services, await a_user(api))
        problem(await api.post(OPTIONS, headers=headers), 403, "mfa_disabled")


async def test_a_maximum_of_passkeys(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(max_passkeys=2))) as api:
        _, headers = await add_passkey(api, await a_user(api), SoftAuthenticator())
        late = SoftAuthenticator()
        created = late.create(await options(api, OPTIONS, headers))
        headers = renewed(await register(api, headers, SoftAuthenticator()), headers)
        problem(await api.post(OPTIONS, headers=headers), 409, "too_many_factors")
        body = {"credential": created, "name": "Third"}
        problem(await api.post(PASSKEYS, json=body, headers=headers), 409, "too_many_factors")


async def test_a_passkey_belongs_to_one_account(api_on_each: Client) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    await add_passkey(api, await a_user(api), passkey)
    bob = await a_user(api, "bob@example.com")
    headers = await sign_in(api.services, bob)
    answer = await register(api, headers, SoftAuthenticator(credential_id=passkey.credential_id))
    problem(answer, 409, "factor_exists")
    assert (await factors(api, headers))["mfa"] is False
    assert (await log_in(api, passkey)).json()["user"]["email"] == "alice@example.com"


async def test_the_last_way_in_stays(api_on_each: Client, database_url: str) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    alice = await a_user(api)
    added, headers = await add_passkey(api, alice, passkey)
    sql(database_url, "UPDATE authapi_users SET password_hash = NULL")
    path = f"{PASSKEYS}/{added['passkey']['id']}"
    problem(await api.delete(path, headers=headers), 409, "last_way_in")
    assert len((await factors(api, headers))["passkeys"]) == 1
    headers = renewed(await register(api, headers, SoftAuthenticator()), headers)
    assert (await api.delete(path, headers=headers)).status_code == 204


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": PRESENT | ELIGIBLE | BACKED_UP},
        {"flags": VERIFIED | ELIGIBLE | BACKED_UP},
        {"flags": PRESENT | VERIFIED | BACKED_UP},
        {"rp_id": "example.com"},
        {"origin": "https://evil.example"},
        {"client_data": {"crossOrigin": True}},
        {"client_data": {"topOrigin": "http://localhost:8000"}},
        {"client_data": {"type": "webauthn.get"}},
        {"client_data": {"challenge": b64(bytes(37))}},
        {"client_data": {"challenge": 7}},
        {"client_data": {"origin": None}},
        {"credential_id": b""},
    ],
    ids=str,
)
async def test_what_a_new_passkey_must_be(api: Client, changes: dict[str, Any]) -> None:
    headers = await sign_in(api.services, await a_user(api))
    asked = await options(api, OPTIONS, headers)
    changed = SoftAuthenticator()
    created = changed.create(asked)
    for name, value in changes.items():
        setattr(changed, name, value)
    body = {"credential": {**changed.create(asked), "id": created["id"]}, "name": "x"}
    problem(await api.post(PASSKEYS, json=body, headers=headers), 403, "wrong_passkey")
    assert (await factors(api, headers))["mfa"] is False
    answer = await api.post(PASSKEYS, json={"credential": created, "name": "x"}, headers=headers)
    assert answer.status_code == 201


async def test_statements_of_attestation_are_not_parsed(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise AssertionError

    registration = importlib.import_module("webauthn.registration.verify_registration_response")
    verifiers = [
        name for name in vars(registration) if name.startswith("verify_") and "response" not in name
    ]
    assert len(verifiers) >= 6
    for name in verifiers:
        monkeypatch.setattr(registration, name, parse)
    headers = await sign_in(api.services, await a_user(api), "jwt")
    statement = {"alg": -7, "sig": b"x", "x5c": [b"no certificate"]}
    for fmt in ("none", "packed", "android-safetynet", "tpm", "fido-u2f", "apple", "other", 7):
        created = SoftAuthenticator().create(await options(api, OPTIONS, headers))
        found = cbor2.loads(unb64(created["response"]["attestationObject"]))
        changed = cbor2.dumps({**found, "fmt": fmt, "attStmt": statement})
        created["response"]["attestationObject"] = b64(changed)
        body = {"credential": created, "name": "x"}
        answer = await api.post(PASSKEYS, json=body, headers=headers)
        assert answer.status_code == 201, answer.text


async def test_a_registration_is_answered_once_in_time_by_its_session(api_on_each: Client) -> None:
    api = api_on_each
    alice = await a_user(api)
    _, headers = await add_passkey(api, alice, SoftAuthenticator())
    asked = await options(api, OPTIONS, headers)
    first = {"credential": SoftAuthenticator().create(asked), "name": "x"}
    second = {"credential": SoftAuthenticator().create(asked), "name": "x"}
    answer = await api.post(PASSKEYS, json=first, headers=headers)
    headers = renewed(answer, headers)
    api.cookies.clear()
    problem(await api.post(PASSKEYS, json=second, headers=headers), 403, "wrong_passkey")
    bob = await sign_in(api.services, await a_user(api, "bob@example.com"))
    asked = await options(api, OPTIONS, headers)
    third = {"credential": SoftAuthenticator().create(asked), "name": "x"}
    problem(await api.post(PASSKEYS, json=third, headers=bob), 403, "wrong_passkey")
    login = await options(api, "/login/passkey/options", {})
    step_up = await options(api, "/me/reauthenticate/options", headers)
    for challenge in (login["challenge"], step_up["challenge"]):
        created = SoftAuthenticator().create({**asked, "challenge": challenge})
        body = {"credential": created, "name": "x"}
        problem(await api.post(PASSKEYS, json=body, headers=headers), 403, "wrong_passkey")
    with time_machine.travel(now() + timedelta(minutes=4, seconds=59), tick=False) as clock:
        clock.shift(timedelta(seconds=1))
        late = await api.post(PASSKEYS, json=third, headers=headers)
        assert late.json()["code"] in ("wrong_passkey", "stale_authentication")


async def test_passkeys_of_others_are_not_found(api: Client) -> None:
    added, _ = await add_passkey(api, await a_user(api), SoftAuthenticator())
    bob = await a_user(api, "bob@example.com")
    _, headers = await add_passkey(api, bob, SoftAuthenticator())
    path = f"{PASSKEYS}/{added['passkey']['id']}"
    problem(await api.patch(path, json={"name": "x"}, headers=headers), 404, "not_found")
    problem(await api.delete(path, headers=headers), 404, "not_found")


async def test_the_export_has_the_passkeys_without_their_keys(api: Client) -> None:
    added, headers = await add_passkey(api, await a_user(api), SoftAuthenticator())
    exported = (await api.get("/me/export", headers=headers)).json()
    assert exported["factors"]["passkeys"] == [added["passkey"]]


async def test_other_sites_are_listed_for_browsers(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        public_url="https://auth.example.com/base",
        passkey_rp_id="example.com",
        passkey_origins=("https://www.example.com", "https://example.org"),
    )
    async with client(create_app(settings)) as api:
        answer = await api.get("/.well-known/webauthn")
        assert answer.json() == {"origins": ["https://example.org"]}
        assert answer.headers["content-type"] == "application/json"
    async with client(create_app(make_settings())) as api:
        problem(await api.get("/.well-known/webauthn"), 404, "not_found")
