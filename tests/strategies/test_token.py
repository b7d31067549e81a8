"""Opaque tokens: the contract, and the use of their format."""

import re

import pytest
import sqlalchemy as sa

from authapi.crypto.secrets import hash_secret, new_opaque_token
from authapi.testing import Client
from authapi.testing.strategy_contract import RevocableContract
from authapi.testing.strategy_harness import (
    Credential,
    Harness,
    Headers,
    bearer_of,
    refusal,
    statements,
)
from tests.strategies.on_each_database import OnEachDatabase
from tests.tables import sessions

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class TestToken(OnEachDatabase, RevocableContract):
    spec = "token"
    is_cached = True

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        token = good.secret
        texts = {
            "typo": token[:10] + _other(token[10]) + token[11:],
            "typo in the checksum": token[:-3] + _other(token[-3]) + token[-2:],
            "two letters swapped": _swapped(token),
            "cut": token[:-1],
            "longer": token + "A",
            "only the prefix": "aat_",
            "padded": token + "=",
            "another alphabet": token[:8] + "+" + token[9:],
            "not ASCII": token[:8] + "é" + token[9:],
            "twice": f"{token} {token}",
            "with a comma": f"{token}, {token}",
        }
        return {reason: _bearer(text) for reason, text in texts.items()}

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"made up": _bearer(new_opaque_token())}


async def token_of(api: Client) -> str:
    alice = await api.create_user()
    body = {"email": alice.email, "password": "correct horse battery staple", "strategy": "token"}
    return bearer_of(await api.post("/login", json=body)).secret


async def test_token_format_matches_secret_scanners(api: Client) -> None:
    alice = await api.create_user()
    answer = await api.login(alice, strategy="token")
    body = answer.json()
    assert re.fullmatch(r"aat_[A-Za-z0-9_-]{49}", body["access_token"])
    assert body.keys() == {
        "user",
        "strategy",
        "access_token",
        "token_type",
        "expires_in",
        "expires_at",
    }
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 30 * 24 * 3600
    assert "set-cookie" not in answer.headers


async def test_malformed_token_costs_no_query(api: Client) -> None:
    token = await token_of(api)
    with statements(api) as seen:
        for index in range(len(token)):
            wrong = token[:index] + _other(token[index]) + token[index + 1 :]
            answer = await api.get("/me", headers=_bearer(wrong))
            assert answer.status_code == 401, index
    assert len(seen) == 0
    assert (await api.get("/me", headers=_bearer(token))).status_code == 200


async def test_token_without_the_prefix_is_refused(api: Client) -> None:
    # No strategy reads it, but the route accepts the scheme Bearer, so it is invalid.
    token = await token_of(api)
    for text in (f'"{token}"', "AAT_" + token[4:], token[4:], f"x{token}"):
        with statements(api) as seen:
            answer = await api.get("/me", headers=_bearer(text))
        assert refusal(answer)["code"] == "unauthenticated"
        assert len(seen) == 0


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_scheme_is_case_insensitive(api: Client, scheme: str) -> None:
    token = await token_of(api)
    headers = {"Authorization": f"{scheme}   {token} "}
    assert (await api.get("/me", headers=headers)).status_code == 200


@pytest.mark.parametrize("place", ["query", "form", "cookie", "another header"])
async def test_token_is_read_from_the_header_only(api: Client, place: str) -> None:
    # RFC 6750, sections 2.2 and 2.3: logs and histories record bodies and URLs.
    token = await token_of(api)
    match place:
        case "query":
            answer = await api.get("/me", params={"access_token": token})
        case "form":
            answer = await api.request("GET", "/me", data={"access_token": token})
        case "cookie":
            answer = await api.get("/me", headers={"Cookie": f"access_token={token}"})
        case _:
            answer = await api.get("/me", headers={"X-Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_only_the_hash_is_stored(api_on_each: Client) -> None:
    token = await token_of(api_on_each)
    async with api_on_each.services.database.engine.connect() as connection:
        found = await connection.execute(sa.select(sessions.c.secret_hash, sessions.c.kind))
        assert [tuple(row) for row in found] == [(hash_secret(token), "token")]


async def test_personal_access_token_is_accepted_and_never_fresh(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    await api.login(alice)
    made = (await api.post("/me/tokens", json={"name": "backup"})).json()
    api.cookies.clear()
    headers = _bearer(made["access_token"])
    seen = (await api.get("/me/identity", headers=headers)).json()
    assert (seen["strategy"], seen["session_id"]) == ("token", made["id"])
    assert seen["amr"] == [], "creating it was not a login"
    refused = await api.delete("/me", headers=headers)
    assert refusal(refused)["code"] == "stale_authentication"
    assert (await api.post("/logout", headers=headers)).status_code == 204
    assert (await api.get("/me", headers=headers)).status_code == 401


def _bearer(token: str) -> Headers:
    # Headers carry non-ASCII bytes as Latin-1; httpx would encode them as UTF-8.
    return {"Authorization": f"Bearer {token}"}


def _other(char: str) -> str:
    return "-" if char not in ALPHABET else ALPHABET[(ALPHABET.index(char) + 1) % 64]


def _swapped(token: str) -> str:
    index = next(i for i in range(4, 46) if token[i] != token[i + 1])
    return token[:index] + token[index + 1] + token[index] + token[index + 2 :]
