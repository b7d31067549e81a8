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
from authapi.crypto.refresh import new_refresh_token
from authapi.crypto.secrets import new_opaque_token
from authapi.errors import StorageUnavailable
from authapi.identity import User
from authapi.storage.models import sessions
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.answers import check_headers, problem
from tests.web.logins import sign_in
from tests.web.tokens import GARBAGE, OTHER, Held, bearer, few, login, minted, refreshed, tokens_of

FORM = {"content-type": "application/x-www-form-urlencoded"}
KINDS = ("jwt", "refresh", "opaque", "personal", "minted")
DIES_WITH = {"jwt": {"jwt", "refresh"}, "refresh": {"jwt", "refresh"}}
"""Which tokens end with which: those of one login."""


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[Client]:
    """On each database, with another service that JWTs are minted for."""
    settings = Settings(database_url=database_url, jwt_audiences=OTHER)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        yield api


@pytest.fixture
async def small(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The same on SQLite."""
    async with client(create_app(make_settings(jwt_audiences=(OTHER,)))) as api:
        yield api


async def revoke(api: Client, token: str, **more: str) -> None:
    """Revoke, and hold the answer against the one that there is."""
    gone(await api.post("/token/revoke", data={"token": token, **more}))


def gone(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == "0"
    assert answer.headers["content-type"] == "application/json"
    check_headers(answer)


async def alive(api: Client, held: Held) -> set[str]:
    """The kinds of token that still do what they are for."""
    # A refresh token is looked at, as it would be another one after its use.
    states = api.services.token_states
    found = {name for name, token in held.all().items() if await states.introspect(token)}
    for name in ("jwt", "opaque", "personal"):
        answer = await api.get("/me", headers=bearer(held.all()[name]))
        assert (answer.status_code == 200) is (name in found), name
    return found


async def events_of(api: Client, user: User, *kinds: str) -> list[tuple[str, str | None]]:
    found = await api.services.audit.page(user.id, before=None, limit=50)
    return [(event.type.value, event.strategy) for event in found if event.type.value in kinds]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_ends_with_all_of_its_session_and_nothing_else(
    house: Client, kind: str
) -> None:
    held = await tokens_of(house, await house.create_user())
    assert await alive(house, held) == set(KINDS)
    await revoke(house, held.all()[kind])
    assert await alive(house, held) == set(KINDS) - DIES_WITH.get(kind, {kind})
    if kind == "refresh":
        form = {"grant_type": "refresh_token", "refresh_token": held.refresh}
        problem(await house.post("/token", data=form), 400, "invalid_grant")
    strategy = "token" if kind in ("opaque", "personal") else "jwt"
    told = "token_ended" if kind in ("personal", "minted") else "logout"
    expected = [(told, strategy)]
    assert await events_of(house, held.user, "logout", "token_ended") == expected
    await revoke(house, held.all()[kind])
    assert await events_of(house, held.user, "logout", "token_ended") == expected


async def test_a_refresh_token_that_was_exchanged_still_ends_its_family(house: Client) -> None:
    alice = await house.create_user()
    first = await login(house, alice, "jwt")
    second = await refreshed(house, first["refresh_token"])
    third = await refreshed(house, second["refresh_token"])
    await revoke(house, first["refresh_token"])
    for token in (first, second, third):
        answer = await house.get("/me", headers=bearer(token["access_token"]))
        problem(answer, 401, "unauthenticated")
    form = {"grant_type": "refresh_token", "refresh_token": third["refresh_token"]}
    problem(await house.post("/token", data=form), 400, "invalid_grant")
    assert await events_of(house, alice, "logout", "refresh_reuse") == [("logout", "jwt")]


@pytest.mark.parametrize("hint", ["refresh_token", "access_token", "urn:x:whatever", ""])
async def test_a_hint_changes_nothing(small: Client, hint: str) -> None:
    for kind in KINDS:
        held = await tokens_of(small, await small.create_user())
        await revoke(small, held.all()[kind], token_type_hint=hint)
        assert kind not in await alive(small, held)


async def test_v10_4_9_nobody_ends_the_tokens_of_others(small: Client) -> None:
    alice = await tokens_of(small, await small.create_user())
    bob = await tokens_of(small, await small.create_user())
    cookie = await sign_in(small.services, bob.user)
    for headers in (bearer(bob.jwt), bearer(bob.opaque), bearer(bob.personal), cookie):
        for token in alice.all().values():
            form = {"token": token}
            gone(await small.post("/token/revoke", data=form, headers=headers))
    assert await alive(small, alice) == set(KINDS)
    assert await events_of(small, alice.user, "logout", "token_ended") == []
    for token in bob.all().values():
        gone(await small.post("/token/revoke", data={"token": token}, headers=cookie))
    assert await alive(small, bob) == set()


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
async def test_a_bad_credential_beside_a_token_is_none(
    small: Client, beside: dict[str, str]
) -> None:
    alice = await tokens_of(small, await small.create_user())
    left = set(KINDS)
    for kind in ("personal", "opaque", "minted", "refresh"):
        form = {"token": alice.all()[kind]}
        answer = await small.post("/token/revoke", data=form, headers=beside)
        assert (answer.status_code, answer.content) == (200, b"")
        left -= DIES_WITH.get(kind, {kind})
        assert await alive(small, alice) == left


async def test_an_expired_bearer_beside_its_refresh_token(small: Client) -> None:
    alice = await small.create_user()
    later = now() + timedelta(hours=1)
    held = await tokens_of(small, alice)
    cookie_of_bob = await sign_in(small.services, await small.create_user())
    with time_machine.travel(later, tick=True):
        problem(await small.get("/me", headers=bearer(held.jwt)), 401, "unauthenticated")
        # With the cookie of another account, too: the request did not come as that.
        headers = bearer(held.jwt) | cookie_of_bob
        gone(await small.post("/token/revoke", data={"token": held.refresh}, headers=headers))
        form = {"grant_type": "refresh_token", "refresh_token": held.refresh}
        problem(await small.post("/token", data=form), 400, "invalid_grant")


async def test_basic_that_is_wrong_is_none(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies="session,token,jwt,basic", jwt_audiences=(OTHER,))
    async with client(create_app(settings)) as api:
        alice = await tokens_of(api, await api.create_user())
        answer = await api.post(
            "/token/revoke", data={"token": alice.refresh}, auth=(alice.user.email, "wrong")
        )
        gone(answer)
        assert "refresh" not in await alive(api, alice)


@pytest.mark.parametrize("origin", ["session", "token", "jwt", "personal"])
async def test_a_jwt_for_another_service_ends_alone(house: Client, origin: str) -> None:
    alice = await house.create_user()
    headers = await sign_in(house.services, alice, "jwt" if origin == "personal" else origin)
    if origin == "personal":
        made = await house.post("/me/tokens", json={"name": "script"}, headers=headers)
        headers = bearer(made.json()["access_token"])
    body = {"kind": "jwt", "audience": OTHER}
    ended, kept = [
        (await house.post("/me/tokens", json=body, headers=headers)).json()["access_token"]
        for _ in range(2)
    ]
    states = house.services.token_states
    for _ in range(2):
        await revoke(house, ended)
        assert await states.introspect(ended) is None
        assert await states.introspect(kept) is not None
        assert (await house.get("/me", headers=headers)).status_code == 200
    # Nor can it be used to log out, or as the credential beside another token.
    problem(await house.post("/logout", headers=bearer(kept)), 401, "unauthenticated")
    problem(await house.delete("/me", headers=bearer(kept)), 401, "unauthenticated")
    assert (await house.get("/me", headers=headers)).status_code == 200
    assert await events_of(house, alice, "logout", "token_ended") == [("token_ended", "jwt")]


async def test_many_ended_jwts_are_forgotten_when_they_expire(
    small: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.services.tokens.exchanged._MOST", 2)
    headers = await sign_in(small.services, await small.create_user())

    async def ended() -> httpx.Response:
        body = {"kind": "jwt", "audience": OTHER}
        made = await small.post("/me/tokens", json=body, headers=headers)
        return await small.post("/token/revoke", data={"token": made.json()["access_token"]})

    gone(await ended())
    gone(await ended())
    refused = await ended()
    problem(refused, 503, "overloaded")
    assert refused.headers["retry-after"]
    with time_machine.travel(now() + timedelta(hours=1), tick=True):
        gone(await ended())
        async with small.services.database.read() as store:
            rows = await store.connection.execute(sa.select(sessions.c.ended_jwts))
        assert [len(row) for row in rows.scalars()] == [1]


async def test_a_page_of_another_origin_ends_nothing_with_our_cookie(small: Client) -> None:
    alice = await tokens_of(small, await small.create_user())
    headers = await sign_in(small.services, alice.user) | {"sec-fetch-site": "cross-site"}
    answer = await small.post("/token/revoke", data={"token": alice.jwt}, headers=headers)
    problem(answer, 403, "foreign_origin")
    assert await alive(small, alice) == set(KINDS)


async def test_what_is_no_token_gets_the_same_answer(small: Client) -> None:
    held = await tokens_of(small, await small.create_user())
    head, claims, signature = held.jwt.split(".")
    last = "A" if signature[0] != "A" else "B"
    for text in (
        new_opaque_token(),
        new_refresh_token().text,
        held.opaque[:-1],
        held.refresh.swapcase(),
        f"{head}.{claims}.{last}{signature[1:]}",
        f"{head}.{claims}.",
        await minted(small.services, held.jwt, "https://nobody.example"),
        "x",
    ):
        await revoke(small, text)
    assert await alive(small, held) == set(KINDS)


@few
@given(text=GARBAGE)
async def test_garbage_is_no_failure(api: Client, text: str) -> None:
    gone(await api.post("/token/revoke", data={"token": text}))


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
async def test_a_request_that_names_no_token_is_told(api: Client, form: str) -> None:
    answer = await api.post("/token/revoke", content=form.encode(), headers=FORM)
    body = problem(answer, 400, "invalid_request")
    assert body["error"] == "invalid_request"


async def test_only_a_form_is_read(api: Client) -> None:
    answer = await api.post("/token/revoke", json={"token": "x"})
    problem(answer, 415, "unsupported_media_type")
    problem(await api.get("/token/revoke"), 405, "method_not_allowed")
    content = json.dumps({"token": "x"})
    problem(await api.post("/token/revoke", content=content), 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_database_nobody_is_told_that_a_token_is_over(
    small: Client, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await tokens_of(small, await small.create_user())

    def away() -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(small.services.database, "read", away)
        answer = await small.post("/token/revoke", data={"token": held.all()[kind]})
        problem(answer, 503, "database_unavailable")
    with monkeypatch.context() as patch:
        patch.setattr(small.services.database, "transaction", away)
        answer = await small.post("/token/revoke", data={"token": held.all()[kind]})
        problem(answer, 503, "database_unavailable")
    assert await alive(small, held) == set(KINDS)
