"""What logins are worth where second factors are required: routes, scopes, ranks and tokens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import httpx
import pyotp
import pytest
from fastapi import Depends, FastAPI
from pydantic import SecretStr

from authapi import AuthAPI, Settings, User, current_user
from authapi.clock import now
from authapi.domain.identity import Identity
from authapi.domain.scopes import INTROSPECT
from authapi.storage.inspection import record_statements
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.second_factors import SecondFactors, add_second_factors
from tests.web.logins import STRATEGIES, Headers, sign_in
from tests.web.operations import operations
from tests.web.responses import gate_problem, input_errors, problem

SCOPES = {"reports:read": "Read", "reports:write": "Write"}
ROLES = {
    "reader": frozenset({"reports:read"}),
    "editor": frozenset({"reports:read", "reports:write"}),
}
OPEN_TO_ONE_FACTOR = {
    *("GET /me/factors", "POST /me/factors/totp", "POST /me/factors/totp/confirm"),
    # These ask for a second factor themselves, if the account has one.
    *("DELETE /me/factors/totp", "POST /me/reauthenticate", "POST /logout"),
    *("POST /me/factors/passkeys", "POST /me/factors/passkeys/options"),
    "DELETE /me/factors/passkeys/{passkey_id}",
}
"""Routes with a gate that `mfa=required` leaves open to a login by one factor."""


@asynccontextmanager
async def opened(url: str, **changes: Any) -> AsyncIterator[Client]:
    """An application with routes of its own, and authapi."""
    settings = Settings(
        **{
            "database_url": url,
            "scopes": SCOPES,
            "roles": ROLES,
            "mail_url": SecretStr("none:"),
            **changes,
        }
    )
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/own")
    async def own(user: Annotated[User, Depends(current_user())]) -> str:
        return user.email

    @app.get("/page")
    async def page(user: Annotated[User | None, Depends(current_user(optional=True))]) -> str:
        return "stranger" if user is None else user.email

    @app.get("/control")
    async def control(user: Annotated[User, Depends(current_user(superuser=True))]) -> str:
        return user.email

    @app.get("/write")
    async def write(user: Annotated[User, Depends(current_user(scopes={"reports:write"}))]) -> str:
        return user.email

    @app.get("/fresh")
    async def fresh(user: Annotated[User, Depends(current_user(fresh=True))]) -> str:
        return user.email

    async with client(app) as api:
        yield api


async def personal_token(api: Client, user: User, *scopes: str) -> Headers:
    owner = Identity(user, "cli", None, frozenset(scopes), now(), (), None)
    create = api.services.tokens.personal.create
    _, secret = await create(owner, name="script", scopes=None, lifetime=None)
    return {"authorization": f"Bearer {secret}"}


async def two_factors(api: Client, alice: SecondFactors, strategy: str = "jwt") -> Headers:
    """The credential of a login with both factors, and no cookie in the client."""
    body = {"email": alice.user.email, "password": PASSWORD, "strategy": strategy}
    begun = (await api.post("/login", json=body)).json()
    proof = {"ticket": begun["ticket"], "recovery_code": alice.codes.pop()}
    done = (await api.post("/login/second-factor", json=proof)).json()
    return {"authorization": f"Bearer {done['access_token']}"}


async def with_role(api: Client, user: User, *roles: str) -> User:
    change = api.services.accounts.administration.change
    return await change(user.id, {"roles": frozenset(roles)})


# mfa=required ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_an_older_login_by_one_factor_only_adds_one_or_logs_out(
    database_url: str, strategy: str
) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user(is_superuser=True)
        headers = await sign_in(api.services, alice, strategy)
        answered = set()
        for operation in operations(api._transport.app):  # type: ignore[attr-defined]
            if operation.is_open or strategy not in operation.strategies:
                continue
            # The logout comes last: it ends the login.
            if operation.template in ("/logout", "/token/introspect"):
                continue
            # No route that is open changes anything: the gate comes before the body.
            body: object = {} if operation.reads_json else None
            answer = await api.request(operation.method, operation.path, json=body, headers=headers)
            if answer.status_code != 401:
                answered.add(str(operation))
                continue
            found = answer.json()
            assert found["code"] == "insufficient_authentication", operation
            assert found["acr_values"] == "urn:authapi:acr:2"
        expected = OPEN_TO_ONE_FACTOR - {"POST /logout"}
        assert answered == (set() if strategy == "token" else expected)
        for path in ("/own", "/write", "/control", "/fresh"):
            gate_problem(await api.get(path, headers=headers), 401, "insufficient_authentication")
        assert (await api.post("/logout", headers=headers)).status_code == 204
        problem(await api.get("/me", headers=headers), 401, "unauthenticated")


async def test_an_older_login_adds_its_factor_and_goes_on(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user()
        cookie = await sign_in(api.services, alice)
        assert (await api.get("/me/factors", headers=cookie)).json() == {
            "mfa": False,
            "required": True,
            "totp": None,
            "passkeys": [],
            "recovery_codes": None,
        }
        begun = await api.post("/me/factors/totp", headers=cookie)
        code = pyotp.TOTP(begun.json()["secret"]).at(now())
        done = await api.post("/me/factors/totp/confirm", json={"code": code}, headers=cookie)
        assert len(done.json()["recovery_codes"]) == 10
        assert (await api.get("/me")).json()["email"] == alice.email
        removed = await api.delete("/me/factors/totp")
        problem(removed, 409, "last_factor")
        assert (await api.get("/me/factors")).json()["mfa"] is True


async def test_a_personal_token_keeps_working(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user(is_superuser=True)
        headers = await personal_token(api, alice)
        for path in ("/me", "/own", "/page", "/control"):
            assert (await api.get(path, headers=headers)).status_code == 200


async def test_a_login_with_two_factors_is_not_asked_again(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await add_second_factors(api.services, await api.create_user(is_superuser=True))
        headers = await two_factors(api, alice)
        for path in ("/me", "/own", "/page", "/control", "/fresh", "/admin/users"):
            assert (await api.get(path, headers=headers)).status_code == 200


async def test_the_policy_costs_a_known_caller_no_query(database_url: str) -> None:
    async with opened(
        database_url, mfa="required", mfa_required_roles=("editor",), mfa_required_superusers=True
    ) as api:
        alice = await api.create_user(is_superuser=True)
        weak = await sign_in(api.services, alice, "token")
        strong = await two_factors(api, await add_second_factors(api.services, alice), "token")
        for headers in (weak, strong):
            first = (await api.get("/control", headers=headers)).status_code
            with record_statements(api.services.database) as statements:
                again = await api.get("/control", headers=headers)
            assert again.status_code == first
            assert statements == []


async def test_a_page_for_everyone_ignores_an_older_cookie(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user()
        cookie = await sign_in(api.services, alice)
        assert (await api.get("/page", headers=cookie)).json() == "stranger"
        token = await sign_in(api.services, alice, "token")
        gate_problem(await api.get("/page", headers=token), 401, "insufficient_authentication")


async def test_one_challenge_names_all_that_an_old_login_lacks(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user()
        with acting_as(alice, auth_time=now() - timedelta(hours=1)):
            body = (await api.get("/fresh")).json()
        assert body["code"] == "insufficient_authentication"
        assert (body["acr_values"], body["max_age"]) == ("urn:authapi:acr:2", 300)


async def test_an_older_login_is_neither_refreshed_nor_active(database_url: str) -> None:
    async with opened(database_url) as api:
        alice = await api.create_user()
        login = {"email": alice.email, "password": PASSWORD}
        issued = {
            strategy: (await api.post("/login", json={**login, "strategy": strategy})).json()
            for strategy in ("token", "jwt")
        }
    async with opened(database_url, mfa="required") as api:
        tokens = [issued["token"]["access_token"], issued["jwt"]["access_token"]]
        tokens.append(issued["jwt"]["refresh_token"])
        refresh = {"grant_type": "refresh_token", "refresh_token": tokens[-1]}
        problem(await api.post("/token", data=refresh), 400, "invalid_grant")
        root = await api.create_user(is_superuser=True)
        headers = await personal_token(api, root, INTROSPECT)
        for token in (*tokens, headers["authorization"].split()[1]):
            answer = await api.post("/token/introspect", data={"token": token}, headers=headers)
            assert answer.json()["active"] is (token not in tokens)
        # The login has not ended: its owner can add a factor.
        assert len(await api.services.sessions.list_for_user(alice.id)) == 2
        bearer = {"authorization": f"Bearer {issued['jwt']['access_token']}"}
        assert (await api.get("/me/factors", headers=bearer)).status_code == 200


async def test_a_credential_that_no_login_has_issued_revokes_itself(database_url: str) -> None:
    async with opened(database_url, mfa="required") as api:
        alice = await api.create_user()
        headers = await sign_in(api.services, alice, "token")
        token = headers["authorization"].split()[1]
        answer = await api.post("/token/revoke", data={"token": token}, headers=headers)
        assert answer.status_code == 200
        assert await api.services.sessions.list_for_user(alice.id) == []


# Roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_role_counts_only_in_logins_with_a_second_factor(
    database_url: str, strategy: str
) -> None:
    async with opened(database_url, mfa_required_roles=("editor",)) as api:
        user = await with_role(api, await api.create_user(), "reader", "editor")
        headers = await sign_in(api.services, user, strategy)
        found = (await api.get("/me/identity", headers=headers)).json()
        assert found["scopes"] == ["reports:read"]
        gate_problem(await api.get("/write", headers=headers), 403, "insufficient_scope")
        assert (await api.get("/me", headers=headers)).json()["roles"] == ["editor", "reader"]
        alice = await add_second_factors(api.services, user)
        if strategy == "session":
            again = await api.post(
                "/me/reauthenticate", json={"code": alice.code()}, headers=headers
            )
            assert again.status_code == 204
            headers = {}
        else:
            headers = await two_factors(api, alice, strategy)
        found = (await api.get("/me/identity", headers=headers)).json()
        assert found["scopes"] == ["reports:read", "reports:write"]
        assert (await api.get("/write", headers=headers)).status_code == 200


async def test_a_login_with_such_a_role_adds_a_factor_and_others_do_not(
    database_url: str,
) -> None:
    async with opened(
        database_url,
        mfa_required_roles=("editor",),
        strategies=("session", "token", "jwt", "basic"),
    ) as api:
        users = {
            role: await with_role(api, await api.create_user(), role)
            for role in ("reader", "editor")
        }
        outcomes: dict[str, list[object]] = {}
        for role, user in users.items():
            login = {"email": user.email, "password": PASSWORD, "strategy": "token"}
            answer = await api.post("/login", json=login)
            basic = await api.get("/me", auth=(user.email, PASSWORD))
            outcomes[role] = [answer.status_code, answer.json().get("code"), basic.status_code]
        assert outcomes == {
            "reader": [200, None, 200],
            "editor": [401, "enrolment_required", 401],
        }


async def test_a_personal_token_never_has_the_scopes_of_such_a_role(database_url: str) -> None:
    async with opened(database_url, mfa_required_roles=("editor",)) as api:
        user = await with_role(api, await api.create_user(), "reader", "editor")
        alice = await add_second_factors(api.services, user)
        headers = await two_factors(api, alice)
        made = await api.post("/me/tokens", json={"name": "script"}, headers=headers)
        assert made.json()["scopes"] == ["reports:read"]
        body = {"name": "script", "scopes": ["reports:write"]}
        refused = await api.post("/me/tokens", json=body, headers=headers)
        assert input_errors(refused) == [(("body", "scopes"), "scope_not_allowed")]
        script = {"authorization": f"Bearer {made.json()['access_token']}"}
        gate_problem(await api.get("/write", headers=script), 403, "insufficient_scope")


async def test_a_token_from_before_the_setting_loses_the_scopes(database_url: str) -> None:
    async with opened(database_url) as api:
        user = await with_role(api, await api.create_user(), "editor")
        script = await personal_token(api, user, "reports:read", "reports:write")
        assert (await api.get("/write", headers=script)).status_code == 200
    async with opened(database_url, mfa_required_roles=("editor",)) as api:
        gate_problem(await api.get("/write", headers=script), 403, "insufficient_scope")
        assert (await api.get("/own", headers=script)).status_code == 200


# Superusers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_superusers_count_as_such_only_with_a_second_factor(
    database_url: str, strategy: str
) -> None:
    async with opened(database_url, mfa_required_superusers=True) as api:
        root = await api.create_user("root@example.com", is_superuser=True)
        plain = await api.create_user()
        weak = await sign_in(api.services, root, strategy)
        refused = await api.get("/control", headers=weak)
        gate_problem(refused, 401, "insufficient_authentication")
        assert refused.json()["acr_values"] == "urn:authapi:acr:2"
        assert (await api.get("/own", headers=weak)).status_code == 200
        other = await sign_in(api.services, plain, strategy)
        gate_problem(await api.get("/control", headers=other), 403, "superuser_required")
        body = {"email": "root@example.com", "password": PASSWORD}
        answer = await api.post("/login", json=body)
        assert answer.json()["code"] == "enrolment_required"
        api.cookies.clear()
        script = await personal_token(api, root)
        gate_problem(await api.get("/control", headers=script), 401, "insufficient_authentication")
        if strategy != "session":
            alice = await add_second_factors(api.services, root)
            strong = await two_factors(api, alice, strategy)
            assert (await api.get("/control", headers=strong)).status_code == 200


async def test_the_scope_of_superusers_needs_a_second_factor_too(database_url: str) -> None:
    async with opened(database_url, mfa_required_superusers=True, roles={}) as api:
        root = await api.create_user(is_superuser=True)
        weak = await sign_in(api.services, root, "token")
        form = {"token": "x"}
        answer = await api.post("/token/introspect", data=form, headers=weak)
        assert answer.json()["code"] == "insufficient_scope"
        strong = await two_factors(api, await add_second_factors(api.services, root), "token")
        answer = await api.post("/token/introspect", data=form, headers=strong)
        assert answer.json() == {"active": False}
        # Resource servers introspect with a personal access token, without a login.
        script = await personal_token(api, root, INTROSPECT)
        answer = await api.post("/token/introspect", data=form, headers=script)
        assert answer.json() == {"active": False}


async def test_administration_asks_for_the_second_factor_of_the_superuser(
    database_url: str,
) -> None:
    """Also without a setting, once the superuser has one."""
    async with opened(database_url) as api:
        root = await api.create_user("root@example.com", is_superuser=True)
        user = await api.create_user()
        headers = await sign_in(api.services, root)
        path = f"/admin/users/{user.id}"
        one = await api.patch(path, json={"name": "One"}, headers=headers)
        assert one.status_code == 200
        with acting_as(replace(root, mfa_since=now())):
            refused = await api.patch(path, json={"name": "Two"})
            problem(refused, 401, "insufficient_authentication")
        with acting_as(replace(root, mfa_since=now()), mfa=True):
            assert (await api.patch(path, json={"name": "Three"})).status_code == 200


def outcome(answer: httpx.Response) -> object:
    return answer.json().get("code") or answer.status_code


@pytest.mark.parametrize(
    ("settings", "plain", "editor", "root"),
    [
        ({}, 200, 200, 200),
        ({"mfa": "off"}, 200, 200, 200),
        ({"mfa_required_roles": ("editor",)}, 200, "enrolment_required", 200),
        ({"mfa_required_superusers": True}, 200, 200, "enrolment_required"),
        ({"mfa": "required"}, *["enrolment_required"] * 3),
    ],
    ids=["optional", "off", "roles", "superusers", "required"],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_each_login_by_password_under_each_policy(
    database_url: str,
    settings: dict[str, object],
    plain: object,
    editor: object,
    root: object,
    strategy: str,
) -> None:
    async with opened(database_url, **settings) as api:
        users = [
            await api.create_user(),
            await with_role(api, await api.create_user(), "editor"),
            await api.create_user(is_superuser=True),
        ]
        found = []
        for user in users:
            body = {"email": user.email, "password": PASSWORD, "strategy": strategy}
            found.append(outcome(await api.post("/login", json=body)))
            api.cookies.clear()
        assert found == [plain, editor, root]
        # An account with a factor is asked for it under each policy.
        for user in users:
            await add_second_factors(api.services, user)
            body = {"email": user.email, "password": PASSWORD, "strategy": strategy}
            assert outcome(await api.post("/login", json=body)) == "second_factor_required"
