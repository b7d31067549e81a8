"""Credentials with more than one encoding, as SECURITY.md describes them."""

from pathlib import Path

import pytest

from authapi.testing import Client
from tests.crypto.forgery import twin_of
from tests.web.logins import sign_in
from tests.web.tokens import bearer, login

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_security_md_describes_both_signatures() -> None:
    text = " ".join(SECURITY.read_text(encoding="utf-8").split())
    assert "An ECDSA signature has a second value that verifies as well (n - s)" in text
    assert "tokens are ended by the session that they name, not by their text" in text


async def status_of(api: Client, token: str) -> int:
    return (await api.get("/me", headers=bearer(token))).status_code


@pytest.mark.parametrize("end", ["logout", "revocation"])
@pytest.mark.parametrize("presented", ["the token", "its twin"])
async def test_both_signatures_of_a_jwt_end_together(api: Client, end: str, presented: str) -> None:
    token = (await login(api, await api.create_user(), "jwt"))["access_token"]
    twin = twin_of(token)
    for _ in range(2):  # the second time from the cache
        assert [await status_of(api, token), await status_of(api, twin)] == [200, 200]
    shown = token if presented == "the token" else twin
    if end == "logout":
        answer = await api.post("/logout", headers=bearer(shown))
    else:
        answer = await api.post("/token/revoke", data={"token": shown})
    assert answer.is_success
    assert [await status_of(api, token), await status_of(api, twin)] == [401, 401]


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_token_has_one_encoding(api: Client, kind: str) -> None:
    user = await api.create_user()
    found = await login(api, user, "token" if kind == "access_token" else "jwt")
    token = found[kind]
    for other in (
        *(token + "=", token + "A", token[:-1], token.swapcase(), token.upper()),
        *(token.translate(str.maketrans("-_", "+/")) + "=", f'"{token}"', f"%{ord(token[0]):x}"),
        *(token[:-1] + last for last in ALPHABET if last != token[-1]),
    ):
        if kind == "access_token":
            assert await status_of(api, other) == 401, other
        else:
            form = {"grant_type": "refresh_token", "refresh_token": other}
            assert (await api.post("/token", data=form)).status_code == 400, other
    if kind == "access_token":
        assert await status_of(api, token) == 200
    else:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        assert (await api.post("/token", data=form)).status_code == 200


async def test_cookie_has_one_encoding(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user())
    name, _, secret = headers["cookie"].partition("=")

    async def answered(cookie: str) -> int:
        return (await api.get("/me", headers={"cookie": cookie})).status_code

    for other in (
        *(f'{name}="{secret}"', f"{name}={secret}=", f"{name.upper()}={secret}"),
        *(f"{name}=%{ord(secret[0]):x}{secret[1:]}", f"{name}={secret.swapcase()}"),
        *(f"{name}={secret}; {name}={secret}", f"{name}=; {name}={secret}"),
        *(f"{name}={secret[:-1]}{last}" for last in ALPHABET if last != secret[-1]),
    ):
        assert await answered(other) == 401, other
    assert await answered(headers["cookie"]) == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_authentication_scheme_is_case_insensitive(api: Client, scheme: str) -> None:
    # RFC 9110, section 11.1: the scheme is case-insensitive, so both spellings are accepted.
    token = (await login(api, await api.create_user(), "token"))["access_token"]
    answer = await api.get("/me", headers={"authorization": f"{scheme} {token}"})
    assert answer.status_code == 200
