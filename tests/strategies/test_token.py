"""The opaque token: the contract, and what its shape is good for."""

import re

import pytest
import sqlalchemy as sa

from authapi.crypto.secrets import hash_secret, new_opaque_token
from authapi.storage.models import sessions
from authapi.testing import Client
from tests.strategies.contract import (
    Credential,
    Headers,
    House,
    RevocableContract,
    bearer_of,
    refusal,
    statements,
)

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


class TestToken(RevocableContract):
    spec = "token"
    remembered = True

    def malformed(self, house: House, good: Credential) -> dict[str, Headers]:
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

    def unknown(self, house: House, good: Credential) -> dict[str, Headers]:
        return {"made up": _bearer(new_opaque_token())}


async def token_of(api: Client) -> str:
    alice = await api.create_user()
    body = {"email": alice.email, "password": "correct horse battery staple", "strategy": "token"}
    return bearer_of(await api.post("/login", json=body)).secret


async def test_its_form_is_what_scanners_look_for(api: Client) -> None:
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


async def test_no_typing_error_costs_a_query(api: Client) -> None:
    token = await token_of(api)
    with statements(api) as seen:
        for index in range(len(token)):
            wrong = token[:index] + _other(token[index]) + token[index + 1 :]
            answer = await api.get("/me", headers=_bearer(wrong))
            assert answer.status_code == 401, index
    assert len(seen) == 0
    assert (await api.get("/me", headers=_bearer(token))).status_code == 200


async def test_what_has_not_its_prefix_is_refused_all_the_same(api: Client) -> None:
    # No strategy knows it as its own; that the route takes bearer credentials is enough.
    token = await token_of(api)
    for text in (f'"{token}"', "AAT_" + token[4:], token[4:], f"x{token}"):
        with statements(api) as seen:
            answer = await api.get("/me", headers=_bearer(text))
        assert refusal(answer)["code"] == "unauthenticated"
        assert len(seen) == 0


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
async def test_the_scheme_has_no_case(api: Client, scheme: str) -> None:
    token = await token_of(api)
    headers = {"Authorization": f"{scheme}   {token} "}
    assert (await api.get("/me", headers=headers)).status_code == 200


@pytest.mark.parametrize("place", ["query", "form", "cookie", "another header"])
async def test_it_is_read_from_nowhere_else(api: Client, place: str) -> None:
    # RFC 6750, 2.2 and 2.3: bodies and URLs end up in logs and histories.
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


async def test_only_its_hash_is_kept(api_on_each: Client) -> None:
    token = await token_of(api_on_each)
    async with api_on_each.services.database.engine.connect() as connection:
        found = await connection.execute(sa.select(sessions.c.secret_hash, sessions.c.kind))
        assert [tuple(row) for row in found] == [(hash_secret(token), "token")]


async def test_a_personal_token_is_the_same_thing_and_never_fresh(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    await api.login(alice)
    made = (await api.post("/me/tokens", json={"name": "backup"})).json()
    api.cookies.clear()
    headers = _bearer(made["access_token"])
    seen = (await api.get("/me/identity", headers=headers)).json()
    assert (seen["strategy"], seen["session_id"]) == ("token", made["id"])
    assert seen["amr"] == [], "nobody logged in with it"
    refused = await api.delete("/me", headers=headers)
    assert refusal(refused)["code"] == "stale_authentication"
    assert (await api.post("/logout", headers=headers)).status_code == 204
    assert (await api.get("/me", headers=headers)).status_code == 401


def _bearer(token: str) -> Headers:
    # Bytes that are not ASCII travel as Latin-1 in headers; httpx would choose UTF-8 the same way.
    return {"Authorization": f"Bearer {token}"}


def _other(char: str) -> str:
    return "-" if char not in ALPHABET else ALPHABET[(ALPHABET.index(char) + 1) % 64]


def _swapped(token: str) -> str:
    index = next(i for i in range(4, 46) if token[i] != token[i + 1])
    return token[:index] + token[index + 1] + token[index] + token[index + 2 :]
