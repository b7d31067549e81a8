"""GET /me/export."""

import json

import pytest

from authapi.testing import Client
from tests.web.answers import check_headers, problem
from tests.web.logins import sign_in


async def test_everything_of_mine_and_nothing_of_others(
    api_on_each: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.web.routes.export._PAGE", 2)  # so that there are several
    api = api_on_each
    alice, bob = await api.create_user("alice@example.com", name="Alice"), await api.create_user()
    headers = await sign_in(api.services, alice)
    await sign_in(api.services, alice, "jwt")
    await sign_in(api.services, bob)
    made = (await api.post("/me/tokens", json={"name": "script"}, headers=headers)).json()
    answer = await api.get("/me/export", headers=headers)
    assert answer.status_code == 200
    check_headers(answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    found = answer.json()
    assert found.keys() == {"exported_at", "account", "sessions", "tokens", "events"}
    assert found["account"] == (await api.get("/me", headers=headers)).json()
    assert found["sessions"] == (await api.get("/me/sessions", headers=headers)).json()
    assert [token["name"] for token in found["tokens"]] == ["script"]
    kinds = [event["type"] for event in found["events"]]
    assert kinds == ["token_created", "login", "login", "account_registered"]
    text = json.dumps(found)
    assert str(bob.id) not in text
    assert bob.email not in text
    secrets = (made["access_token"], headers["cookie"].partition("=")[2], "argon2", "hash")
    assert not any(secret in text for secret in secrets)


async def test_a_token_exports_nothing(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user(), "token")
    problem(await api.get("/me/export", headers=headers), 401, "unauthenticated")
