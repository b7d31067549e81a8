"""POST /login/passkey: a login by a passkey alone, on each database."""

import json
from datetime import timedelta
from typing import Any

import httpx
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
    ORIGIN,
    PRESENT,
    VERIFIED,
    SoftAuthenticator,
    b64,
    unb64,
)
from tests.storage.rows import sql
from tests.web.passkeys import add_passkey, log_in, options
from tests.web.responses import check_headers, problem

RELYING_PARTY = "authapi.services.factors.webauthn.relying_party"

STRATEGIES = ["session", "token", "jwt"]


async def alice_of(api: Client, passkey: SoftAuthenticator) -> User:
    alice = await api.create_user("alice@example.com")
    await add_passkey(api, alice, passkey)
    return alice


def unavailable(response: httpx.Response) -> str:
    """Why passkeys are not available."""
    return str(problem(response, 403, "passkeys_unavailable")["detail"])


async def sessions(api: Client, user: User) -> int:
    return len(await api.services.sessions.list_for_user(user.id))


async def refusals(api: Client, user: User) -> list[dict[str, Any]]:
    events = await api.services.audit.page(user.id, before=None, limit=20)
    return [dict(event.detail) for event in events if event.type is EventType.PASSKEY_REFUSED]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("algorithm", [-7, -8, -257])
async def test_a_passkey_is_a_whole_login(
    api_on_each: Client, strategy: str, algorithm: int
) -> None:
    api, passkey = api_on_each, SoftAuthenticator(algorithm)
    alice = await alice_of(api, passkey)
    before = await sessions(api, alice)
    done = await log_in(api, passkey, strategy)
    assert done.status_code == 200, done.text
    check_headers(done)
    assert (done.json()["strategy"], done.json()["user"]["email"]) == (strategy, alice.email)
    assert ("access_token" in done.json()) is (strategy != "session")
    if strategy != "session":
        api.headers["Authorization"] = f"Bearer {done.json()['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert (identity["amr"], identity["acr"]) == (["pop", "user", "mfa"], "phr")
    assert identity["mfa_at"] == identity["auth_time"]
    assert await sessions(api, alice) == before + 1
    events = await api.services.audit.page(alice.id, before=None, limit=9)
    login = next(event for event in events if event.type is EventType.LOGIN)
    assert login.detail["amr"] == ["pop", "user", "mfa"]
    [found] = (await api.services.factors.changes.overview(alice)).passkeys
    assert found.last_used_at is not None


async def test_a_passkey_that_cannot_be_copied_is_bound_to_hardware(api: Client) -> None:
    passkey = SoftAuthenticator(counts=True, flags=PRESENT | VERIFIED)
    await alice_of(api, passkey)
    done = await log_in(api, passkey)
    api.headers["Authorization"] = f"Bearer {done.json()['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert identity["amr"] == ["pop", "user", "hwk", "mfa"]


async def test_the_options_name_no_account_and_bind_the_browser(api: Client) -> None:
    await alice_of(api, SoftAuthenticator())
    answer = await api.post("/login/passkey/options", json={})
    check_headers(answer)
    found = answer.json()
    challenge = found.pop("challenge")
    assert found == {
        "rpId": "localhost",
        "timeout": 300_000,
        "allowCredentials": [],
        "userVerification": "required",
    }
    assert len(unb64(challenge)) == 37
    assert answer.headers["cache-control"] == "no-store"
    kept = answer.headers["set-cookie"]
    assert kept.startswith("authapi-login=")
    # Two tabs share the browser, and their challenges do not end one another.
    again = await api.post("/login/passkey/options", json={})
    assert again.headers["set-cookie"] == kept
    assert again.json()["challenge"] != challenge


async def test_page_views_write_nothing(api: Client) -> None:
    for _ in range(3):
        await api.post("/login/passkey/options", json={})
    async with api.services.database.read() as store:
        table = store.tables.used_challenges
        assert (await store.connection.execute(table.select())).all() == []


async def test_a_challenge_is_answered_once(api_on_each: Client) -> None:
    api, passkey = api_on_each, SoftAuthenticator()
    alice = await alice_of(api, passkey)
    asked = await options(api, "/login/passkey/options", {})
    body = {"credential": passkey.get(asked), "strategy": "token"}
    cookies = dict(api.cookies)
    assert (await api.post("/login/passkey", json=body)).status_code == 200
    count = await sessions(api, alice)
    api.cookies.update(cookies)
    problem(await api.post("/login/passkey", json=body), 401, "passkey_refused")
    body = {"credential": passkey.get(asked), "strategy": "token"}  # another signature
    problem(await api.post("/login/passkey", json=body), 401, "passkey_refused")
    assert await sessions(api, alice) == count


async def test_a_challenge_lasts_five_minutes(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_of(api, passkey)
    with time_machine.travel(now(), tick=False) as clock:
        asked = await options(api, "/login/passkey/options", {})
        cookies = {"cookie": f"authapi-login={api.cookies['authapi-login']}"}
        body = {"credential": passkey.get(asked), "strategy": "token"}
        api.cookies.clear()
        clock.shift(timedelta(minutes=5))
        late = await api.post("/login/passkey", json=body, headers=cookies)
        problem(late, 401, "passkey_refused")
        clock.shift(timedelta(seconds=-1))
        in_time = await api.post("/login/passkey", json=body, headers=cookies)
        assert in_time.status_code == 200


async def test_a_challenge_belongs_to_its_browser(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_of(api, passkey)
    body = {"credential": passkey.get(await options(api, "/login/passkey/options", {}))}
    api.cookies.clear()
    problem(await api.post("/login/passkey", json=body), 401, "passkey_refused")
    await options(api, "/login/passkey/options", {})  # another browser
    problem(await api.post("/login/passkey", json=body), 401, "passkey_refused")


async def test_challenges_of_other_purposes_log_nobody_in(api: Client) -> None:
    passkey = SoftAuthenticator()
    alice = await api.create_user("alice@example.com")
    _, headers = await add_passkey(api, alice, passkey)
    await options(api, "/login/passkey/options", {})
    registration = await options(api, "/me/factors/passkeys/options", headers)
    step_up = await options(api, "/me/reauthenticate/options", headers)
    login = {"email": alice.email, "password": PASSWORD, "strategy": "token"}
    ticket = (await api.post("/login", json=login)).json()["ticket"]
    second = await options(api, "/login/second-factor/options", {}, ticket=ticket)
    for asked in (registration, step_up, second):
        found = passkey.get({**step_up, "challenge": asked["challenge"]})
        body = {"credential": found, "strategy": "token"}
        problem(await api.post("/login/passkey", json=body), 401, "passkey_refused")


HANDLE = b"h" * 32
CHANGES: dict[str, tuple[dict[str, Any], str | None]] = {
    "no user verification": ({"flags": PRESENT | ELIGIBLE | BACKED_UP}, None),
    "no user presence": ({"flags": VERIFIED | ELIGIBLE | BACKED_UP}, None),
    "another domain": ({"rp_id": "example.com"}, None),
    "another origin": ({"origin": "https://evil.example"}, "origin"),
    "the origin of a longer host": ({"origin": "http://localhost.evil.example"}, "origin"),
    "an address": ({"origin": "http://127.0.0.1:8000"}, "origin"),
    "a frame": ({"client_data": {"crossOrigin": True}}, "origin"),
    "a frame, as text": ({"client_data": {"crossOrigin": "false"}}, "origin"),
    "an embedding page": ({"client_data": {"topOrigin": ORIGIN}}, "origin"),
    "another ceremony": ({"client_data": {"type": "webauthn.create"}}, None),
    "the handle of another account": ({"handle": HANDLE}, "user"),
    "no handle": ({"handle": None}, "user"),
    "a passkey that became unsynced": ({"flags": PRESENT | VERIFIED}, None),
}
"""What an attacker may change, and the reason that the event has."""


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_passkey_does_not_prove(api: Client, change: str) -> None:
    passkey = SoftAuthenticator()
    alice = await alice_of(api, passkey)
    count = await sessions(api, alice)
    changes, reason = CHANGES[change]
    kept = {name: getattr(passkey, name) for name in changes}
    for name, value in changes.items():
        setattr(passkey, name, value)
    refused = await log_in(api, passkey)
    assert "unknown" not in problem(refused, 401, "passkey_refused")
    assert await sessions(api, alice) == count
    assert await refusals(api, alice) == [{} if reason is None else {"reason": reason}]
    for name, value in kept.items():
        setattr(passkey, name, value)
    assert (await log_in(api, passkey)).status_code == 200


async def test_another_key_signs_nothing(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_of(api, passkey)
    copied = SoftAuthenticator(credential_id=passkey.credential_id, handle=passkey.handle)
    problem(await log_in(api, copied), 401, "passkey_refused")


async def test_a_counter_that_stands_still_tells_of_a_copy(api_on_each: Client) -> None:
    api, passkey = api_on_each, SoftAuthenticator(counts=True, flags=PRESENT | VERIFIED)
    alice = await alice_of(api, passkey)
    for _ in range(2):
        assert (await log_in(api, passkey)).status_code == 200
    for count in (0, 1):  # the next use has this count plus one, and the last one had two
        passkey.sign_count = count
        problem(await log_in(api, passkey), 401, "passkey_refused")
    assert await refusals(api, alice) == [{"reason": "counter"}] * 2
    passkey.sign_count = 2
    assert (await log_in(api, passkey)).status_code == 200
    passkey.counts, passkey.sign_count = False, 0
    problem(await log_in(api, passkey), 401, "passkey_refused")


async def test_a_page_can_have_an_unknown_passkey_removed(api: Client) -> None:
    await alice_of(api, SoftAuthenticator())
    stranger = SoftAuthenticator(handle=HANDLE)
    assert problem(await log_in(api, stranger), 401, "passkey_refused")["unknown"] is True


async def test_a_deactivated_account_is_refused(api: Client) -> None:
    passkey = SoftAuthenticator()
    alice = await alice_of(api, passkey)
    await api.services.accounts.administration.change(alice.id, {"is_active": False})
    assert "unknown" not in problem(await log_in(api, passkey), 401, "passkey_refused")


async def test_an_unconfirmed_address_is_refused_where_it_must_be_confirmed(
    make_settings: SettingsFactory, sqlite_url: str
) -> None:
    passkey = SoftAuthenticator()
    async with client(create_app(make_settings(registration="confirm"))) as api:
        await alice_of(api, passkey)
        assert (await log_in(api, passkey)).status_code == 200
        sql(sqlite_url, "UPDATE authapi_users SET email_confirmed_at = NULL")
        problem(await log_in(api, passkey), 401, "passkey_refused")


async def test_a_login_of_another_page_is_refused(api: Client) -> None:
    passkey = SoftAuthenticator()
    await alice_of(api, passkey)
    asked = await options(api, "/login/passkey/options", {})
    body = {"credential": passkey.get(asked)}
    for path, content in (("/login/passkey/options", {}), ("/login/passkey", body)):
        foreign = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        problem(await api.post(path, json=content, headers=foreign), 403, "foreign_origin")


async def test_hooks_run_before_the_login(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings())
    async with client(app) as api:
        passkey, seen = SoftAuthenticator(), list[str]()
        await alice_of(api, passkey)

        async def note(request: object, email: str) -> None:
            assert request is not None
            seen.append(email)

        api.services.hooks._before_login.append(note)  # registered late
        assert (await log_in(api, passkey)).status_code == 200
        assert seen == ["alice@example.com"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"passkeys": "off"}, "Passkeys are not available"),
        ({"passkeys": "second_factor"}, "Log in with your password first"),
        ({"passkey_rp_id": "127.0.0.1"}, "http://localhost:8000"),
        ({"public_url": "http://10.0.0.1:9000"}, "http://localhost:9000"),
    ],
)
async def test_why_passkeys_are_not_available(
    make_settings: SettingsFactory, changes: dict[str, object], text: str
) -> None:
    async with client(create_app(make_settings(**changes))) as api:
        refused = await api.post("/login/passkey/options", json={})
        assert text in unavailable(refused)
        body = {"credential": SoftAuthenticator(handle=HANDLE).get(FAKE_OPTIONS)}
        problem(await api.post("/login/passkey", json=body), 403, "passkeys_unavailable")


FAKE_OPTIONS = {"challenge": b64(bytes(37)), "rpId": "localhost", "allowCredentials": []}


async def test_without_the_extra_the_error_says_how_to_install_it(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "authapi.services.factors.webauthn.relying_party.is_installed", lambda: False
    )
    refused = await api.post("/login/passkey/options", json={})
    assert "fastapi-authapi[passkeys]" in unavailable(refused)


async def test_a_page_at_an_address_is_told_what_to_open(api: Client) -> None:
    at_address = {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}
    refused = await api.post("/login/passkey/options", json={}, headers=at_address)
    assert "http://localhost:8000" in unavailable(refused)
    at_name = {"origin": "http://localhost:8000", "host": "localhost:8000"}
    assert (await api.post("/login/passkey/options", json={}, headers=at_name)).status_code == 200


async def test_a_named_app_and_an_own_page_log_in(database_url: str) -> None:
    android = "android:apk-key-hash:" + "A" * 43
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]  # pydantic parses it
        public_url="https://auth.example.com",
        passkey_rp_id="example.com",
        passkey_origins=(android, "https://example.com"),
    )
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        passkey = SoftAuthenticator(origin="https://auth.example.com")
        alice = await api.create_user("alice@example.com")
        await add_passkey(api, alice, passkey, "jwt")
        for origin in ("https://auth.example.com", android, "https://example.com"):
            passkey.origin = origin
            assert (await log_in(api, passkey)).status_code == 200
        for origin in ("https://example.com:8443", "http://localhost:8000", android + "x"):
            passkey.origin = origin
            problem(await log_in(api, passkey), 401, "passkey_refused")


async def test_malformed_credentials_are_invalid_input(api: Client) -> None:
    passkey = SoftAuthenticator(handle=HANDLE)
    good = passkey.get(FAKE_OPTIONS)
    for path, value in (
        (("id",), "not base64url!"),
        (("id",), "A"),
        (("id",), b64(bytes(1024))),
        (("type",), "password"),
        (("response", "signature"), ""),
        (("response", "signature"), 7),
        (("response", "userHandle"), b64(bytes(65))),
        (("response", "clientDataJSON"), None),
    ):
        changed = json.loads(json.dumps(good))
        target = changed if len(path) == 1 else changed[path[0]]
        target[path[-1]] = value
        answer = await api.post("/login/passkey", json={"credential": changed})
        problem(answer, 422, "validation_failed")
    problem(await api.post("/login/passkey", json={"credential": good}), 401, "passkey_refused")
