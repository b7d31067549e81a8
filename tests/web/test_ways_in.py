"""Every way in, for an account with a second factor: nothing without it.

The first tests find in the code what makes a proved factor, a login, an identity and a session. A
new maker fails them until it has its ways in below.
"""

import ast
import base64
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Annotated

import httpx
import jwt as pyjwt
import pyotp
import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import SecretStr

import authapi
from authapi import AuthAPI, Settings, User, current_user
from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.email_address import parse_email
from authapi.domain.email_token import Purpose
from authapi.domain.federation.person import LinkedIdentity
from authapi.errors import SecondFactorRequired
from authapi.services.accounts.importing.importer import AccountImporter
from authapi.services.logins.complete import Logins, PendingLogin
from authapi.testing import PASSWORD, Client, client
from tests.second_factors import SecondFactors, add_second_factors, insert_passkey
from tests.services.authenticators import proved_password
from tests.soft_authenticator import VERIFIED, SoftAuthenticator
from tests.web.federation.visits import ORIGIN, PROVIDERS, FakeUpstreams, Visitor, person
from tests.web.logins import sign_in

PACKAGE = Path(authapi.__file__).parent
NEW_PASSWORD = "another horse another battery"
OTHER_SERVICE = "https://reports.example"
CREATION = {
    "challenge": "AAAA",
    "rp": {"id": "localhost"},
    "user": {"id": "AAAA"},
    "pubKeyCredParams": [{"alg": -7}],
    "excludeCredentials": [],
}
"""Options of a new passkey that this service has not issued."""

MAKERS: Mapping[str, Mapping[str, set[str]]] = {
    "Proved": {
        "services/accounts/authentication.py:Authentication._authenticate": {
            *("login session", "login token", "login jwt", "basic", "password grant"),
            *("auth.log_in", "basic, after wrong passwords", "page", "page, second step"),
            "page, sign up",
        },
        "services/federation/arrivals.py:Arrivals._proved": {"provider"},
        "services/federation/codes.py:LoginCodes.redeem": {"provider, code"},
        # A passkey is two factors, so nothing else is asked for: only if it has verified its user.
        "services/logins/passkeys.py:PasskeyLogins.authenticate": {
            *("passkey without its user", "passkey of another account", "passkey in a frame"),
            *("passkey of a foreign challenge", "page, passkey without its user"),
        },
    },
    "Login": {
        # Called by Logins.prove_second_factor and LoginEnrolment.
        "services/logins/complete.py:Logins.complete_ticket": {
            *("login session", "login token", "login jwt", "enrolment"),
            "enrolment begun before the factor",
            *("passkey enrolment", "passkey enrolment begun before the factor"),
            "page, enrolment",
        },
        "services/logins/complete.py:Logins._login": {"basic", "password grant", "auth.log_in"},
    },
    "Identity": {
        "services/sessions/service.py:Sessions._identity": {"login session", "login jwt"},
        "strategies/basic.py:BasicStrategy.authenticate": {"basic"},
        # An operator at the command line.
        "cli/accounts/tokens.py:create.work": set(),
        # Callers of other issuers, whose tokens their issuer has answered for.
        "verify/claims.py:ClaimsReader._read_identity": set(),
        # Ends a link that a bearer token has begun: the identity authenticates no request.
        "services/federation/owners.py:owner_of": set(),
        # For tests of applications.
        "testing/acting.py:_let_act.acting_authenticate": set(),
        "testing/strategy_harness.py:RecordingStrategy.authenticate": set(),
    },
    "sessions.add": {
        "services/sessions/service.py:Sessions.create": {"login session", "login token"},
        "services/tokens/personal.py:PersonalTokens.create": {"personal token", "page, token"},
        # Rows for a development database, with secrets that are forgotten at once.
        "services/demo/writer.py:DemoData._add": set(),
    },
    "sessions.create": {
        "strategies/session.py:SessionStrategy.issue": {"login session", "auth.log_in"},
        "strategies/token.py:TokenStrategy.issue": {"login token"},
        "strategies/jwt.py:JWTStrategy.issue": {"login jwt", "password grant"},
    },
    "sign_access_token": {
        "strategies/jwt.py:JWTStrategy._issued": {"login jwt", "password grant", "refresh"},
        "services/tokens/exchange.py:TokenExchange.exchange": {"exchange"},
    },
}
"""What makes a step of a way in, with the function that makes it and the ways below that try it."""


def _calls(node: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """Yields each call of a maker, with the function that contains it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from _calls(child, f"{inside}.{child.name}".lstrip("."))
            continue
        if isinstance(child, ast.Call):
            called = ast.unparse(child.func)
            name = next(
                (
                    maker
                    for maker in MAKERS
                    if called == maker or called.endswith(f".{maker}") or called == f"self.{maker}"
                ),
                None,
            )
            if name is not None:
                yield name, inside
        yield from _calls(child, inside)


def test_every_maker_has_its_ways_in() -> None:
    found: dict[str, set[str]] = {name: set() for name in MAKERS}
    for module in PACKAGE.rglob("*.py"):
        for name, function in _calls(ast.parse(module.read_text())):
            found[name].add(f"{module.relative_to(PACKAGE).as_posix()}:{function}")
    assert found == {name: set(functions) for name, functions in MAKERS.items()}
    tried = {way for functions in MAKERS.values() for ways in functions.values() for way in ways}
    assert tried <= WAYS.keys()


def test_only_the_choke_point_makes_logins() -> None:
    makers = {name.partition(":")[0] for name in MAKERS["Login"]}
    assert makers == {"services/logins/complete.py"}


class Scene:
    """An application with every way in, and an account that has a second factor."""

    def __init__(self, api: Client, auth: AuthAPI, alice: SecondFactors) -> None:
        self.api, self.auth, self.alice = api, auth, alice
        self.answers: list[httpx.Response] = []

    async def post(self, path: str, **options: object) -> httpx.Response:
        answer = await self.api.post(path, **options)  # type: ignore[arg-type]
        self.answers.append(answer)
        return answer

    async def get(self, path: str, **options: object) -> httpx.Response:
        answer = await self.api.get(path, **options)  # type: ignore[arg-type]
        self.answers.append(answer)
        return answer

    async def login(self, **members: object) -> httpx.Response:
        body = {"email": "alice@example.com", "password": PASSWORD, **members}
        return await self.post("/login", json=body)

    async def mailed(self, purpose: Purpose) -> str:
        """A token as a mail contains it."""
        tokens = self.api.services.accounts.email_changes._email_tokens
        async with self.api.services.database.transaction() as store:
            await store.users.lock(self.alice.user.id)
            email = parse_email("old@example.com" if "revert" in purpose else "alice@example.com")
            return (await tokens.issue(store, self.alice.user, purpose, email=email)).text

    async def sessions(self) -> int:
        """All sessions of the account, personal access tokens too."""
        async with self.api.services.database.read() as store:
            lists = [
                await store.sessions.list_for_user(self.alice.user.id, personal=personal, now=now())
                for personal in (False, True)
            ]
        return sum(map(len, lists))


def basic(password: str = PASSWORD) -> dict[str, str]:
    pair = base64.b64encode(f"alice@example.com:{password}".encode()).decode()
    return {"authorization": f"Basic {pair}"}


async def by_password(scene: Scene, strategy: str) -> None:
    answer = await scene.login(strategy=strategy)
    assert answer.status_code == 401
    assert answer.json()["code"] == "second_factor_required"


async def by_basic(scene: Scene) -> None:
    right, wrong = [await scene.get("/whoami", headers=basic(text)) for text in (PASSWORD, "wrong")]
    assert (right.status_code, wrong.status_code) == (401, 401)
    assert without_id(right) == without_id(wrong)


async def by_basic_after_wrong_passwords(scene: Scene) -> None:
    """The right password is counted as a wrong one, so that a limit does not tell them apart."""
    statuses = [(await scene.get("/whoami", headers=basic())).status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2


def without_id(answer: httpx.Response) -> object:
    headers = [item for item in answer.headers.multi_items() if item[0] != "x-request-id"]
    return headers, {**answer.json(), "request_id": None}


async def by_password_grant(scene: Scene) -> None:
    answers = []
    for password in (PASSWORD, "a wrong password"):
        form = {"grant_type": "password", "username": "alice@example.com", "password": password}
        answers.append(await scene.post("/token", data=form))
    assert answers[0].json()["error"] == "invalid_grant"
    assert without_id(answers[0]) == without_id(answers[1])


async def by_refresh(scene: Scene) -> None:
    """A login from before the factor ends when the first factor is confirmed."""
    api, services = scene.api, scene.api.services
    bob = await api.create_user("bob@example.com")
    async with services.database.transaction() as store:
        await store.users.confirm_email(bob.id, at=now())
    body = {"email": "bob@example.com", "password": PASSWORD, "strategy": "jwt"}
    old = (await api.post("/login", json=body)).json()
    headers = await sign_in(services, bob)
    secret = (await api.post("/me/factors/totp", headers=headers)).json()["secret"]
    body = {"code": pyotp.TOTP(secret).now()}
    confirmed = await api.post("/me/factors/totp/confirm", json=body, headers=headers)
    assert confirmed.status_code == 200
    form = {"grant_type": "refresh_token", "refresh_token": old["refresh_token"]}
    assert (await scene.post("/token", data=form)).json()["error"] == "invalid_grant"
    bearer = {"authorization": f"Bearer {old['access_token']}"}
    assert (await scene.get("/me", headers=bearer)).status_code == 401


async def by_reset(scene: Scene) -> None:
    token = await scene.mailed(Purpose.RESET)
    body = {"token": token, "new_password": NEW_PASSWORD}
    assert (await scene.post("/password/reset", json=body)).status_code == 204
    answer = await scene.login(password=NEW_PASSWORD)
    assert answer.json()["code"] == "second_factor_required"
    async with scene.api.services.database.read() as store:
        found = await store.users.find(scene.alice.user.id)
    assert found is not None
    assert found.mfa


async def by_invitation(scene: Scene) -> None:
    token = await scene.mailed(Purpose.INVITATION)
    body = {"token": token, "password": NEW_PASSWORD}
    await scene.post("/invitation/accept", json=body)


async def by_confirmation(scene: Scene) -> None:
    token = await scene.mailed(Purpose.CONFIRM)
    body = {"token": token, "password": PASSWORD}
    assert (await scene.post("/email/confirm", json=body)).status_code < 300


async def by_revert(scene: Scene) -> None:
    token = await scene.mailed(Purpose.REVERT_EMAIL_CHANGE)
    body = {"token": token, "email": "old@example.com"}
    assert (await scene.post("/email/undo", json=body)).status_code < 300


async def by_personal_token(scene: Scene) -> None:
    """A session that has proved one factor creates no token that would outlive it."""
    headers = await sign_in(scene.api.services, scene.alice.user)
    answer = await scene.post("/me/tokens", json={"name": "script"}, headers=headers)
    assert answer.json()["code"] == "insufficient_authentication"
    await scene.api.post("/logout", headers=headers)


async def by_exchange(scene: Scene) -> None:
    """A JWT for another service tells that its login has proved one factor."""
    headers = await sign_in(scene.api.services, scene.alice.user)
    body = {"kind": "jwt", "audience": OTHER_SERVICE}
    answer = await scene.api.post("/me/tokens", json=body, headers=headers)
    claims = pyjwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert (claims["amr"], claims["acr"]) == (["pwd"], "urn:authapi:acr:1")
    await scene.api.post("/logout", headers=headers)


async def by_activation(scene: Scene) -> None:
    root = await scene.api.create_user("root@example.com", is_superuser=True)
    headers = await sign_in(scene.api.services, root)
    path = f"/admin/users/{scene.alice.user.id}"
    for active in (False, True):
        body = {"is_active": active}
        answer = await scene.api.patch(path, json=body, headers=headers)
        assert answer.status_code == 200
    answer = await scene.login()
    assert answer.json()["code"] == "second_factor_required"


async def by_import(scene: Scene) -> None:
    """An import leaves an account that exists as it is, with its second factor."""
    services = scene.api.services
    async with services.database.read() as store:
        found = await store.users.find_credentials(scene.alice.user.id)
    assert found is not None
    assert found.password_hash is not None
    line = {"email": "alice@example.com", "password_hash": found.password_hash.text}
    importing = AccountImporter(services.database, services.audit, services.settings)
    summary = await importing.run(BytesIO(json.dumps(line).encode()), lambda *_: None)
    assert summary.added == 0
    answer = await scene.login()
    assert answer.json()["code"] == "second_factor_required"


async def by_log_in(scene: Scene) -> None:
    answer = await scene.post("/form", data={"password": PASSWORD})
    assert answer.json() == {"asked_for": ["totp", "recovery"]}


async def by_page(scene: Scene) -> None:
    """The page leads to the second step, and no other page takes the login that waits."""
    form = {"email": "alice@example.com", "password": PASSWORD, "next": "/account"}
    answer = await scene.post("/account/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "sign-in/second?next=%2Faccount",
    )
    for path in ("/account", "/account/prove", "/account/sign-out"):
        answer = await scene.get(path)
        assert (answer.status_code, answer.headers["location"][-7:]) != (200, "account")
        assert "sign-in" in answer.headers["location"]
    arrived = await scene.get("/account/sign-in?done=in&next=/account")
    assert arrived.headers["location"] == "sign-in?done=no-cookie&next=%2Faccount"


async def by_second_step_of_page(scene: Scene) -> None:
    form = {"email": "alice@example.com", "password": PASSWORD}
    await scene.post("/account/sign-in", data=form)
    for fields in ({"code": scene.alice.wrong_code()}, {"recovery_code": "7K2M-Q4XP-9RTD-3WHN"}):
        answer = await scene.post("/account/sign-in/second", data=fields)
        assert answer.status_code == 401
    for fields in ({"x": ""}, {"code": ""}, {"recovery_code": ""}, {"code": "1" * 7}):
        assert (await scene.post("/account/sign-in/second", data=fields)).status_code == 422
    scene.api.cookies.clear()
    answer = await scene.post("/account/sign-in/second", data={"code": scene.alice.code()})
    assert answer.headers["location"] == "../sign-in?done=expired"


async def by_sign_up(scene: Scene) -> None:
    """The page to create an account signs in to none that exists."""
    form = {"email": "alice@example.com", "password": PASSWORD}
    answer = await scene.post("/account/sign-up", data=form)
    assert answer.status_code == 422


async def by_passkey(scene: Scene, change: Callable[[SoftAuthenticator], None]) -> None:
    """A passkey of the account, with what proves less than possession and its user."""
    passkey = SoftAuthenticator()
    await insert_passkey(scene.api.services, scene.alice.user, passkey)
    change(passkey)
    asked = (await scene.post("/login/passkey/options", json={})).json()
    for strategy in ("session", "token", "jwt"):
        body = {"credential": passkey.get(asked), "strategy": strategy}
        answer = await scene.post("/login/passkey", json=body)
        assert answer.json()["code"] == "passkey_refused"


def without_user(passkey: SoftAuthenticator) -> None:
    passkey.flags &= ~VERIFIED


def of_another_account(passkey: SoftAuthenticator) -> None:
    passkey.handle = b"another account"


def in_a_frame(passkey: SoftAuthenticator) -> None:
    passkey.client_data["crossOrigin"] = True


async def linked_to_alice(scene: Scene) -> Visitor:
    """A browser of a person at a provider who is linked to the account."""
    who = person()
    linked = LinkedIdentity(
        id=new_id(),
        user_id=scene.alice.user.id,
        provider=who.provider,
        issuer=who.issuer,
        subject=who.subject,
        email=who.email,
        email_verified=True,
        name=who.name,
        created_at=now(),
        last_login_at=None,
    )
    async with scene.api.services.database.transaction() as store:
        await store.users.lock(scene.alice.user.id)
        assert await store.identities.add(linked, auth_context=None)
    upstreams = FakeUpstreams()
    scene.auth.runtime.upstreams = upstreams
    return Visitor(scene.api, upstreams)


async def by_provider(scene: Scene) -> None:
    """A login at a provider, which says that it asked for a second factor but is not trusted."""
    visitor = await linked_to_alice(scene)
    answer = await visitor.log_in(person(claims={"amr": ["mfa"]}), remember=True)
    assert answer.headers["location"] == "../../../account/sign-in/second"
    scene.answers.append(answer)


async def by_code_of_provider(scene: Scene) -> None:
    """The code of a login at a provider is no credential."""
    visitor = await linked_to_alice(scene)
    for strategy in ("token", "jwt"):
        answer = await visitor.log_in(person(), **{"continue": "/in", "strategy": strategy})
        scene.answers.append(answer)
        code = answer.headers["location"].partition("#code=")[2]
        refused = await scene.post("/login/with/exchange", json={"code": code})
        assert refused.json()["code"] == "second_factor_required"
        headers = {"authorization": f"Bearer {code}"}
        assert (await scene.get("/me", headers=headers)).status_code == 401


async def by_passkey_of_a_page(scene: Scene) -> None:
    """The page to sign in takes a passkey as the API does."""
    passkey = SoftAuthenticator()
    await insert_passkey(scene.api.services, scene.alice.user, passkey)
    passkey.flags &= ~VERIFIED
    asked = (await scene.post("/login/passkey/options", json={})).json()
    for text in (json.dumps(passkey.get(asked)), "{}", "x"):
        answer = await scene.post("/account/sign-in", data={"credential": text})
        assert answer.status_code in (401, 422)


async def by_enrolment_of_a_page(scene: Scene) -> None:
    """The page that adds a second step adds none beside the one that is asked for."""
    form = {"email": "alice@example.com", "password": PASSWORD}
    created = json.dumps(SoftAuthenticator().create(CREATION))
    confirmed = {"action": "confirm", "code": scene.alice.code()}
    for sent in ({"go": "on"}, confirmed, {"credential": created}):
        await scene.post("/account/sign-in", data=form)
        assert (await scene.get("/account/sign-in/enrol")).headers[
            "location"
        ] == "../sign-in/second"
        answer = await scene.post("/account/sign-in/enrol", data=sent)
        assert answer.headers["location"] == "../sign-in/second"


async def by_links_of_pages(scene: Scene) -> None:
    """The pages of the links in mails sign nobody in, and leave the second factor."""
    for page, purpose, fields in (
        ("confirm", Purpose.CONFIRM, {"password": PASSWORD}),
        ("reset", Purpose.RESET, {"new_password": NEW_PASSWORD}),
        ("invitation", Purpose.INVITATION, {"password": PASSWORD}),
        ("undo", Purpose.REVERT_EMAIL_CHANGE, {"email": "old@example.com"}),
    ):
        form = {"token": await scene.mailed(purpose), **fields}
        answer = await scene.post(f"/account/{page}", data=form)
        assert answer.status_code == 303, page
        account = await scene.get("/account")
        assert "sign-in" in account.headers["location"]
        async with scene.api.services.database.read() as store:
            found = await store.users.find(scene.alice.user.id)
        assert found is not None
        assert found.mfa


async def by_token_of_a_page(scene: Scene) -> None:
    """A session that has proved one factor gets no token, also if it proves that factor again."""
    headers = await sign_in(scene.api.services, scene.alice.user)
    shown = await scene.get("/account/tokens/new", headers=headers)
    assert 'id="code"' in shown.text
    for proof in ({"password": PASSWORD}, {"code": scene.alice.wrong_code()}, {"code": ""}):
        form = {"form": "x", "name": "script", "expires": "30", **proof}
        answer = await scene.post("/account/tokens/new", data=form, headers=headers)
        assert answer.status_code in {401, 403, 422}
        # A password that was proved again has another cookie.
        scene.api.cookies.clear()
        scene.answers.clear()
        headers = await sign_in(scene.api.services, scene.alice.user)
    await scene.api.services.sessions.end_all(scene.alice.user.id)


async def by_passkey_of_a_foreign_challenge(scene: Scene) -> None:
    """The challenges of the second step prove no first factor."""
    passkey = SoftAuthenticator()
    await insert_passkey(scene.api.services, scene.alice.user, passkey)
    ticket = (await scene.login(strategy="token")).json()["ticket"]
    path = "/login/second-factor/options"
    asked = (await scene.post(path, json={"ticket": ticket})).json()
    await scene.post("/login/passkey/options", json={})
    answer = await scene.post("/login/passkey", json={"credential": passkey.get(asked)})
    assert answer.json()["code"] == "passkey_refused"


async def by_enrolment(scene: Scene) -> None:
    """The ticket for a second factor adds no other one."""
    for strategy in ("session", "token", "jwt"):
        ticket = (await scene.login(strategy=strategy)).json().get("ticket")
        body = {} if ticket is None else {"ticket": ticket}
        for path, more in (("totp", {}), ("totp/confirm", {"code": scene.alice.code()})):
            answer = await scene.post(f"/login/enrolment/{path}", json={**body, **more})
            assert answer.json()["code"] == "login_expired"


async def by_enrolment_begun_before_the_factor(scene: Scene) -> None:
    """The ticket of a login from before the factor adds none beside it."""
    services, user = scene.api.services, scene.alice.user
    ticket = await enrolment_ticket(scene)
    secret = (await scene.post("/login/enrolment/totp", json=ticket)).json()["secret"]
    await add_second_factors(services, user)
    body = {**ticket, "code": pyotp.TOTP(secret).at(now())}
    for path, sent in (("totp", ticket), ("totp/confirm", body)):
        answer = await scene.post(f"/login/enrolment/{path}", json=sent)
        assert answer.json()["code"] == "login_expired"


async def enrolment_ticket(scene: Scene) -> dict[str, str]:
    """The ticket of a login that adds a factor. The account has none at that time."""
    services, user = scene.api.services, scene.alice.user
    await services.accounts.administration.reset_factors(user.id)
    settings = services.settings.model_copy(update={"mfa": "required"})
    logins = Logins(
        services.database,
        services.factors.proofs,
        services.federation.links.finish,
        services.audit,
        settings,
    )
    proved = await proved_password(services, user)
    pending = await logins.complete(proved, strategy="token", remember=False)
    assert isinstance(pending, PendingLogin)
    return {"ticket": str(pending.ticket)}


async def by_passkey_enrolment(scene: Scene) -> None:
    """The ticket for a second factor adds no passkey."""
    created = SoftAuthenticator().create(CREATION)
    for strategy in ("session", "token", "jwt"):
        ticket = (await scene.login(strategy=strategy)).json().get("ticket")
        body = {} if ticket is None else {"ticket": ticket}
        added = {**body, "credential": created, "name": "x"}
        for path, sent in (("passkey/options", body), ("passkey", added)):
            answer = await scene.post(f"/login/enrolment/{path}", json=sent)
            assert answer.json()["code"] == "login_expired"


async def by_passkey_enrolment_begun_before_the_factor(scene: Scene) -> None:
    """The ticket of a login from before the factor adds no passkey beside it."""
    ticket = await enrolment_ticket(scene)
    asked = (await scene.post("/login/enrolment/passkey/options", json=ticket)).json()
    await add_second_factors(scene.api.services, scene.alice.user)
    created = {**ticket, "credential": SoftAuthenticator().create(asked), "name": "x"}
    for path, sent in (("passkey/options", ticket), ("passkey", created)):
        answer = await scene.post(f"/login/enrolment/{path}", json=sent)
        assert answer.json()["code"] == "login_expired"


async def by_logout_of_the_ticket(scene: Scene) -> None:
    await scene.login(strategy="session")
    await scene.post("/logout")
    answer = await scene.post("/login/second-factor", json={"code": scene.alice.code()})
    assert answer.json()["code"] == "login_expired"


WAYS: Mapping[str, Callable[[Scene], Awaitable[None]]] = {
    "login session": lambda scene: by_password(scene, "session"),
    "login token": lambda scene: by_password(scene, "token"),
    "login jwt": lambda scene: by_password(scene, "jwt"),
    "basic": by_basic,
    "basic, after wrong passwords": by_basic_after_wrong_passwords,
    "password grant": by_password_grant,
    "refresh": by_refresh,
    "reset": by_reset,
    "invitation": by_invitation,
    "confirmation": by_confirmation,
    "revert": by_revert,
    "personal token": by_personal_token,
    "exchange": by_exchange,
    "activation": by_activation,
    "import": by_import,
    "auth.log_in": by_log_in,
    "page": by_page,
    "page, second step": by_second_step_of_page,
    "page, sign up": by_sign_up,
    "page, passkey without its user": by_passkey_of_a_page,
    "page, enrolment": by_enrolment_of_a_page,
    "page, links": by_links_of_pages,
    "page, token": by_token_of_a_page,
    "provider": by_provider,
    "provider, code": by_code_of_provider,
    "passkey without its user": lambda scene: by_passkey(scene, without_user),
    "passkey of another account": lambda scene: by_passkey(scene, of_another_account),
    "passkey in a frame": lambda scene: by_passkey(scene, in_a_frame),
    "passkey of a foreign challenge": by_passkey_of_a_foreign_challenge,
    "enrolment": by_enrolment,
    "enrolment begun before the factor": by_enrolment_begun_before_the_factor,
    "passkey enrolment": by_passkey_enrolment,
    "passkey enrolment begun before the factor": by_passkey_enrolment_begun_before_the_factor,
    "logout of the ticket": by_logout_of_the_ticket,
}


@asynccontextmanager
async def scene_on(url: str, mails: Path) -> AsyncIterator[Scene]:
    settings = Settings(
        database_url=url,  # type: ignore[arg-type]  # pydantic parses it
        strategies=("session", "token", "jwt", "basic"),
        jwt_audiences=(OTHER_SERVICE,),
        password_grant="on",
        mail_url=SecretStr(f"folder:{mails}"),
        providers=PROVIDERS,
        public_url=ORIGIN,
    )
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/whoami")
    async def whoami(user: Annotated[User, Depends(current_user("basic"))]) -> str:
        return user.email

    @app.post("/form")
    async def form(request: Request) -> dict[str, list[str]]:
        try:
            await auth.log_in(request, "alice@example.com", PASSWORD)
        except SecondFactorRequired as required:
            return {"asked_for": list(required.methods)}
        return {"asked_for": []}

    async with client(app) as api:
        alice = await api.create_user("alice@example.com")
        async with api.services.database.transaction() as store:
            await store.users.confirm_email(alice.id, at=now())
        yield Scene(api, auth, await add_second_factors(api.services, alice))


@pytest.mark.parametrize("way", WAYS)
async def test_an_account_with_a_second_factor_gives_nothing_without_it(
    database_url: str, way: str, tmp_path: Path
) -> None:
    async with scene_on(database_url, tmp_path / "mails") as scene:
        await WAYS[way](scene)
        assert await scene.sessions() == 0
        for answer in scene.answers:
            cookies = ", ".join(answer.headers.get_list("set-cookie"))
            assert not re.search(r"(^|[ ;,])(__Host-)?authapi=[^;]", cookies)
            assert "access_token" not in answer.text
            assert "aat_" not in answer.text
