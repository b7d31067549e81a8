"""A story in which every operation of the API succeeds once, for tests that disturb requests."""

import base64
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pyotp

from authapi.clock import now
from authapi.domain.email_token import Purpose
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client
from tests.services.federated_people import a_link
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import secret_in
from tests.web.pages.scenes import create_person, mailed
from tests.web.passkeys import renewed
from tests.web.scanners import PATH, Scanner, report

NEW_PASSWORD = "another horse another battery"
READS = (
    *("/me", "/me/identity", "/me/events", "/me/export", "/me/factors", "/me/sessions"),
    *("/me/session", "/me/tokens"),
)
PUBLIC = (
    *("/.well-known/jwks.json", "/.well-known/oauth-authorization-server"),
    *("/.well-known/oauth-protected-resource", "/.well-known/passkey-endpoints"),
    *("/.well-known/webauthn", "/health/live", "/health/ready"),
)


@dataclass(eq=False)
class Story:
    """The client, and the scanner whose reports the service accepts."""

    api: Client
    scanner: Scanner

    async def call(
        self,
        method: str,
        path: str,
        json: object = None,
        headers: Headers | None = None,
        form: dict[str, str] | None = None,
    ) -> httpx.Response:
        """The answer to a request, which must succeed. No cookie is kept."""
        answer = await self.api.request(method, path, json=json, headers=headers, data=form)
        self.api.cookies.clear()
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer

    async def run(self) -> None:
        """All chapters."""
        await self.metadata()
        await self.accounts()
        await self.logins_and_tokens()
        await self.recovery()
        await self.factors()
        await self.passkeys()
        await self.administration()

    async def person(self, name: str, *, is_superuser: bool = False) -> User:
        return await create_person(self.api, f"{name}@example.com", is_superuser=is_superuser)

    async def login(self, user: User, strategy: str, password: str = PASSWORD) -> dict[str, Any]:
        body = {"email": user.email, "password": password, "strategy": strategy}
        found: dict[str, Any] = (await self.call("POST", "/login", body)).json()
        return found

    async def metadata(self) -> None:
        for path in PUBLIC:
            await self.call("GET", path)

    async def accounts(self) -> None:
        body = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        await self.call("POST", "/register", body)
        user = await self.person("bob")
        headers = await sign_in(self.api.services, user)
        for path in READS:
            await self.call("GET", path, headers=headers)
        await self.call("PATCH", "/me", {"name": "Bob"}, headers)
        await self.call("PATCH", "/me/session", {"seen": "yes"}, headers)
        answer = await self.call("POST", "/me/reauthenticate", {"password": PASSWORD}, headers)
        headers = renewed(answer, headers)
        change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        answer = await self.call("POST", "/me/password", change, headers)
        headers = renewed(answer, headers)
        await self.call("DELETE", "/me", headers=headers)

    async def logins_and_tokens(self) -> None:
        user = await self.person("cyd")
        for strategy in ("session", "token"):
            await self.login(user, strategy)
        made = await self.login(user, "jwt")
        headers = {"authorization": f"Bearer {made['access_token']}"}
        form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
        await self.call("POST", "/token", form=form)
        form = {"grant_type": "password", "username": user.email, "password": PASSWORD}
        await self.call("POST", "/token", form=form)
        tokens = [
            (await self.call("POST", "/me/tokens", {"name": name}, headers)).json()
            for name in ("one", "two", "three")
        ]
        await self.call("POST", "/me/tokens", {"kind": "jwt", "audience": "billing"}, headers)
        form = {"token": tokens[0]["access_token"]}
        root = await sign_in(self.api.services, await self.person("zoe", is_superuser=True), "jwt")
        body = {"name": "gateway", "scopes": ["introspect"]}
        gateway = (await self.call("POST", "/me/tokens", body, root)).json()
        pair = f"{gateway['id']}:{gateway['access_token']}".encode()
        basic = {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
        await self.call("POST", "/token/introspect", form=form, headers=basic)
        await self.call("POST", "/token/revoke", form=form)
        await self.call("DELETE", f"/me/tokens/{tokens[1]['id']}", headers=headers)
        leaked = report(tokens[2]["access_token"])
        answer = await self.api.post(PATH, content=leaked, headers=self.scanner.headers(leaked))
        assert answer.is_success, answer.text
        await self.login(user, "token")
        sessions = (await self.call("GET", "/me/sessions", headers=headers)).json()
        other = next(found["id"] for found in sessions if not found["current"])
        await self.call("DELETE", f"/me/sessions/{other}", headers=headers)
        await self.login(user, "token")
        await self.call("DELETE", "/me/sessions", headers=headers)
        # Refusals that are recorded.
        body = {"email": user.email, "password": NEW_PASSWORD}
        assert (await self.api.post("/login", json=body)).status_code == 401
        form = {"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
        await self.api.post("/token", data=form)
        await self.call("POST", "/logout", headers=headers)

    async def recovery(self) -> None:
        user = await self.api.create_user("dan@example.com")
        await self.call("POST", "/email/confirm/request", {"email": user.email})
        token = await secret_in(self.api.services, "confirm", user.email)
        await self.call("POST", "/email/confirm", {"token": token, "password": PASSWORD})
        headers = await sign_in(self.api.services, user, "jwt")
        await self.call("POST", "/me/email", {"email": "dan@example.org"}, headers)
        token = await secret_in(self.api.services, "change", "dan@example.org")
        await self.call("POST", "/email/confirm", {"token": token}, headers)
        token = await secret_in(self.api.services, "email_changed", user.email)
        await self.call("POST", "/email/undo", {"token": token, "email": user.email})
        await self.call("POST", "/password/forgot", {"email": user.email})
        token = await secret_in(self.api.services, "reset", user.email)
        await self.call(
            "POST", "/password/reset", {"token": token, "new_password": NEW_PASSWORD + "s"}
        )
        user = await self.person("eve")
        await sign_in(self.api.services, user, "jwt")
        token = await mailed(self.api, user, Purpose.DISOWN, email=user.email)
        await self.call("POST", "/login/disown", {"token": token})

    async def factors(self) -> None:
        user = await self.person("fay")
        headers = await sign_in(self.api.services, user, "jwt")
        begun = (await self.call("POST", "/me/factors/totp", headers=headers)).json()
        app = pyotp.TOTP(begun["secret"])
        step = iter(range(-1, 9))

        def code() -> dict[str, str]:
            return {"code": app.at(now(), counter_offset=next(step))}

        await self.call("POST", "/me/factors/totp/confirm", code(), headers)
        await self.call("POST", "/me/factors/recovery-codes", headers=headers)
        codes = (await self.call("POST", "/me/factors/recovery-codes", headers=headers)).json()
        await self.call("POST", "/me/reauthenticate", code(), headers)
        for proof in (code, lambda: {"recovery_code": codes["recovery_codes"][0]}):
            body = {"email": user.email, "password": PASSWORD, "strategy": "token"}
            ticket = (await self.api.post("/login", json=body)).json()["ticket"]
            try:
                await self.call("POST", "/login/second-factor", {"ticket": ticket, **proof()})
            except AssertionError:
                if proof is not code:
                    raise
        await self.call("DELETE", "/me/factors/totp", headers=headers)

    async def passkeys(self) -> None:
        user, passkey = await self.person("gus"), SoftAuthenticator()
        headers = await sign_in(self.api.services, user, "jwt")
        path = "/me/factors/passkeys"
        options = (await self.call("POST", f"{path}/options", headers=headers)).json()
        body = {"credential": passkey.create(options), "name": "A phone"}
        added = (await self.call("POST", path, body, headers)).json()["passkey"]["id"]
        await self.call("PATCH", f"{path}/{added}", {"name": "A key"}, headers)
        answer = await self.api.post("/login/passkey/options", json={})
        body = {"credential": passkey.get(answer.json()), "strategy": "token"}
        assert (await self.api.post("/login/passkey", json=body)).is_success
        self.api.cookies.clear()
        options = (await self.call("POST", "/me/reauthenticate/options", headers=headers)).json()
        proof = {"passkey": passkey.get(options)}
        await self.call("POST", "/me/reauthenticate", proof, headers)
        login = {"email": user.email, "password": PASSWORD, "strategy": "token"}
        ticket = {"ticket": (await self.api.post("/login", json=login)).json()["ticket"]}
        options = (await self.call("POST", "/login/second-factor/options", ticket)).json()
        proof = {"passkey": passkey.get(options)}
        await self.call("POST", "/login/second-factor", {**ticket, **proof})
        await self.call("DELETE", f"{path}/{added}", headers=headers)

    async def administration(self) -> None:
        root = await self.person("root", is_superuser=True)
        headers = await sign_in(self.api.services, root, "jwt")
        body = {"email": "hal@example.com"}
        invited = (await self.call("POST", "/admin/users", body, headers)).json()["id"]
        await self.call("POST", f"/admin/users/{invited}/invitation", headers=headers)
        token = await secret_in(self.api.services, "invitation", "hal@example.com")
        await self.call("POST", "/invitation/accept", {"token": token, "password": PASSWORD})
        user = await self.person("ida")
        owner = {"authorization": f"Bearer {(await self.login(user, 'jwt'))['access_token']}"}
        made = (await self.call("POST", "/me/tokens", {"name": "x"}, owner)).json()
        begun = (await self.call("POST", "/me/factors/totp", headers=owner)).json()
        code = {"code": pyotp.TOTP(begun["secret"]).at(now())}
        await self.call("POST", "/me/factors/totp/confirm", code, owner)
        base, linked = f"/admin/users/{user.id}", await self.identity_of(user)
        for path in (
            *("/admin/users", base, f"{base}/sessions", f"{base}/tokens", f"{base}/factors"),
            f"{base}/identities",
            *("/admin/events", "/admin/events/export", "/admin/stats"),
        ):
            await self.call("GET", path, headers=headers)
        await self.call("PATCH", base, {"name": "Ida"}, headers)
        await self.call("POST", f"{base}/reset-link", headers=headers)
        await self.call("DELETE", f"{base}/tokens/{made['id']}", headers=headers)
        login = (await self.call("GET", f"{base}/sessions", headers=headers)).json()[0]["id"]
        await self.call("DELETE", f"{base}/sessions/{login}", headers=headers)
        await self.call("DELETE", f"{base}/factors", headers=headers)
        await self.call("DELETE", f"{base}/identities/{linked}", headers=headers)
        await self.login(user, "jwt")
        await self.call("DELETE", f"{base}/sessions", headers=headers)
        await self.login(user, "jwt")
        await self.call("PATCH", base, {"is_active": False}, headers)
        await self.call("DELETE", base, headers=headers)

    async def identity_of(self, user: User) -> UUID:
        """Links a person at a provider, which may be gone from the settings; returns the id."""
        linked = a_link(user.id)
        async with self.api.services.database.transaction() as store:
            await store.users.lock(user.id)
            assert await store.identities.add(linked, auth_context=None)
        return linked.id

    async def enrolment(self) -> None:
        """Where a second factor is required: logins that add one."""
        for name in ("jon", "kay"):
            user, passkey = await self.person(name), SoftAuthenticator()
            body = {"email": user.email, "password": PASSWORD, "strategy": "token"}
            ticket = {"ticket": (await self.api.post("/login", json=body)).json()["ticket"]}
            path = "/login/enrolment"
            if name == "jon":
                begun = (await self.call("POST", f"{path}/totp", ticket)).json()
                code = {"code": pyotp.TOTP(begun["secret"]).at(now())}
                await self.call("POST", f"{path}/totp/confirm", {**ticket, **code})
            else:
                options = (await self.call("POST", f"{path}/passkey/options", ticket)).json()
                made = {"credential": passkey.create(options), "name": "A phone"}
                await self.call("POST", f"{path}/passkey", {**ticket, **made})
