"""Clients that register, log in, log out and change accounts, and record the responses."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tests.faults.harness.http_client import Client, Headers, Lost, Response
from tests.faults.harness.ledger import Account, Credential, Doubt, Ledger

STRATEGIES = ("session", "token", "jwt")


def new_password() -> str:
    """Returns an allowed password that no other account has."""
    return f"{secrets.token_hex(8)} staple"


def credential_of(response: Response, strategy: str) -> Credential:
    """The credential in the response to a successful login."""
    ends = datetime.fromisoformat(response.json()["expires_at"]).timestamp()
    refresh_token = response.json().get("refresh_token")
    return Credential(strategy, headers_of(response, strategy), "", ends, refresh_token)


def refreshed(credential: Credential, response: Response) -> Credential:
    """The same login with the tokens in the response to a refresh."""
    return replace(
        credential,
        headers=headers_of(response, "jwt"),
        expires_at=time.time() + response.json()["expires_in"],
        refresh_token=response.json()["refresh_token"],
    )


def headers_of(response: Response, strategy: str) -> Headers:
    if strategy == "session":
        return {"Cookie": response.headers["set-cookie"].partition(";")[0]}
    return {"Authorization": f"Bearer {response.json()['access_token']}"}


class Actor:
    """Uses one account after the other, in one task, through any of `clients`."""

    def __init__(self, clients: Sequence[Client], ledger: Ledger, chance: random.Random) -> None:
        self._clients = clients
        self._ledger = ledger
        self._chance = chance

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Runs account after account until `is_over()`, with any responses."""
        while not is_over():
            await self.life(is_over)
            # Without a pause an immediate refusal would be retried at once: no client does that.
            await asyncio.sleep(0.002)

    async def life(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Uses one account from its registration to its end, or to the first change in doubt."""
        account = await self.register()
        if account is None:
            return
        for strategy in self._chance.sample(STRATEGIES, self._chance.randint(1, 3)):
            if is_over() or not await self.log_in(account, strategy):
                return
        # Steps without a password hash: they give more commits a second to interrupt.
        without_hash = (
            self._token,
            self._token,
            self._refresh,
            self._refresh,
            self._end,
            self._log_out,
        )
        steps = self._chance.choices(without_hash, k=self._chance.randint(2, 8))
        for step in [*steps, self._chance.choice((self._password, self._delete, self._end))]:
            if is_over() or account.doubt or not account.logins:
                return
            await step(account)

    async def register(self) -> Account | None:
        """Registers an account. Returns None if the registration is in doubt."""
        account = Account(f"{secrets.token_hex(8)}@example.com", new_password())
        self._ledger.accounts.append(account)
        body = {"email": account.email, "password": account.password}
        done = await self._change(account, "register", "POST", "/register", json=body)
        return account if done else None

    async def log_in(self, account: Account, strategy: str) -> Credential | None:
        """Logs in. Returns the credential with its session id, or None if the login is in doubt."""
        body = {"email": account.email, "password": account.password, "strategy": strategy}
        response = await self._change(account, "login", "POST", "/login", json=body)
        if response is None:
            return None
        credential = credential_of(response, strategy)
        identity = await self._get("/me/identity", credential.headers)
        if identity is not None and identity.status == 200:
            credential = replace(credential, session_id=identity.json()["session_id"])
        account.live.append(credential)
        return credential

    async def _token(self, account: Account) -> None:
        headers = self._chance.choice(account.logins).headers
        body = {"name": "a script"}
        response = await self._change(
            account, "token", "POST", "/me/tokens", json=body, headers=headers
        )
        if response is not None:
            headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
            account.live.append(Credential("personal", headers, response.json()["id"]))

    async def _refresh(self, account: Account) -> None:
        held = [found for found in account.live if found.refresh_token]
        if not held:
            return
        chosen = account.affected = self._chance.choice(held)
        form = {"grant_type": "refresh_token", "refresh_token": chosen.refresh_token or ""}
        response = await self._change(account, "refresh", "POST", "/token", form=form)
        if response is not None:
            account.swap(chosen, refreshed(chosen, response))

    async def _log_out(self, account: Account) -> None:
        chosen = account.affected = self._chance.choice(account.logins)
        response = await self._change(account, "logout", "POST", "/logout", headers=chosen.headers)
        if response is not None:
            account.end(chosen, response.ended)

    async def _end(self, account: Account) -> None:
        manager = account.logins[0]
        others = [found for found in account.live if found is not manager and found.session_id]
        if not others:
            return
        chosen = account.affected = self._chance.choice(others)
        folder = "tokens" if chosen.strategy == "personal" else "sessions"
        path = f"/me/{folder}/{chosen.session_id}"
        response = await self._change(account, "end", "DELETE", path, headers=manager.headers)
        if response is not None:
            account.end(chosen, response.ended)

    async def _password(self, account: Account) -> None:
        jwt = next((found for found in account.live if found.strategy == "jwt"), None)
        if jwt is None:  # a cookie would get a new value, which a lost response would keep from us
            return
        account.new_password = new_password()
        body = {"current_password": account.password, "new_password": account.new_password}
        path = "/me/password"
        response = await self._change(
            account, "password", "POST", path, json=body, headers=jwt.headers
        )
        if response is not None:
            account.password, account.new_password = account.new_password, None
            for credential in [found for found in account.live if found is not jwt]:
                account.end(credential, response.ended)
            # The login that changed the password lives only as long as its access token.
            account.spent.append(jwt.refresh_token or "")
            account.swap(jwt, replace(jwt, refresh_token=None))

    async def _delete(self, account: Account) -> None:
        headers = account.logins[0].headers
        response = await self._change(account, "delete", "DELETE", "/me", headers=headers)
        if response is not None:
            account.is_deleted = True
            for credential in list(account.live):
                account.end(credential, response.ended)

    async def _get(self, path: str, headers: Headers) -> Response | None:
        try:
            response = await self._chance.choice(self._clients).get(path, headers)
        except Lost:
            self._ledger.lost += 1
            return None
        self._ledger.record(response, f"GET {path}")
        return response

    async def _change(
        self,
        account: Account,
        what: Doubt,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Headers | None = None,
    ) -> Response | None:
        """Returns a 2xx response. For any other it returns None, and the account is in doubt."""
        # Before the request, as the load may be stopped in the middle of it.
        account.begin(what)
        client = self._chance.choice(self._clients)
        try:
            response = await client.send(method, path, json=json, form=form, headers=headers)
        except Lost:
            self._ledger.lost += 1
            return None
        self._ledger.record(response, what)
        if not 200 <= response.status < 300:
            if response.status < 500:
                self._ledger.unexpected.append(f"{what}: {response.status} {response.body[:300]!r}")
            return None
        account.doubt = None
        account.affected = None
        self._ledger.facts[what] += 1
        return response
