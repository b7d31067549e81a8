"""Cookie sessions: the contract, and properties of the cookie."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import time_machine

from authapi import Settings, User, create_app
from authapi.crypto.secrets import new_secret
from authapi.storage.inspection import count_rows
from authapi.testing import PASSWORD, Client, client
from authapi.testing.strategy_contract import MOMENT, START, RevocableContract
from authapi.testing.strategy_harness import (
    Credential,
    Harness,
    Headers,
    cookie_of,
    refusal,
    statements,
)
from tests.conftest import SettingsFactory
from tests.strategies.on_each_database import OnEachDatabase
from tests.tables import sessions

PUBLIC = "https://auth.example.com"
DAY = timedelta(days=1)


class TestSession(OnEachDatabase, RevocableContract):
    spec = "session"
    is_cached = True

    def issued_credential(self, response: httpx.Response) -> Credential:
        return cookie_of(response)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        name, value = "authapi", good.secret
        other = new_secret()
        texts = {
            "empty": f"{name}=",
            "short": f"{name}={value[:-1]}",
            "long": f"{name}={value}A",
            "quoted": f'{name}="{value}"',
            "padded": f"{name}={value}=",
            "another alphabet": f"{name}={'+' + value[1:]}",
            "another spelling of the same bytes": f"{name}={_respelt(value)}",
            "an opaque token": f"{name}=aat_{value}",
            "twice, the good one first": f"{name}={value}; {name}={other}",
            "twice, the good one last": f"{name}={other}; {name}={value}",
            "twice the same": f"{name}={value}; {name}={value}",
            "twice, without a space": f"{name}={value};{name}={value}",
            "twice, once empty": f"{name}={value}; {name}=",
        }
        return {reason: {"Cookie": text} for reason, text in texts.items()}

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {
            "made up": {"Cookie": f"authapi={new_secret()}"},
            "tampered": {"Cookie": f"authapi={_typo(good.secret)}"},
        }


@pytest.fixture
async def secure(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """A client of the service behind HTTPS."""
    app = create_app(make_settings(public_url=PUBLIC))
    async with client(app, base_url=PUBLIC) as found:
        yield found


async def log_in(api: Client, user: User, cookie: str | None = None, **options: Any) -> str:
    """Logs in with an optional `cookie` in the request; returns the new one as `name=value`."""
    body = {"email": user.email, "password": PASSWORD, **options}
    headers = {} if cookie is None else {"Cookie": cookie}
    answer = await api.post("/login", json=body, headers=headers)
    api.cookies.clear()
    assert answer.status_code == 200, answer.text
    return str(answer.headers["set-cookie"]).partition(";")[0]


async def status(api: Client, cookie: str, path: str = "/me") -> int:
    answer = await api.get(path, headers={"Cookie": cookie})
    api.cookies.clear()
    return answer.status_code


@pytest.mark.parametrize("remember", [False, True])
async def test_cookie_over_http(api: Client, remember: bool) -> None:
    alice = await api.create_user()
    body = {"email": alice.email, "password": PASSWORD, "remember": remember}
    answer = await api.post("/login", json=body)
    [cookie] = answer.headers.get_list("set-cookie")
    pair, *attributes = cookie.split("; ")
    assert re.fullmatch(r"authapi=[A-Za-z0-9_-]{43}", pair)
    age = ["Max-Age=7776000"] if remember else []
    assert sorted(attributes) == sorted(["Path=/", "HttpOnly", "SameSite=Lax", *age])


@pytest.mark.parametrize("remember", [False, True])
async def test_cookie_over_https(secure: Client, remember: bool) -> None:
    alice = await secure.create_user()
    body = {"email": alice.email, "password": PASSWORD, "remember": remember}
    answer = await secure.post("/login", json=body)
    [cookie] = answer.headers.get_list("set-cookie")
    pair, *attributes = cookie.split("; ")
    assert re.fullmatch(r"__Host-authapi=[A-Za-z0-9_-]{43}", pair)
    age = ["Max-Age=7776000"] if remember else []
    assert sorted(attributes) == sorted(["Path=/", "HttpOnly", "SameSite=Lax", "Secure", *age])
    assert (await secure.get("/me")).status_code == 200, "a cookie jar sends it"


async def test_secret_is_not_in_the_body(api: Client) -> None:
    alice = await api.create_user()
    answer = await api.login(alice)
    assert answer.json().keys() == {"user", "strategy", "expires_at"}
    assert api.cookies["authapi"] not in answer.text


@pytest.mark.parametrize("public_url", [None, PUBLIC])
async def test_logout_clears_the_cookie(
    make_settings: SettingsFactory, public_url: str | None
) -> None:
    app = create_app(make_settings(public_url=public_url))
    async with client(app, base_url=public_url or "http://127.0.0.1:8000") as api:
        alice = await api.create_user()
        login = await api.login(alice)
        answer = await api.post("/logout")
        assert answer.status_code == 204
        [given], [taken] = (a.headers.get_list("set-cookie") for a in (login, answer))
        name = given.partition("=")[0]
        # A browser deletes a cookie only with the same name, path and Secure attribute.
        assert taken == f"{name}=; " + given.partition("; ")[2] + "; Max-Age=0"
        assert answer.headers["clear-site-data"] == '"cache", "cookies", "storage"'
        assert not api.cookies


async def test_remembered_session_lives_longer(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(make_settings())) as api:
            alice = await api.create_user()
            short, long = await log_in(api, alice), await log_in(api, alice, remember=True)
            clock.move_to(START + 14 * DAY - MOMENT, tick=False)
            assert [await status(api, cookie) for cookie in (short, long)] == [401, 200]
            for day in range(20, 90, 10):
                clock.move_to(START + day * DAY, tick=False)
                assert await status(api, long) == 200, day
            clock.move_to(START + 90 * DAY, tick=False)
            assert await status(api, long) == 401


async def test_session_ends_after_the_idle_timeout(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(make_settings())) as api:
            alice = await api.create_user()
            unused, nearly = await log_in(api, alice), await log_in(api, alice)
            clock.move_to(START + DAY - MOMENT, tick=False)
            assert await status(api, nearly) == 200, "this request extends it"
            clock.move_to(START + DAY, tick=False)
            assert await status(api, unused) == 401
            clock.move_to(START + 2 * DAY - 2 * MOMENT, tick=False)
            assert await status(api, nearly) == 200, "measured from the last request"
            clock.move_to(START + 3 * DAY - 2 * MOMENT, tick=False)
            assert await status(api, nearly) == 401


async def test_refused_request_does_not_extend_the_session(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(make_settings())) as api:
            alice = await api.create_user()
            cookie = await log_in(api, alice)
            clock.move_to(START + DAY, tick=False)
            assert await status(api, cookie) == 401
            assert await status(api, cookie) == 401, "a request does not revive it"
            await api.services.last_used.flush()
            assert await status(api, cookie) == 401


async def test_session_ends_at_the_absolute_timeout(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(make_settings())) as api:
            alice = await api.create_user()
            cookie = await log_in(api, alice)
            for hours in range(12, 7 * 24, 12):
                clock.move_to(START + timedelta(hours=hours), tick=False)
                assert await status(api, cookie) == 200, hours
                await api.services.last_used.flush()
            clock.move_to(START + 7 * DAY - MOMENT, tick=False)
            assert await status(api, cookie) == 200
            clock.move_to(START + 7 * DAY, tick=False)
            assert await status(api, cookie) == 401


async def test_last_used_is_written_in_batches(database_url: str) -> None:
    settings = Settings(database_url=database_url, last_seen_interval=timedelta(days=3650))  # type: ignore[arg-type]
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(settings)) as api, client(create_app(settings)) as other:
            alice = await api.create_user()
            cookies = [await log_in(api, alice) for _ in range(3)]
            used = START + DAY - timedelta(hours=1)
            clock.move_to(used, tick=False)
            with statements(api) as seen:
                for cookie in cookies[:2] * 2:
                    assert await status(api, cookie) == 200
            assert len(seen) == 2, "each is cached from its first request on"
            assert all(text.startswith("SELECT") for text in seen)
            assert await _last_seen(api) == [START] * 3
            with statements(api) as seen:
                await api.services.last_used.flush()
            # On PostgreSQL, unlocked sessions are locked first.
            around = ("BEGIN", "advisory", "SKIP LOCKED")
            changes = [text for text in seen if not any(word in text for word in around)]
            assert [text.split()[0] for text in changes] == ["UPDATE"]
            assert await _last_seen(api) == [START, used, used]
            with statements(api) as seen:
                await api.services.last_used.flush()
            assert len(seen) == 0, "no update to write"
            # Another process reads the stored value.
            clock.move_to(START + DAY, tick=False)
            assert [await status(other, cookie) for cookie in cookies] == [200, 200, 401]


async def test_owner_sees_last_used_before_it_is_written(make_settings: SettingsFactory) -> None:
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(make_settings())) as api:
            alice = await api.create_user()
            cookie = await log_in(api, alice)
            clock.move_to(START + timedelta(hours=1), tick=False)
            answer = await api.get("/me/sessions", headers={"Cookie": cookie})
            [session] = answer.json()
            assert session["last_seen_at"] == "2031-05-06T08:08:09.654321Z"
            assert session["current"] is True


async def test_each_login_replaces_the_session(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    first = await log_in(api, alice)
    elsewhere = await log_in(api, alice)
    second = await log_in(api, alice, cookie=first)
    assert second != first
    states = [await status(api, cookie) for cookie in (first, second, elsewhere)]
    assert states == [401, 200, 200]
    assert await count_rows(api.services.database, "sessions") == 2


async def test_login_of_another_user_ends_the_previous_session(api: Client) -> None:
    alice, bob = await api.create_user(), await api.create_user()
    first = await log_in(api, alice)
    second = await log_in(api, bob, cookie=first)
    assert [await status(api, cookie) for cookie in (first, second)] == [401, 200]


async def test_failed_login_keeps_the_session(api: Client) -> None:
    alice = await api.create_user()
    cookie = await log_in(api, alice)
    body = {"email": alice.email, "password": "x" + PASSWORD}
    answer = await api.post("/login", json=body, headers={"Cookie": cookie})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert await status(api, cookie) == 200


async def test_token_login_keeps_the_session(api: Client) -> None:
    alice = await api.create_user()
    cookie = await log_in(api, alice)
    body = {"email": alice.email, "password": PASSWORD, "strategy": "token"}
    answer = await api.post("/login", json=body, headers={"Cookie": cookie})
    assert answer.status_code == 200
    assert "set-cookie" not in answer.headers
    assert await status(api, cookie) == 200


async def test_a_planted_cookie_is_not_adopted(api: Client) -> None:
    # Session fixation: the attacker knows a value and hopes that the victim logs in with it.
    alice = await api.create_user()
    planted = f"authapi={new_secret()}"
    own = await log_in(api, alice, cookie=planted)
    assert own != planted
    assert [await status(api, cookie) for cookie in (planted, own)] == [401, 200]


async def test_login_with_two_cookies_ends_no_session(api: Client) -> None:
    # Which one is genuine is unknown, so the login replaces neither session.
    alice = await api.create_user()
    first, second = await log_in(api, alice), await log_in(api, alice)
    await log_in(api, alice, cookie=f"{first}; {second}")
    assert [await status(api, cookie) for cookie in (first, second)] == [200, 200]


async def test_cookies_with_other_names_are_ignored(secure: Client) -> None:
    """Cookie tossing: a sibling host or plain HTTP plants a cookie; `__Host-` prevents this."""
    alice, mallory = await secure.create_user(), await secure.create_user()
    victim = (await log_in(secure, alice)).partition("=")[2]
    attack = (await log_in(secure, mallory)).partition("=")[2]
    good = f"__Host-authapi={victim}"
    for planted in (
        f"authapi={attack}",
        f"=__Host-authapi={attack}",
        f"__host-authapi={attack}",
        f"__Host-authapi2={attack}",
        f"x__Host-authapi={attack}",
        f'"__Host-authapi"={attack}',
        "__Host-authapi",
        f"a=__Host-authapi={attack}",
    ):
        for header in (f"{planted}; {good}", f"{good}; {planted}"):
            answer = await secure.get("/me", headers={"Cookie": header})
            assert answer.status_code == 200, header
            assert answer.json()["id"] == str(alice.id), header
        alone = await secure.get("/me", headers={"Cookie": planted})
        assert alone.status_code == 401, planted


async def test_two_cookies_in_two_headers_are_refused(api: Client) -> None:
    # HTTP/2 may split the Cookie header (RFC 9113, 8.2.3).
    alice = await api.create_user()
    first, second = await log_in(api, alice), await log_in(api, alice)
    both = [("Cookie", first), ("Cookie", second)]
    assert (await api.get("/me", headers=both)).status_code == 401
    harmless = [("Cookie", "theme=dark"), ("Cookie", first)]
    assert (await api.get("/me", headers=harmless)).status_code == 200


async def test_password_change_renews_the_secret_of_the_current_session(
    api_on_each: Client,
) -> None:
    api = api_on_each
    alice = await api.create_user()
    cookie = await log_in(api, alice, remember=True)
    answer = await api.post(
        "/me/password",
        json={"current_password": PASSWORD, "new_password": PASSWORD + "!"},
        headers={"Cookie": cookie},
    )
    assert answer.status_code == 204
    api.cookies.clear()
    renewed = str(answer.headers["set-cookie"])
    assert f"; Max-Age={90 * 86400}" in renewed, "the cookie stays persistent"
    assert await status(api, cookie) == 401, "a copy of the old cookie is refused"
    assert await status(api, renewed.partition(";")[0]) == 200


async def test_secret_of_another_strategy_is_refused(api: Client) -> None:
    # A secret is valid only for the kind of session it was issued for.
    alice = await api.create_user()
    await api.login(alice, strategy="token")
    token = api.headers.pop("Authorization").removeprefix("Bearer ")
    cookie = f"authapi={token.removeprefix('aat_')[:43]}"
    assert refusal(await api.get("/me", headers={"Cookie": cookie}))["code"] == "unauthenticated"


async def _last_seen(api: Client) -> list[Any]:
    async with api.services.database.engine.connect() as connection:
        found = await connection.execute(sa.select(sessions.c.last_seen_at))
        return sorted(found.scalars())


def _respelt(text: str) -> str:
    """Returns the same 32 bytes in base64url with unused bits set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) | 1]


def _typo(text: str) -> str:
    return ("B" if text[0] == "A" else "A") + text[1:]
