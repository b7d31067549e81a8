"""Accounts with passkeys, of real services, and the requests that a passkey makes."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults.harness.actors import headers_of, new_password
from tests.faults.harness.http_client import Client, Headers
from tests.soft_authenticator import SoftAuthenticator, unb64
from tests.storage.rows import sql


@dataclass
class Request:
    """A request that answers a challenge."""

    path: str
    body: Mapping[str, object]
    headers: Headers
    challenge: bytes


@dataclass
class Owner:
    """An account with a confirmed address, and its login with a cookie."""

    user_id: str
    email: str
    password: str
    headers: Headers


async def register_owner(url: str, client: Client, chance: random.Random) -> Owner:
    """Registers an account and logs in. Where mail is sent, a factor needs a confirmed address."""
    email, password = f"{chance.getrandbits(64):x}@example.com", new_password()
    registered = await client.post("/register", {"email": email, "password": password})
    assert registered.status == 201, registered.body
    sql(url, f"UPDATE authapi_users SET email_confirmed_at = created_at WHERE email = '{email}'")
    login = {"email": email, "password": password, "strategy": "session"}
    headers = headers_of(await client.post("/login", login), "session")
    return Owner(registered.json()["id"], email, password, headers)


async def addition(client: Client, owner: Owner, passkey: SoftAuthenticator) -> Request:
    """The request that adds the passkey to the account."""
    options = await client.post("/me/factors/passkeys/options", None, owner.headers)
    body = {"credential": passkey.create(options.json()), "name": "My phone"}
    challenge = unb64(options.json()["challenge"])
    return Request("/me/factors/passkeys", body, owner.headers, challenge)


async def add_passkey(client: Client, owner: Owner, passkey: SoftAuthenticator) -> None:
    """Adds the passkey to the account."""
    request = await addition(client, owner, passkey)
    added = await client.post(request.path, request.body, request.headers)
    assert added.status == 201, added.body
    owner.headers = headers_of(added, "session")


async def login(client: Client, passkey: SoftAuthenticator) -> Request:
    """The request that logs in by the passkey alone, for a token."""
    options = await client.post("/login/passkey/options", {})
    body = {"credential": passkey.get(options.json()), "strategy": "token"}
    browser = headers_of(options, "session")
    return Request("/login/passkey", body, browser, unb64(options.json()["challenge"]))


async def second_step(client: Client, owner: Owner, passkey: SoftAuthenticator) -> Request:
    """The request that completes a login by the passkey, after the password."""
    credentials = {"email": owner.email, "password": owner.password, "strategy": "token"}
    asked = await client.post("/login", credentials)
    assert asked.json()["code"] == "second_factor_required"
    ticket = {"ticket": asked.json()["ticket"]}
    path = "/login/second-factor"
    options = await client.post(f"{path}/options", ticket)
    body = {**ticket, "passkey": passkey.get(options.json())}
    return Request(path, body, {}, unb64(options.json()["challenge"]))


def is_used(url: str, request: Request) -> bool:
    """Whether the challenge of the request is used up."""
    digest = hashlib.sha256(request.challenge).hexdigest()
    text = f"decode('{digest}', 'hex')" if url.startswith("postgresql") else f"x'{digest}'"
    found = sql(url, f"SELECT count(*) FROM authapi_used_challenges WHERE digest = {text}")
    return int(found[0][0]) == 1
