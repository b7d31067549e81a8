"""Each kind of token is accepted in its own place only (row 14)."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from authapi import create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.tokens import OTHER, Held, bearer, tokens_of

DEAD = {"active": False}
PLACES: dict[str, tuple[str, str]] = {
    "bearer": ("GET", "/me"),
    "bearer that ends": ("POST", "/logout"),
    "bearer that lists": ("GET", "/me/tokens"),
    "bearer that asks": ("POST", "/token/introspect"),
    "bearer that revokes": ("POST", "/token/revoke"),
}
MANAGES = {"jwt"}
"""The kinds that may list tokens: none that is meant for programs."""


@pytest.fixture
async def harness(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """A client of a service that issues JWTs for another service."""
    async with client(create_app(make_settings(jwt_audiences=(OTHER,)))) as api:
        yield api


async def fresh(api: Client, kind: str, root: bool = False) -> tuple[Held, str]:
    """Returns the tokens of a new account, and its token of this kind."""
    held = await tokens_of(api, await api.create_user(is_superuser=root))
    session = (await sign_in(api.services, held.user))["cookie"].partition("=")[2]
    return held, {**held.all(), "cookie": session, "user id": str(held.user.id)}[kind]


KINDS = ("jwt", "refresh", "opaque", "personal", "minted", "cookie", "user id")
ACCESS = {"jwt", "opaque", "personal"}


@pytest.mark.parametrize("kind", KINDS)
async def test_row_14_only_access_tokens_are_bearer_tokens(harness: Client, kind: str) -> None:
    for place, (method, path) in PLACES.items():
        _, text = await fresh(harness, kind, root=True)
        form = {"token": "x"} if path.startswith("/token") else None
        answer = await harness.request(method, path, data=form, headers=bearer(text))
        # The token to revoke is in the body, so an invalid credential is ignored.
        revokes = place == "bearer that revokes"
        good = revokes or kind in (MANAGES if place == "bearer that lists" else ACCESS)
        assert (answer.status_code < 300) is good, (place, answer.text)
        assert good or answer.status_code == 401, place


async def as_cookie(api: Client, text: str) -> httpx.Response:
    return await api.get("/me", headers={"cookie": f"authapi={text}"})


async def as_refresh_token(api: Client, text: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": text}
    return await api.post("/token", data=form)


async def as_password(api: Client, text: str) -> httpx.Response:
    form = {"grant_type": "password", "username": "alice@example.com", "password": text}
    return await api.post("/token", data=form)


async def in_the_query(api: Client, text: str) -> httpx.Response:
    return await api.get("/me", params={"access_token": text})


async def in_the_form(api: Client, text: str) -> httpx.Response:
    return await api.post("/token/introspect", data={"token": "x", "access_token": text})


@pytest.mark.parametrize(
    ("present", "good", "refused"),
    [
        (as_cookie, {"cookie"}, 401),
        (as_refresh_token, {"refresh"}, 400),
        (as_password, set[str](), 400),
        # RFC 6750, sections 2.2 and 2.3: logs may record it there, or a page may forge it.
        (in_the_query, set[str](), 401),
        (in_the_form, set[str](), 401),
    ],
)
async def test_row_14_tokens_are_refused_in_other_places(
    harness: Client,
    present: Callable[[Client, str], Awaitable[httpx.Response]],
    good: set[str],
    refused: int,
) -> None:
    for kind in KINDS:
        _, text = await fresh(harness, kind, root=True)
        answer = await present(harness, text)
        assert answer.status_code == (200 if kind in good else refused), kind
        if refused == 400 and kind not in good:
            assert answer.json()["error"] == "invalid_grant", kind


async def test_row_14_other_credentials_are_not_introspected_or_revoked(harness: Client) -> None:
    root, _ = await fresh(harness, "jwt", root=True)
    headers = bearer(root.jwt)
    for kind in KINDS:
        held, text = await fresh(harness, kind)
        cookie = await sign_in(harness.services, held.user)
        answer = await harness.post("/token/introspect", data={"token": text}, headers=headers)
        is_token = kind not in ("cookie", "user id")
        assert answer.json()["active"] is is_token, kind
        assert is_token or answer.json() == DEAD
        before = await harness.services.sessions.list_for_user(held.user.id)
        assert (await harness.post("/token/revoke", data={"token": text})).status_code == 200
        after = await harness.services.sessions.list_for_user(held.user.id)
        ended = 1 if is_token and kind not in ("personal", "minted") else 0
        assert len(before) - len(after) == ended, kind
        assert (await harness.get("/me", headers=cookie)).status_code == 200, kind


async def test_row_14_refresh_token_is_only_in_its_own_response(harness: Client) -> None:
    held, _ = await fresh(harness, "jwt")
    headers = bearer(held.jwt)
    paths = ("/me", "/me/identity", "/me/sessions", "/me/tokens", "/me/events")
    for path in paths:
        assert "art_" not in (await harness.get(path, headers=headers)).text
