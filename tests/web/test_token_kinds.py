"""Each token is good where it belongs, and nowhere else: every kind at every place (row 14)."""

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
"""Who may list tokens: no token that was made for a program."""


@pytest.fixture
async def house(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """With another service that JWTs are minted for."""
    async with client(create_app(make_settings(jwt_audiences=(OTHER,)))) as api:
        yield api


async def fresh(api: Client, kind: str, root: bool = False) -> tuple[Held, str]:
    """The tokens of a new account, and the one of this kind."""
    held = await tokens_of(api, await api.create_user(is_superuser=root))
    session = (await sign_in(api.services, held.user))["cookie"].partition("=")[2]
    return held, {**held.all(), "cookie": session, "user id": str(held.user.id)}[kind]


KINDS = ("jwt", "refresh", "opaque", "personal", "minted", "cookie", "user id")
ACCESS = {"jwt", "opaque", "personal"}


@pytest.mark.parametrize("kind", KINDS)
async def test_row_14_a_token_as_bearer(house: Client, kind: str) -> None:
    for place, (method, path) in PLACES.items():
        _, text = await fresh(house, kind, root=True)
        form = {"token": "x"} if path.startswith("/token") else None
        answer = await house.request(method, path, data=form, headers=bearer(text))
        # What is revoked is in the body: a credential that is none is passed over.
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
        # RFC 6750, section 2.2 and 2.3: where it would be written down, or may be forged.
        (in_the_query, set[str](), 401),
        (in_the_form, set[str](), 401),
    ],
)
async def test_row_14_a_token_in_another_place(
    house: Client,
    present: Callable[[Client, str], Awaitable[httpx.Response]],
    good: set[str],
    refused: int,
) -> None:
    for kind in KINDS:
        _, text = await fresh(house, kind, root=True)
        answer = await present(house, text)
        assert answer.status_code == (200 if kind in good else refused), kind
        if refused == 400 and kind not in good:
            assert answer.json()["error"] == "invalid_grant", kind


async def test_row_14_what_is_no_token_is_not_introspected_or_revoked(house: Client) -> None:
    root, _ = await fresh(house, "jwt", root=True)
    headers = bearer(root.jwt)
    for kind in KINDS:
        held, text = await fresh(house, kind)
        cookie = await sign_in(house.services, held.user)
        answer = await house.post("/token/introspect", data={"token": text}, headers=headers)
        is_token = kind not in ("cookie", "user id")
        assert answer.json()["active"] is is_token, kind
        assert is_token or answer.json() == DEAD
        before = await house.services.sessions.list_of(held.user.id)
        assert (await house.post("/token/revoke", data={"token": text})).status_code == 200
        after = await house.services.sessions.list_of(held.user.id)
        ended = 1 if is_token and kind not in ("personal", "minted") else 0
        assert len(before) - len(after) == ended, kind
        assert (await house.get("/me", headers=cookie)).status_code == 200, kind


async def test_row_14_a_refresh_token_is_in_no_answer_but_its_own(house: Client) -> None:
    held, _ = await fresh(house, "jwt")
    headers = bearer(held.jwt)
    paths = ("/me", "/me/identity", "/me/sessions", "/me/tokens", "/me/events")
    for path in paths:
        assert "art_" not in (await house.get(path, headers=headers)).text
