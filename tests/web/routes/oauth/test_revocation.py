"""POST /token/revoke (RFC 7009)."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
import time_machine
from hypothesis import given

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.refresh_tokens import new_refresh_token
from authapi.crypto.secrets import new_opaque_token
from authapi.domain.user import User
from authapi.errors import StorageUnavailable
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.tables import sessions
from tests.web.logins import sign_in
from tests.web.responses import check_headers, problem
from tests.web.tokens import GARBAGE, OTHER, Held, bearer, few, login, minted, refreshed, tokens_of

FORM = {"content-type": "application/x-www-form-urlencoded"}
KINDS = ("jwt", "refresh", "opaque", "personal", "minted")
DIES_WITH = {"jwt": {"jwt", "refresh"}, "refresh": {"jwt", "refresh"}}
"""Maps each kind of token to the kinds that end with it: those of the same login."""


@pytest.fixture
async def api_on_both(database_url: str) -> AsyncIterator[Client]:
    """The service on each database, with another service as audience."""
    settings = Settings(database_url=database_url, jwt_audiences=OTHER)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        yield api


@pytest.fixture
async def api_on_sqlite(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same on SQLite only."""
    async with client(create_app(make_settings(jwt_audiences=(OTHER,)))) as api:
        yield api


async def revoke(api: Client, token: str, **fields: str) -> None:
    """Revoke `token`, and check the response, which is always the same."""
    check_response(await api.post("/token/revoke", data={"token": token, **fields}))


def check_response(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert answer.headers["content-type"] == "application/json"
    check_headers(answer)


async def active_kinds(api: Client, tokens: Held) -> set[str]:
    """The kinds of tokens that are still active."""
    # Introspection, because using a refresh token would replace it.
    introspection = api.services.tokens.introspection
    found = {name for name, token in tokens.all().items() if await introspection.introspect(token)}
    for name in ("jwt", "opaque", "personal"):
        answer = await api.get("/me", headers=bearer(tokens.all()[name]))
        assert (answer.status_code == 200) is (name in found), name
    return found


async def events_of(api: Client, user: User, *kinds: str) -> list[tuple[str, str | None]]:
    found = await api.services.audit.page(user.id, before=None, limit=50)
    return [(event.type.value, event.strategy) for event in found if event.type.value in kinds]


@pytest.mark.parametrize("kind", KINDS)
async def test_revocation_ends_the_whole_session_only(api_on_both: Client, kind: str) -> None:
    tokens = await tokens_of(api_on_both, await api_on_both.create_user())
    assert await active_kinds(api_on_both, tokens) == set(KINDS)
    await revoke(api_on_both, tokens.all()[kind])
    assert await active_kinds(api_on_both, tokens) == set(KINDS) - DIES_WITH.get(kind, {kind})
    if kind == "refresh":
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
        problem(await api_on_both.post("/token", data=form), 400, "invalid_grant")
    strategy = "token" if kind in ("opaque", "personal") else "jwt"
    event_type = "token_ended" if kind in ("personal", "minted") else "logout"
    expected = [(event_type, strategy)]
    assert await events_of(api_on_both, tokens.user, "logout", "token_ended") == expected
    await revoke(api_on_both, tokens.all()[kind])
    assert await events_of(api_on_both, tokens.user, "logout", "token_ended") == expected


async def test_a_used_refresh_token_can_revoke_its_family(api_on_both: Client) -> None:
    alice = await api_on_both.create_user()
    first = await login(api_on_both, alice, "jwt")
    second = await refreshed(api_on_both, first["refresh_token"])
    third = await refreshed(api_on_both, second["refresh_token"])
    await revoke(api_on_both, first["refresh_token"])
    for token in (first, second, third):
        answer = await api_on_both.get("/me", headers=bearer(token["access_token"]))
        problem(answer, 401, "unauthenticated")
    form = {"grant_type": "refresh_token", "refresh_token": third["refresh_token"]}
    problem(await api_on_both.post("/token", data=form), 400, "invalid_grant")
    assert await events_of(api_on_both, alice, "logout", "refresh_reuse") == [("logout", "jwt")]


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "urn:x:unknown", ""])
async def test_token_type_hint_is_ignored(api_on_sqlite: Client, hint: str) -> None:
    for kind in KINDS:
        tokens = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
        await revoke(api_on_sqlite, tokens.all()[kind], token_type_hint=hint)
        assert kind not in await active_kinds(api_on_sqlite, tokens)


async def test_v10_4_9_tokens_of_other_accounts_cannot_be_revoked(api_on_sqlite: Client) -> None:
    alice = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    bob = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    cookie = await sign_in(api_on_sqlite.services, bob.user)
    for headers in (bearer(bob.jwt), bearer(bob.opaque), bearer(bob.personal), cookie):
        for token in alice.all().values():
            form = {"token": token}
            check_response(await api_on_sqlite.post("/token/revoke", data=form, headers=headers))
    assert await active_kinds(api_on_sqlite, alice) == set(KINDS)
    assert await events_of(api_on_sqlite, alice.user, "logout", "token_ended") == []
    for token in bob.all().values():
        check_response(
            await api_on_sqlite.post("/token/revoke", data={"token": token}, headers=cookie)
        )
    assert await active_kinds(api_on_sqlite, bob) == set()


DEAD_COOKIE = {"cookie": "authapi=" + "A" * 43}


@pytest.mark.parametrize(
    "beside",
    [
        bearer(new_opaque_token()),
        bearer("x"),
        bearer("e30.e30.e30"),
        bearer(new_refresh_token().text),
        {"authorization": "DPoP abc"},
        {"authorization": "Bearer"},
        {"authorization": ""},
        {"authorization": "Basic Y2xpZW50Og=="},
        DEAD_COOKIE,
        DEAD_COOKIE | bearer("x"),
        {"cookie": "authapi=a; authapi=b"},
    ],
    ids=range(11),
)
async def test_an_invalid_credential_is_ignored(
    api_on_sqlite: Client, beside: dict[str, str]
) -> None:
    alice = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    left = set(KINDS)
    for kind in ("personal", "opaque", "minted", "refresh"):
        form = {"token": alice.all()[kind]}
        answer = await api_on_sqlite.post("/token/revoke", data=form, headers=beside)
        assert (answer.status_code, answer.content) == (200, b"")
        left -= DIES_WITH.get(kind, {kind})
        assert await active_kinds(api_on_sqlite, alice) == left


async def test_an_expired_bearer_token_is_ignored(api_on_sqlite: Client) -> None:
    alice = await api_on_sqlite.create_user()
    later = now() + timedelta(hours=1)
    tokens = await tokens_of(api_on_sqlite, alice)
    cookie_of_bob = await sign_in(api_on_sqlite.services, await api_on_sqlite.create_user())
    with time_machine.travel(later, tick=True):
        problem(await api_on_sqlite.get("/me", headers=bearer(tokens.jwt)), 401, "unauthenticated")
        # The cookie of another account is ignored beside the header.
        headers = bearer(tokens.jwt) | cookie_of_bob
        check_response(
            await api_on_sqlite.post(
                "/token/revoke", data={"token": tokens.refresh}, headers=headers
            )
        )
        form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
        problem(await api_on_sqlite.post("/token", data=form), 400, "invalid_grant")


async def test_wrong_basic_credentials_are_ignored(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies="session,token,jwt,basic", jwt_audiences=(OTHER,))
    async with client(create_app(settings)) as api:
        alice = await tokens_of(api, await api.create_user())
        answer = await api.post(
            "/token/revoke", data={"token": alice.refresh}, auth=(alice.user.email, "wrong")
        )
        check_response(answer)
        assert "refresh" not in await active_kinds(api, alice)


@pytest.mark.parametrize("origin", ["session", "token", "jwt", "personal"])
async def test_a_jwt_for_another_service_is_revoked_alone(api_on_both: Client, origin: str) -> None:
    alice = await api_on_both.create_user()
    headers = await sign_in(api_on_both.services, alice, "jwt" if origin == "personal" else origin)
    if origin == "personal":
        made = await api_on_both.post("/me/tokens", json={"name": "script"}, headers=headers)
        headers = bearer(made.json()["access_token"])
    body = {"kind": "jwt", "audience": OTHER}
    revoke_new_jwt, kept = [
        (await api_on_both.post("/me/tokens", json=body, headers=headers)).json()["access_token"]
        for _ in range(2)
    ]
    introspection = api_on_both.services.tokens.introspection
    for _ in range(2):
        await revoke(api_on_both, revoke_new_jwt)
        assert await introspection.introspect(revoke_new_jwt) is None
        assert await introspection.introspect(kept) is not None
        assert (await api_on_both.get("/me", headers=headers)).status_code == 200
    # It cannot be used to log out, or as the credential of a revocation.
    problem(await api_on_both.post("/logout", headers=bearer(kept)), 401, "unauthenticated")
    problem(await api_on_both.delete("/me", headers=bearer(kept)), 401, "unauthenticated")
    assert (await api_on_both.get("/me", headers=headers)).status_code == 200
    assert await events_of(api_on_both, alice, "logout", "token_ended") == [("token_ended", "jwt")]


async def test_revoked_jwts_are_deleted_after_expiry(
    api_on_sqlite: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.services.tokens.revocation._MAX_REVOKED_JWTS", 2)
    headers = await sign_in(api_on_sqlite.services, await api_on_sqlite.create_user())

    async def revoke_new_jwt() -> httpx.Response:
        body = {"kind": "jwt", "audience": OTHER}
        made = await api_on_sqlite.post("/me/tokens", json=body, headers=headers)
        return await api_on_sqlite.post(
            "/token/revoke", data={"token": made.json()["access_token"]}
        )

    check_response(await revoke_new_jwt())
    check_response(await revoke_new_jwt())
    refused = await revoke_new_jwt()
    problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"]
    with time_machine.travel(now() + timedelta(hours=1), tick=True):
        check_response(await revoke_new_jwt())
        async with api_on_sqlite.services.database.read() as store:
            rows = await store.connection.execute(sa.select(sessions.c.revoked_jwts))
        assert [len(row) for row in rows.scalars()] == [1]


async def test_cross_origin_requests_with_a_cookie_are_refused(api_on_sqlite: Client) -> None:
    alice = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    headers = await sign_in(api_on_sqlite.services, alice.user) | {"sec-fetch-site": "cross-site"}
    answer = await api_on_sqlite.post("/token/revoke", data={"token": alice.jwt}, headers=headers)
    problem(answer, 403, "foreign_origin")
    assert await active_kinds(api_on_sqlite, alice) == set(KINDS)


async def test_invalid_tokens_get_the_same_response(api_on_sqlite: Client) -> None:
    tokens = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())
    head, claims, signature = tokens.jwt.split(".")
    last = "A" if signature[0] != "A" else "B"
    for text in (
        new_opaque_token(),
        new_refresh_token().text,
        tokens.opaque[:-1],
        tokens.refresh.swapcase(),
        f"{head}.{claims}.{last}{signature[1:]}",
        f"{head}.{claims}.",
        await minted(api_on_sqlite.services, tokens.jwt, "https://other.example"),
        "x",
    ):
        await revoke(api_on_sqlite, text)
    assert await active_kinds(api_on_sqlite, tokens) == set(KINDS)


@few
@given(text=GARBAGE)
async def test_malformed_tokens_get_the_same_response(api: Client, text: str) -> None:
    check_response(await api.post("/token/revoke", data={"token": text}))


@pytest.mark.parametrize(
    "form",
    [
        "",
        "x=y",
        "token",
        "token=",
        "token=a&token=a",
        "token=%00",
        "token=%ff",
        "token=" + "x" * 8193,
        "token=x&token_type_hint=%0a",
        "token=x&token_type_hint=" + "x" * 256,
    ],
)
async def test_a_request_without_a_token_is_refused(api: Client, form: str) -> None:
    answer = await api.post("/token/revoke", content=form.encode(), headers=FORM)
    body = problem(answer, 400, "invalid_request")
    assert body["error"] == "invalid_request"


async def test_other_content_types_are_refused(api: Client) -> None:
    answer = await api.post("/token/revoke", json={"token": "x"})
    problem(answer, 415, "unsupported_media_type")
    problem(await api.get("/token/revoke"), 405, "method_not_allowed")
    content = json.dumps({"token": "x"})
    problem(await api.post("/token/revoke", content=content), 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_unavailable_database_is_a_503(
    api_on_sqlite: Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await tokens_of(api_on_sqlite, await api_on_sqlite.create_user())

    def away() -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(api_on_sqlite.services.database, "read", away)
        answer = await api_on_sqlite.post("/token/revoke", data={"token": tokens.all()[kind]})
        problem(answer, 503, "database_unavailable")
    with monkeypatch.context() as patch:
        patch.setattr(api_on_sqlite.services.database, "transaction", away)
        answer = await api_on_sqlite.post("/token/revoke", data={"token": tokens.all()[kind]})
        problem(answer, 503, "database_unavailable")
    assert await active_kinds(api_on_sqlite, tokens) == set(KINDS)
