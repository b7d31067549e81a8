"""Authlib, PyJWT and joserfc with a running service."""

from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from authlib.integrations.requests_client import OAuth2Session  # type: ignore[import-untyped]  # it has no types
from authlib.oauth2.rfc6750.errors import (  # type: ignore[import-untyped]  # it has no types
    InsufficientScopeError,
    InvalidTokenError,
)
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata  # type: ignore[import-untyped]  # it has no types
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator  # type: ignore[import-untyped]  # it has no types
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from tests.interop.conftest import Gateway, Served
from tests.interop.table import does

Claims = dict[str, Any]


@does("PyJWT", "verify ES256", "verify RS256", "after a rotation")
def test_pyjwt_verifies_from_published_keys(served: Served, rotation: tuple[str, str]) -> None:
    client = jwt.PyJWKClient(served.metadata()["jwks_uri"])
    reads = counted(client)

    def verify(token: str) -> Claims:
        key = client.get_signing_key_from_jwt(token)
        assert jwt.get_unverified_header(token)["alg"] == served.algorithm
        found: Claims = jwt.decode(
            token, key, algorithms=[served.algorithm], audience="authapi", issuer=served.url
        )
        return found

    check_all(verify, served, rotation)
    # The key that signs now was published before, so PyJWT did not read the keys again.
    assert len(reads) == 1


@does("joserfc", "verify ES256", "verify RS256", "after a rotation")
def test_joserfc_verifies_from_the_published_keys(
    served: Served, rotation: tuple[str, str]
) -> None:
    keys = KeySet.import_key_set(httpx.get(served.metadata()["jwks_uri"]).json())
    registry = joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": served.url}, aud={"essential": True, "value": "authapi"}
    )

    def verify(token: str) -> Claims:
        found = joserfc_jwt.decode(token, keys, algorithms=[served.algorithm])
        assert found.header["typ"] == "at+jwt"
        registry.validate(found.claims)
        return found.claims

    check_all(verify, served, rotation)


@pytest.fixture(scope="module")
def rotation(served: Served) -> tuple[str, str]:
    """Returns a JWT from before a key rotation, and one from after it."""
    before, after = served.login()["access_token"], served.rotated()
    kids = [jwt.get_unverified_header(token)["kid"] for token in (before, after)]
    assert kids[0] != kids[1]
    for token in (before, after):
        me = httpx.get(f"{served.url}/me", headers={"authorization": f"Bearer {token}"})
        assert me.status_code == 200
    return before, after


def check_all(verify: Callable[[str], Claims], served: Served, rotation: tuple[str, str]) -> None:
    """Checks that both tokens are valid, and that a modified one is not."""
    before, after = rotation
    for token in rotation:
        claims = verify(token)
        assert (claims["iss"], claims["aud"]) == (served.url, "authapi")
    forged = f"{after.rpartition('.')[0]}.{before.rpartition('.')[2]}"
    with pytest.raises(Exception, match=r"(?i)signature"):
        verify(forged)


def counted(client: jwt.PyJWKClient) -> list[str]:
    """Records each read of the keys by PyJWT."""
    seen: list[str] = []
    fetch = client.fetch_data

    def fetch_data() -> Any:
        seen.append(client.uri)
        return fetch()

    client.fetch_data = fetch_data  # type: ignore[method-assign]  # only looked at
    return seen


class Validator(JWTBearerTokenValidator):  # type: ignore[misc]  # it has no types
    """The RFC 9068 validator of Authlib, with the published keys."""

    def __init__(self, served: Served) -> None:
        super().__init__(issuer=served.url, resource_server="authapi")
        self.keys = httpx.get(served.metadata()["jwks_uri"]).json()

    def get_jwks(self) -> Any:
        """Returns the keys in the form that Authlib expects."""
        return KeySet.import_key_set(self.keys)


@does("Authlib", "verify ES256", "verify RS256", "after a rotation")
def test_authlib_validates_access_tokens_by_rfc_9068(
    served: Served, rotation: tuple[str, str]
) -> None:
    validator = Validator(served)
    for token in rotation:
        claims = validator.authenticate_token(token)
        validator.validate_token(claims, ["reports:read"], request=None)
        assert claims["client_id"] == "authapi"
        with pytest.raises(InsufficientScopeError):
            validator.validate_token(claims, ["reports:write"], request=None)
    before, after = rotation
    forged = f"{after.rpartition('.')[0]}.{before.rpartition('.')[2]}"
    with pytest.raises(InvalidTokenError):
        validator.validate_token(validator.authenticate_token(forged), [], request=None)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@does("Authlib", "introspect")
def test_authlib_introspects_as_a_client(
    served: Served, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # no https on loopback
    token = served.login()["access_token"]
    for secret, status in ((gateway.secret, 200), ("wrong", 401)):
        with OAuth2Session(gateway.id, secret, token_endpoint_auth_method=method) as client:
            answer = client.introspect_token(served.metadata()["introspection_endpoint"], token)
        assert answer.status_code == status
        if status == 200:
            assert (answer.json()["active"], answer.json()["client_id"]) == (True, "authapi")
        else:
            assert answer.json()["error"] == "invalid_client"


@does("Authlib", "metadata", "refresh", "revoke", "introspect")
def test_authlib_refreshes_revokes_and_introspects(
    served: Served, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")  # no https on loopback
    told = served.login()
    with OAuth2Session("any", token_endpoint_auth_method="none", token=token_of(told)) as client:
        url = f"{served.url}/.well-known/oauth-authorization-server"
        metadata = AuthorizationServerMetadata(
            client.request("GET", url, withhold_token=True).json()
        )
        check(metadata)
        assert metadata.issuer == served.url

        first = told["refresh_token"]
        renewed = client.refresh_token(metadata.token_endpoint)
        assert renewed["refresh_token"] not in (None, first)
        assert client.get(f"{served.url}/me").status_code == 200

        bearer = {"access_token": gateway.secret, "token_type": "bearer"}
        with OAuth2Session(token=bearer) as inspector:

            def introspect(token: str) -> Claims:
                answer = inspector.introspect_token(
                    metadata.introspection_endpoint, token, auth=inspector.token_auth
                )
                assert answer.status_code == 200
                found: Claims = answer.json()
                return found

            active = introspect(renewed["access_token"])
            assert active["active"] is True
            assert active["scope"] == "reports:read"
            assert introspect(renewed["refresh_token"])["token_type"] == "refresh_token"
            answer = client.revoke_token(
                metadata.revocation_endpoint,
                renewed["refresh_token"],
                token_type_hint="refresh_token",
            )
            assert (answer.status_code, answer.content) == (200, b"")
            for name in ("access_token", "refresh_token"):
                assert introspect(renewed[name]) == {"active": False}
        assert client.get(f"{served.url}/me").status_code == 401


def token_of(told: dict[str, str]) -> Claims:
    """Returns the members of a login response that a client keeps."""
    names = ("access_token", "token_type", "expires_in", "refresh_token")
    return {name: told[name] for name in names}


def check(metadata: AuthorizationServerMetadata) -> None:
    """Runs all metadata checks of Authlib, except that a response type is required."""
    refused = []
    for key in metadata.REGISTRY_KEYS:
        try:
            getattr(metadata, f"validate_{key}")()
        except ValueError as error:
            refused.append(str(error))
    assert refused == ['"response_types_supported" is required']
    assert metadata["response_types_supported"] == []
