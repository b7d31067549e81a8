"""Known vulnerabilities of other products (15, 27, 28), and ASVS on refresh tokens and keys."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import bearer, claims_of, comparable, unb64
from tests.storage.rows import sql

START = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
SCOPES = {"a": "A", "b": "B"}


@dataclass
class House:
    """The application at a frozen time, and a user who logs in with `jwt`."""

    api: Client
    clock: time_machine.Traveller
    url: str
    email: str

    async def login(self) -> dict[str, Any]:
        """Log in. Returns the response body."""
        body = {"email": self.email, "password": PASSWORD, "strategy": "jwt"}
        answer = await self.api.post("/login", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def refresh(self, token: str, **form: str) -> httpx.Response:
        return await self.api.post(
            "/token", data={"grant_type": "refresh_token", "refresh_token": token, **form}
        )

    async def following(self, token: str) -> str:
        answer = await self.refresh(token)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["refresh_token"])

    async def me(self, access: str) -> int:
        return (await self.api.get("/me", headers=bearer(access))).status_code

    async def refused(self, token: str) -> None:
        """Check for the error `invalid_grant` of RFC 6749, section 5.2, without a reason."""
        answer = await self.refresh(token)
        body = answer.json()
        del body["request_id"]
        assert (answer.status_code, body) == (
            400,
            {
                "type": "urn:authapi:error:invalid_grant",
                "title": "The grant was refused",
                "status": 400,
                "detail": "The grant was refused",
                "code": "invalid_grant",
                "error": "invalid_grant",
                "error_description": "The grant was refused",
            },
        )
        assert answer.headers["cache-control"] == "no-store"

    def count(self, table: str) -> int:
        [(found,)] = sql(self.url, f"SELECT count(*) FROM authapi_{table}")
        return int(found)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    settings = Settings(database_url=database_url, scopes=SCOPES)  # type: ignore[arg-type]
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(settings)) as api:
            alice = await api.create_user()
            yield House(api, clock, database_url, alice.email)


async def test_row_15_refresh_token_is_used_once_and_revoked_tokens_stay_revoked(
    house: House,
) -> None:
    login = await house.login()
    answers = await asyncio.gather(*(house.refresh(login["refresh_token"]) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1, "no second successor"
    assert house.count("refresh_families") == 1
    # A revoked token is rejected until its expiry.
    access = answers[0].json()["access_token"]
    assert (await house.api.post("/logout", headers=bearer(access))).status_code == 204
    for moment in (START, START + 10 * MINUTE - SECOND, START + 10 * MINUTE):
        house.clock.move_to(moment, tick=False)
        assert {await house.me(answer.json()["access_token"]) for answer in answers} == {401}
        await house.refused(answers[0].json()["refresh_token"])


async def test_row_27_replay_after_the_grace_period_ends_the_family(house: House) -> None:
    login = await house.login()
    second = (await house.refresh(login["refresh_token"])).json()
    house.clock.shift(31 * SECOND)
    assert await house.me(second["access_token"]) == 200
    await house.refused(login["refresh_token"])
    assert [await house.me(token["access_token"]) for token in (login, second)] == [401, 401]
    await house.refused(second["refresh_token"])
    assert house.count("refresh_families") == house.count("sessions") == 0
    fresh = await house.login()
    events = (await house.api.get("/me/events", headers=bearer(fresh["access_token"]))).json()
    [told_of] = [item for item in events["items"] if item["type"] == "refresh_reuse"]
    assert told_of["outcome"] == "refused"


async def test_row_27_fifty_refreshes_in_the_grace_period_get_one_successor(house: House) -> None:
    token = (await house.login())["refresh_token"]
    for _ in range(3):
        answers = await asyncio.gather(*(house.refresh(token) for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        [(token, times)] = Counter(answer.json()["refresh_token"] for answer in answers).items()
        assert times == 50
        assert house.count("refresh_families") == 1


async def test_row_27_reuse_after_a_theft_in_the_grace_period_ends_the_family(
    house: House,
) -> None:
    first = (await house.login())["refresh_token"]
    owners, thiefs = await house.following(first), await house.following(first)
    assert owners == thiefs
    house.clock.shift(MINUTE)
    third = await house.following(thiefs)
    house.clock.shift(MINUTE)
    await house.refused(owners)
    await house.refused(third)
    assert house.count("sessions") == 0


async def test_row_28_refresh_token_is_redeemed_once_without_a_grace_period(
    house: House, make_settings: SettingsFactory
) -> None:
    # Without a grace period, exactly one use succeeds, and each further use counts as theft.
    async with client(create_app(make_settings(refresh_grace=0))) as api:
        alice = await api.create_user()
        strict = House(api, house.clock, "", alice.email)
        token = (await strict.login())["refresh_token"]
        following = await strict.following(token)
        house.clock.shift(timedelta(microseconds=1))
        for spent in (token, following):
            await strict.refused(spent)


async def test_v10_4_8_refresh_token_ends_at_its_absolute_lifetime(house: House) -> None:
    login = await house.login()
    assert login["refresh_expires_in"] == 14 * 86400
    token = login["refresh_token"]
    for _ in range(8):
        house.clock.shift(11 * DAY)
        token = await house.following(token)
    house.clock.move_to(START + 90 * DAY - SECOND, tick=False)
    last = (await house.refresh(token)).json()
    assert (last["expires_in"], last["refresh_expires_in"]) == (1, 1)
    house.clock.move_to(START + 90 * DAY, tick=False)
    await house.refused(last["refresh_token"])
    assert await house.me(last["access_token"]) == 401


async def test_v10_4_8_unused_refresh_token_ends(house: House) -> None:
    token = (await house.login())["refresh_token"]
    house.clock.shift(14 * DAY)
    await house.refused(token)


async def test_v10_4_4_other_grant_types_are_rejected(house: House) -> None:
    for grant in ("implicit", "client_credentials", "authorization_code", "token", " ", "x" * 999):
        answer = await house.api.post("/token", data={"grant_type": grant})
        assert answer.status_code == 400
        assert answer.json()["error"] == "unsupported_grant_type"
    # RFC 6749, section 3.2: a parameter without a value counts as omitted.
    answer = await house.api.post("/token", data={"grant_type": ""})
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"


async def test_v10_4_4_password_grant_is_disabled_with_the_docs(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(docs=False))) as api:
        alice = await api.create_user()
        form = {"grant_type": "password", "username": alice.email, "password": PASSWORD}
        answer = await api.post("/token", data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
        login = await House(api, None, "", alice.email).login()  # type: ignore[arg-type]  # no clock
        form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
        assert (await api.post("/token", data=form)).status_code == 200


async def test_refresh_with_fewer_scopes_restricts_the_token(house: House) -> None:
    login = await house.login()
    narrow = (await house.refresh(login["refresh_token"], scope="a")).json()
    assert narrow["scope"] == claims_of(narrow["access_token"])["scope"] == "a"
    seen = await house.api.get("/me/identity", headers=bearer(narrow["access_token"]))
    assert seen.json()["scopes"] == ["a"]
    for asked in ("c", "a c", "a a", "A", " a", "a  b", "\n", '"'):
        answer = await house.refresh(narrow["refresh_token"], scope=asked)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), asked
    whole = (await house.refresh(narrow["refresh_token"])).json()
    assert whole["scope"] == "a b", "the login keeps its scopes"


async def test_v10_1_1_refresh_token_is_returned_once_and_not_disclosed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    login = await house.login()
    refresh, access = login["refresh_token"], login["access_token"]
    assert refresh not in json.dumps(claims_of(access))
    paths = ("/me", "/me/identity", "/me/sessions", "/me/tokens", "/me/events")
    texts = [(await house.api.get(path, headers=bearer(access))).text for path in paths]
    following = await house.following(refresh)
    house.clock.shift(MINUTE)
    await house.refused(refresh)
    texts += [record.getMessage() + str(record.__dict__) for record in caplog.records]
    for secret in (refresh, following):
        assert not [text for text in texts if secret in text or secret[4:40] in text]


async def test_v10_1_1_refresh_token_does_not_authenticate(house: House) -> None:
    refresh = (await house.login())["refresh_token"]
    for headers in (bearer(refresh), {b"cookie": f"authapi={refresh}".encode()}):
        answer = await house.api.get("/me", headers=headers)
        assert answer.status_code == 401
        assert refresh not in answer.text
    access = (await house.login())["access_token"]
    await house.refused(access)
    opaque = await house.api.post(
        "/login", json={"email": house.email, "password": PASSWORD, "strategy": "token"}
    )
    await house.refused(opaque.json()["access_token"])


async def test_all_rejected_refreshes_get_the_same_response(house: House) -> None:
    login = await house.login()
    second = await house.following(login["refresh_token"])
    house.clock.shift(MINUTE)
    used, access = login["refresh_token"], login["access_token"]
    tokens = (used, second, second[:-1], "x", "art_" + "A" * 70, access)
    refusals = [comparable(await house.refresh(token)) for token in tokens]
    assert all(refusal == refusals[0] for refusal in refusals)


async def test_v11_1_1_key_is_published_then_signs_then_retires(house: House) -> None:
    login = await house.login()
    kid = json.loads(unb64(login["access_token"].split(".")[0]))["kid"]

    async def published() -> list[str]:
        answer = await house.api.get("/.well-known/jwks.json")
        return [key["kid"] for key in answer.json()["keys"]]

    before = await published()
    [waits] = set(before) - {kid}
    house.clock.shift(7 * MINUTE)
    following = await house.api.services.keys.rotate()
    assert following.kid == waits, "the current key was published before its use"
    assert set(before) < set(await published())
    access = (await house.refresh(login["refresh_token"])).json()["access_token"]
    assert json.loads(unb64(access.split(".")[0]))["kid"] == following.kid
    assert [await house.me(token) for token in (login["access_token"], access)] == [200, 200]
    house.clock.shift(3 * MINUTE)
    assert [await house.me(token) for token in (login["access_token"], access)] == [401, 200]
    house.clock.shift(30 * MINUTE)
    house.api.services.identity_cache.clear()
    assert kid not in await published()


async def test_v11_1_1_ended_key_is_rejected_at_once(house: House) -> None:
    login = await house.login()
    assert await house.me(login["access_token"]) == 200, "cached from now on"
    kid = json.loads(unb64(login["access_token"].split(".")[0]))["kid"]
    await house.api.services.keys.lifecycle.retire(kid)
    assert await house.me(login["access_token"]) == 401
    renewed = (await house.refresh(login["refresh_token"])).json()
    assert await house.me(renewed["access_token"]) == 200, "the login continues"


async def test_v11_3_private_keys_are_encrypted_and_authenticated(
    house: House,
) -> None:
    for name, sealed in sql(house.url, "SELECT kid, private_key FROM authapi_signing_keys"):
        data = bytes(sealed)
        assert b"PRIVATE KEY" not in data
        assert name.encode() not in data
    assert await house.me((await house.login())["access_token"]) == 200
    async with house.api.services.database.transaction() as store:
        for key in await store.signing_keys.all():
            assert key.private_key
            changed = bytearray(key.private_key)
            changed[20] ^= 1
            await store.signing_keys.reencrypt(key.kid, bytes(changed))
    with pytest.raises(ConfigurationError, match="another secret"):
        await Services.build(house.api.services.settings).start()
    assert await house.me((await house.login())["access_token"]) == 200, (
        "a running process has the key in memory"
    )
