"""Users who register, log in, log out and change things, and remember what they were told."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from tests.faults.harness.facts import Account, Credential, Doubt, Ledger
from tests.faults.harness.wire import Answer, Client, Headers, Lost

STRATEGIES = ("session", "token", "jwt")


def new_password() -> str:
    """One that may be chosen, and that nobody has."""
    return f"{secrets.token_hex(8)} staple"


def credential_of(answer: Answer, strategy: str) -> Credential:
    """What a successful login was answered with."""
    ends = datetime.fromisoformat(answer.json()["expires_at"]).timestamp()
    refresh_token = answer.json().get("refresh_token")
    return Credential(strategy, headers_of(answer, strategy), "", ends, refresh_token)


def refreshed(credential: Credential, answer: Answer) -> Credential:
    """The same login with what its refresh token was exchanged for."""
    return replace(
        credential,
        headers=headers_of(answer, "jwt"),
        expires_at=time.time() + answer.json()["expires_in"],
        refresh_token=answer.json()["refresh_token"],
    )


def headers_of(answer: Answer, strategy: str) -> Headers:
    if strategy == "session":
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


class Actor:
    """One task that drives one account after the other, against any of `clients`."""

    def __init__(self, clients: Sequence[Client], ledger: Ledger, chance: random.Random) -> None:
        self._clients = clients
        self._ledger = ledger
        self._chance = chance

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Go on until it is over, whatever the service answers."""
        while not is_over():
            await self.life(is_over)
            # After a refusal at once the next would follow at once: not what a client does on 503.
            await asyncio.sleep(0.002)

    async def life(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """One account from its registration to its end, or to the first doubt."""
        account = await self.registered()
        if account is None:
            return
        for strategy in self._chance.sample(STRATEGIES, self._chance.randint(1, 3)):
            if is_over() or not await self.log_in(account, strategy):
                return
        # What costs no hash, several times: more commits a second to stop in the middle of.
        cheap = (self._token, self._token, self._refresh, self._refresh, self._end, self._log_out)
        steps = self._chance.choices(cheap, k=self._chance.randint(2, 8))
        for step in [*steps, self._chance.choice((self._password, self._delete, self._end))]:
            if is_over() or account.doubt or not account.logins:
                return
            await step(account)

    async def registered(self) -> Account | None:
        """A new account, or None if that is in doubt."""
        account = Account(f"{secrets.token_hex(8)}@example.com", new_password())
        self._ledger.accounts.append(account)
        body = {"email": account.email, "password": account.password}
        done = await self._changed(account, "register", "POST", "/register", json=body)
        return account if done else None

    async def log_in(self, account: Account, strategy: str) -> Credential | None:
        """A new credential, with the id of its session, or None."""
        body = {"email": account.email, "password": account.password, "strategy": strategy}
        answer = await self._changed(account, "login", "POST", "/login", json=body)
        if answer is None:
            return None
        credential = credential_of(answer, strategy)
        told = await self._asked("/me/identity", credential.headers)
        if told is not None and told.status == 200:
            credential = replace(credential, session_id=told.json()["session_id"])
        account.live.append(credential)
        return credential

    async def _token(self, account: Account) -> None:
        headers = self._chance.choice(account.logins).headers
        body = {"name": "a script"}
        answer = await self._changed(
            account, "token", "POST", "/me/tokens", json=body, headers=headers
        )
        if answer is not None:
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            account.live.append(Credential("personal", headers, answer.json()["id"]))

    async def _refresh(self, account: Account) -> None:
        held = [found for found in account.live if found.refresh_token]
        if not held:
            return
        chosen = account.questioned = self._chance.choice(held)
        form = {"grant_type": "refresh_token", "refresh_token": chosen.refresh_token or ""}
        answer = await self._changed(account, "refresh", "POST", "/token", form=form)
        if answer is not None:
            account.swap(chosen, refreshed(chosen, answer))

    async def _log_out(self, account: Account) -> None:
        chosen = account.questioned = self._chance.choice(account.logins)
        answer = await self._changed(account, "logout", "POST", "/logout", headers=chosen.headers)
        if answer is not None:
            account.end(chosen, answer.ended)

    async def _end(self, account: Account) -> None:
        manager = account.logins[0]
        others = [found for found in account.live if found is not manager and found.session_id]
        if not others:
            return
        chosen = account.questioned = self._chance.choice(others)
        folder = "tokens" if chosen.strategy == "personal" else "sessions"
        path = f"/me/{folder}/{chosen.session_id}"
        answer = await self._changed(account, "end", "DELETE", path, headers=manager.headers)
        if answer is not None:
            account.end(chosen, answer.ended)

    async def _password(self, account: Account) -> None:
        jwt = next((found for found in account.live if found.strategy == "jwt"), None)
        if jwt is None:  # a cookie would get a new value, which a lost answer would keep from us
            return
        account.new_password = new_password()
        body = {"current_password": account.password, "new_password": account.new_password}
        path = "/me/password"
        answer = await self._changed(
            account, "password", "POST", path, json=body, headers=jwt.headers
        )
        if answer is not None:
            account.password, account.new_password = account.new_password, None
            for credential in [found for found in account.live if found is not jwt]:
                account.end(credential, answer.ended)
            # Whoever changed the password stays as long as the access token, and not longer.
            account.spent.append(jwt.refresh_token or "")
            account.swap(jwt, replace(jwt, refresh_token=None))

    async def _delete(self, account: Account) -> None:
        headers = account.logins[0].headers
        answer = await self._changed(account, "delete", "DELETE", "/me", headers=headers)
        if answer is not None:
            account.is_deleted = True
            for credential in list(account.live):
                account.end(credential, answer.ended)

    async def _asked(self, path: str, headers: Headers) -> Answer | None:
        try:
            answer = await self._chance.choice(self._clients).get(path, headers)
        except Lost:
            self._ledger.lost += 1
            return None
        self._ledger.heard(answer, f"GET {path}")
        return answer

    async def _changed(
        self,
        account: Account,
        what: Doubt,
        method: str,
        path: str,
        *,
        json: object = None,
        form: Mapping[str, str] | None = None,
        headers: Headers | None = None,
    ) -> Answer | None:
        """The answer if it was 2xx; else None, and the account is in doubt."""
        # Set before the request: whoever stops the load does so in the middle of one.
        account.begin(what)
        client = self._chance.choice(self._clients)
        try:
            answer = await client.send(method, path, json=json, form=form, headers=headers)
        except Lost:
            self._ledger.lost += 1
            return None
        self._ledger.heard(answer, what)
        if not 200 <= answer.status < 300:
            if answer.status < 500:
                self._ledger.wrong.append(f"{what}: {answer.status} {answer.body[:300]!r}")
            return None
        account.doubt = None
        account.questioned = None
        self._ledger.facts[what] += 1
        return answer
