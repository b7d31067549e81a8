"""Random changes of the bodies with passkeys: each gets a refusal of ours, and proves nothing."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from authapi import create_app
from authapi.domain.factors.passkeys import Assertion
from authapi.errors import AuthAPIError
from authapi.testing import PASSWORD, Client, client
from authapi.web.schemas.factors.credentials import AssertedCredential
from tests.conftest import SettingsFactory
from tests.passkey_mutations import mutated_body
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import Headers
from tests.web.passkeys import add_passkey, options
from tests.web.responses import DOCUMENTED, kind_of_error

ROUTES = {
    "/login/passkey": "credential",
    "/login/second-factor": "passkey",
    "/me/reauthenticate": "passkey",
    "/me/factors/passkeys": "credential",
}
"""The member of each body that has what the browser sends."""
CODES = {
    *("malformed_json", "validation_failed", "passkey_refused", "second_factor_refused"),
    *("login_expired", "wrong_passkey", "wrong_password", "wrong_code", "too_many_attempts"),
    *("factor_exists", "too_many_factors", "body_too_large"),
}


@dataclass
class Owner:
    """A browser of an account, and its passkey."""

    api: Client
    email: str
    passkey: SoftAuthenticator
    headers: Headers

    async def body(self, path: str) -> tuple[dict[str, Any], Headers]:
        """A body that the route would accept, and the headers for it."""
        if path == "/login/passkey":
            self.api.cookies.clear()
            asked = await options(self.api, "/login/passkey/options", {})
            return {"credential": self.passkey.get(asked), "strategy": "token"}, {}
        if path == "/login/second-factor":
            login = {"email": self.email, "password": PASSWORD, "strategy": "token"}
            ticket = (await self.api.post("/login", json=login)).json()["ticket"]
            asked = await options(self.api, f"{path}/options", {}, ticket=ticket)
            return {"ticket": ticket, "passkey": self.passkey.get(asked)}, {}
        asked = await options(self.api, f"{path}/options", self.headers)
        if path == "/me/reauthenticate":
            return {"passkey": self.passkey.get(asked)}, self.headers
        created = SoftAuthenticator().create(asked)
        return {"credential": created, "name": "x"}, self.headers


def signed(body: bytes, member: str) -> Assertion | None:
    """What the account is proved by, as far as the service reads it; None if it cannot."""
    with suppress(ValueError, KeyError, TypeError, AuthAPIError):
        found = AssertedCredential.model_validate(json.loads(body)[member])
        return replace(found.assertion(), user_handle=None)
    return None


def check_refusal(answer: httpx.Response, sent: bytes) -> str:
    """Checks that the answer is a documented refusal of passkeys; returns its code."""
    assert answer.headers["content-type"] == kind_of_error(answer), sent
    code: str = answer.json()["code"]
    assert (code in CODES, DOCUMENTED[code]) == (True, answer.status_code), (code, sent)
    return code


async def fuzz(owner: Owner, path: str, rounds: int) -> Counter[str]:
    """Sends changed bodies, each with a challenge of its own; returns the codes of the answers."""
    rng, seen, member = random.Random(22), Counter[str](), ROUTES[path]
    for _ in range(rounds):
        body, headers = await owner.body(path)
        sent = mutated_body(body, member, rng)
        answer = await owner.api.post(
            path, content=sent, headers={**headers, "content-type": "application/json"}
        )
        if not answer.is_success:
            seen[check_refusal(answer, sent)] += 1
            continue
        seen["accepted"] += 1
        if path == "/me/factors/passkeys":  # a changed key is another key
            added = f"{path}/{answer.json()['passkey']['id']}"
            assert (await owner.api.delete(added, headers=headers)).status_code == 204
            continue
        proof = signed(json.dumps(body).encode(), member)
        assert proof is not None
        assert proof == signed(sent, member), sent
    return seen


@pytest.fixture
async def owner(patient_settings: SettingsFactory) -> AsyncIterator[Owner]:
    settings = patient_settings(limit_writes="100000/minute")
    async with client(create_app(settings)) as api:
        passkey, alice = SoftAuthenticator(), await api.create_user()
        _, headers = await add_passkey(api, alice, passkey, "jwt")
        yield Owner(api, alice.email, passkey, headers)


EXPECTED = {
    "/login/passkey": "passkey_refused",
    "/login/second-factor": "second_factor_refused",
    "/me/reauthenticate": "wrong_passkey",
    "/me/factors/passkeys": "wrong_passkey",
}


@pytest.mark.parametrize("path", ROUTES)
async def test_changed_bodies_are_refused(owner: Owner, path: str) -> None:
    seen = await fuzz(owner, path, 30)
    assert {EXPECTED[path], "validation_failed"} <= seen.keys(), seen


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUTES)
async def test_many_changed_bodies_are_refused(owner: Owner, path: str) -> None:
    seen = await fuzz(owner, path, 500)
    assert {EXPECTED[path], "validation_failed", "accepted"} <= seen.keys(), seen
