"""/.well-known/jwks.json."""

import jwt
import pytest

from authapi.testing import Client
from tests.web.answers import check_headers
from tests.web.logins import sign_in

CACHE = "public, max-age=300"


async def test_the_keys_are_public_and_nothing_else(api: Client) -> None:
    response = await api.get("/.well-known/jwks.json")
    assert response.status_code == 200
    check_headers(response, cache_control=CACHE)
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"keys"}
    active, waiting = response.json()["keys"]
    assert active["kid"] != waiting["kid"]
    for key in (active, waiting):
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")


async def test_the_keys_verify_what_we_sign(api: Client) -> None:
    alice = await api.create_user()
    token = (await sign_in(api.services, alice, "jwt"))["authorization"].removeprefix("Bearer ")
    keys = jwt.PyJWKSet.from_dict((await api.get("/.well-known/jwks.json")).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token, key, algorithms=["ES256"], audience="authapi", issuer="http://127.0.0.1:8000"
    )
    assert claims["sub"] == str(alice.id)


async def test_unchanged_keys_are_not_sent_again(api: Client) -> None:
    etag = (await api.get("/.well-known/jwks.json")).headers["etag"]
    response = await api.get("/.well-known/jwks.json", headers={"if-none-match": etag})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == etag
    check_headers(response, cache_control=CACHE)


@pytest.mark.parametrize("path", ["/.well-known/jwks.json", "/health/live", "/health/ready"])
async def test_a_bad_credential_does_not_close_what_is_public(api: Client, path: str) -> None:
    headers = {"authorization": "Bearer x", "cookie": "authapi=x; authapi=y"}
    assert (await api.get(path, headers=headers)).status_code == 200
