"""The scopes of a credential: those granted to it that its user still has."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from authapi import Settings, create_app
from authapi.domain.scopes import (
    INTROSPECT,
    counting_roles,
    effective_scopes,
    has_rank,
    login_scopes,
)
from authapi.domain.user import User
from authapi.storage.inspection import record_statements
from authapi.testing import PASSWORD, Client, client
from tests.security.attack import claims_of
from tests.storage.rows import a_user
from tests.web.logins import STRATEGIES, sign_in
from tests.web.responses import input_errors, problem

SCOPES = {"reports:read": "Read", "reports:write": "Write", "bills:read": "Read bills"}
ROLES = {
    "reader": frozenset({"reports:read"}),
    "editor": frozenset({"reports:read", "reports:write"}),
    "gateway": frozenset({INTROSPECT}),
}
BASE = frozenset({"bills:read"})
ONE, TWO, NONE = ("pwd",), ("pwd", "otp", "mfa"), ()


def settings_of(**changes: object) -> Settings:
    return Settings(scopes=SCOPES, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("roles", "superuser", "expected"),
    [
        ((), False, {"bills:read"}),
        (("reader",), False, {"bills:read", "reports:read"}),
        (("reader", "editor"), False, {"bills:read", "reports:read", "reports:write"}),
        (("gateway",), False, {"bills:read", INTROSPECT}),
        (("gone",), False, {"bills:read"}),
        # The superuser flag gives only this scope.
        ((), True, {"bills:read", INTROSPECT}),
    ],
    ids=range(6),
)
def test_login_has_the_scopes_of_its_roles(
    roles: tuple[str, ...], superuser: bool, expected: set[str]
) -> None:
    settings = settings_of(roles={**ROLES, "base": BASE}, default_roles=("base",))
    user = replace(a_user(), roles=frozenset(roles), is_superuser=superuser)
    assert login_scopes(user, settings, amr=("pwd",)) == expected
    assert effective_scopes(None, user, settings, amr=("pwd",)) == expected
    for given in (frozenset[str](), frozenset({"reports:read", INTROSPECT}), frozenset(SCOPES)):
        assert effective_scopes(given, user, settings, amr=("pwd",)) == given & expected


def test_without_roles_a_login_has_all_scopes() -> None:
    settings, user = settings_of(), replace(a_user(), roles=frozenset({"reader"}))
    assert login_scopes(user, settings, amr=("pwd",)) == set(SCOPES)
    # Scopes that an operator granted to a token of a service remain valid.
    assert effective_scopes(frozenset({INTROSPECT}), user, settings, amr=()) == {INTROSPECT}


def test_a_role_counts_only_in_logins_with_a_second_factor() -> None:
    settings = settings_of(roles=ROLES, mfa_required_roles=("editor",))
    user = replace(a_user(), roles=frozenset({"reader", "editor"}))
    assert set(counting_roles(user, ONE, settings)) == {"reader"}
    assert set(counting_roles(user, NONE, settings)) == {"reader"}
    assert set(counting_roles(user, TWO, settings)) == {"reader", "editor"}
    assert effective_scopes(None, user, settings, amr=ONE) == {"reports:read"}
    assert effective_scopes(None, user, settings, amr=TWO) == ROLES["editor"]
    granted = frozenset(SCOPES)
    assert effective_scopes(granted, user, settings, amr=NONE) == {"reports:read"}
    own = frozenset({"own"})
    assert effective_scopes(None, user, settings, own, amr=ONE) == {"reports:read", "own"}


def test_a_superuser_counts_as_one_only_in_logins_with_a_second_factor() -> None:
    root = replace(a_user(), is_superuser=True)
    settings = settings_of(roles=ROLES, mfa_required_superusers=True)
    assert [has_rank(root, amr, settings) for amr in (ONE, NONE, TWO)] == [False, False, True]
    assert [has_rank(root, amr, settings_of()) for amr in (ONE, NONE, TWO)] == [True] * 3
    assert not has_rank(a_user(), TWO, settings)
    # A token keeps the scope: the login that created it had two factors.
    assert effective_scopes(None, root, settings, amr=ONE) == set()
    assert effective_scopes(None, root, settings, amr=TWO) == {INTROSPECT}
    assert effective_scopes(frozenset({INTROSPECT}), root, settings, amr=NONE) == {INTROSPECT}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        scopes=SCOPES,
        roles=ROLES,
        jwt_audiences=("billing",),
        strategies=("session", "token", "jwt", "basic"),
    )
    async with client(create_app(settings)) as found:
        yield found


async def give(api: Client, user: User, *roles: str) -> None:
    await api.services.accounts.administration.change(user.id, {"roles": frozenset(roles)})


async def held(api: Client, headers: dict[str, str]) -> set[str]:
    answer = await api.get("/me/identity", headers=headers)
    assert answer.status_code == 200, answer.text
    return set(answer.json()["scopes"])


async def introspected(api: Client, headers: dict[str, str], text: str) -> set[str]:
    answer = await api.post("/token/introspect", data={"token": text}, headers=headers)
    assert answer.json()["active"] is True
    return set(answer.json().get("scope", "").split())


async def test_demotion_applies_to_the_next_request_of_every_credential(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    root = await sign_in(api.services, await api.create_user(is_superuser=True), "token")
    await give(api, alice, "editor")
    credentials = {name: await sign_in(api.services, alice, name) for name in STRATEGIES}
    made = await api.post("/me/tokens", json={"name": "x"}, headers=credentials["session"])
    personal = {"authorization": f"Bearer {made.json()['access_token']}"}
    assert set(made.json()["scopes"]) == {"reports:read", "reports:write"}
    everything = [*credentials.values(), personal]
    for headers in everything * 2:  # the second time from the cache
        assert await held(api, headers) == {"reports:read", "reports:write"}
    await give(api, alice, "reader")
    for headers in everything:
        assert await held(api, headers) == {"reports:read"}
        text = headers.get("authorization", "").removeprefix("Bearer ")
        if text:
            assert await introspected(api, root, text) == {"reports:read"}
    # The claim contains the granted scopes; authapi does not rely on it alone.
    jwt = credentials["jwt"]["authorization"].removeprefix("Bearer ")
    assert claims_of(jwt)["scope"] == "reports:read reports:write"
    await give(api, alice)
    for headers in everything:
        assert await held(api, headers) == set()
    # Regained scopes are effective again for logins, which have all scopes of their user.
    await give(api, alice, "editor")
    assert await held(api, credentials["session"]) == {"reports:read", "reports:write"}


async def test_promotion_extends_logins_but_not_tokens(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await give(api, alice, "reader")
    login = await sign_in(api.services, alice)
    body = {"name": "x", "scopes": ["reports:read"]}
    made = (await api.post("/me/tokens", json=body, headers=login)).json()
    personal = {"authorization": f"Bearer {made['access_token']}"}
    jwt = await sign_in(api.services, alice, "jwt")
    await give(api, alice, "editor")
    assert await held(api, login) == {"reports:read", "reports:write"}
    # The scopes of a JWT were signed before.
    assert await held(api, personal) == await held(api, jwt) == {"reports:read"}


async def test_token_cannot_get_scopes_that_its_user_does_not_have(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await give(api, alice, "reader")
    login = await sign_in(api.services, alice)
    for scope in ("reports:write", INTROSPECT, "bills:read"):
        body = {"name": "x", "scopes": [scope]}
        answer = await api.post("/me/tokens", json=body, headers=login)
        assert input_errors(answer) == [(("body", "scopes"), "scope_not_allowed")]
        exchange = {"kind": "jwt", "audience": "billing", "scopes": [scope]}
        answer = await api.post("/me/tokens", json=exchange, headers=login)
        assert input_errors(answer) == [(("body", "scopes"), "scope_not_allowed")]
    form = {"grant_type": "password", "username": alice.email, "password": PASSWORD}
    answer = await api.post("/token", data={**form, "scope": "reports:write"})
    problem(answer, 400, "invalid_scope")
    answer = await api.post("/token", data=form)
    assert answer.json()["scope"] == "reports:read"


async def test_renewed_or_exchanged_token_has_the_current_scopes_of_its_user(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await give(api, alice, "editor")
    body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
    refresh = (await api.post("/login", json=body)).json()["refresh_token"]
    login = await sign_in(api.services, alice)
    exchange = {"kind": "jwt", "audience": "billing"}
    minted = (await api.post("/me/tokens", json=exchange, headers=login)).json()
    assert set(minted["scopes"]) == {"reports:read", "reports:write"}
    await give(api, alice, "reader")
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    refused = await api.post("/token", data={**form, "scope": "reports:write"})
    problem(refused, 400, "invalid_scope")
    renewed = (await api.post("/token", data=form)).json()
    assert renewed["scope"] == claims_of(renewed["access_token"])["scope"] == "reports:read"
    again = (await api.post("/me/tokens", json=exchange, headers=login)).json()
    assert again["scopes"] == ["reports:read"]
    root = await sign_in(api.services, await api.create_user(is_superuser=True), "token")
    assert await introspected(api, root, minted["access_token"]) == {"reports:read"}


async def test_former_superuser_cannot_introspect(api: Client) -> None:
    _, bob = [await api.create_user(is_superuser=True) for _ in range(2)]
    login = await sign_in(api.services, bob)
    made = await api.post("/me/tokens", json={"name": "x"}, headers=login)
    personal = {"authorization": f"Bearer {made.json()['access_token']}"}
    for headers in (login, personal):
        assert await held(api, headers) == {INTROSPECT}
    await api.services.accounts.administration.change(bob.id, {"is_superuser": False})
    for headers in (login, personal):
        answer = await api.post("/token/introspect", data={"token": "x"}, headers=headers)
        problem(answer, 403, "insufficient_scope")


async def test_former_superuser_cannot_introspect_without_roles(api_on_each: Client) -> None:
    api = api_on_each
    _, bob = [await api.create_user(is_superuser=True) for _ in range(2)]
    login = await sign_in(api.services, bob)
    made = await api.post("/me/tokens", json={"name": "x"}, headers=login)
    other = await api.post("/me/tokens", json={"name": "y", "scopes": []}, headers=login)
    personal = {"authorization": f"Bearer {made.json()['access_token']}"}
    await api.services.accounts.administration.change(bob.id, {"is_superuser": False})
    answer = await api.post("/token/introspect", data={"token": "x"}, headers=login)
    problem(answer, 403, "insufficient_scope")
    # The token had this scope only through the superuser flag, so it ended with the flag.
    problem(await api.get("/me", headers=personal), 401, "unauthenticated")
    kept = {"authorization": f"Bearer {other.json()['access_token']}"}
    assert (await api.get("/me", headers=kept)).status_code == 200


async def test_roles_cost_no_additional_statement(api: Client) -> None:
    """A caller who is not in the cache costs one statement, with or without roles."""
    alice = await api.create_user()
    await give(api, alice, "editor")
    login = await sign_in(api.services, alice)
    api.services.identity_cache.clear()
    with record_statements(api.services.database) as seen:
        assert await held(api, login) == {"reports:read", "reports:write"}
    assert len([text for text in seen if text.startswith("SELECT")]) == 1, seen
