"""/.well-known: the JWK set, and OAuth metadata."""

from collections.abc import Collection

import jwt
import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.strategies.token import TokenStrategy
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.responses import check_headers

CACHE = "public, max-age=300"
ISSUER = "http://127.0.0.1:8000"
SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"


class TrustingStrategy(TokenStrategy):
    """A strategy that accepts tokens of another issuer."""

    name = "trusting"
    authorization_server = "https://issuer.example"


async def metadata_of(
    path: str, settings: Settings, include: Collection[str] | None = None, title: str = "Reports"
) -> dict[str, object]:
    """The metadata at `path` of an application with some of the routes."""
    auth = AuthAPI(settings)
    app = FastAPI(title=title, lifespan=auth.lifespan, docs_url=None)
    auth.install(app, include=include)
    async with client(app) as api:
        answer = await api.get(path)
        assert answer.status_code == 200
        check_headers(answer, cache_control=CACHE)
        found: dict[str, object] = answer.json()
        return found


async def test_jwks_contains_only_public_members(api: Client) -> None:
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


async def test_jwks_verifies_issued_tokens(api: Client) -> None:
    alice = await api.create_user()
    token = (await sign_in(api.services, alice, "jwt"))["authorization"].removeprefix("Bearer ")
    keys = jwt.PyJWKSet.from_dict((await api.get("/.well-known/jwks.json")).json())
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(
        token, key, algorithms=["ES256"], audience="authapi", issuer="http://127.0.0.1:8000"
    )
    assert claims["sub"] == str(alice.id)


async def test_unchanged_jwks_is_a_304(api: Client) -> None:
    etag = (await api.get("/.well-known/jwks.json")).headers["etag"]
    response = await api.get("/.well-known/jwks.json", headers={"if-none-match": etag})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["etag"] == etag
    check_headers(response, cache_control=CACHE)


async def test_next_current_and_former_keys_are_published(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    keys = api_on_each.services.keys
    tokens, etags = [], []
    for _ in range(3):
        header = (await sign_in(api_on_each.services, alice, "jwt"))["authorization"]
        tokens.append(header.removeprefix("Bearer "))
        etags.append((await api_on_each.get("/.well-known/jwks.json")).headers["etag"])
        await keys.rotate(early=True)
    assert len(set(etags)) == 3, "a rotation changes the JWK set"
    published = (await api_on_each.get("/.well-known/jwks.json")).json()["keys"]
    async with api_on_each.services.database.read() as store:
        stored = await store.signing_keys.all()
    states = {key.kid: key.state.value for key in stored}
    assert sorted(states.values()) == ["active", "next", "retired", "retired", "retired"]
    assert {key["kid"] for key in published} == states.keys()
    for key in published:
        assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    found = jwt.PyJWKSet.from_dict({"keys": published})
    for token in tokens:
        kid = jwt.get_unverified_header(token)["kid"]
        assert states[kid] == "retired"
        jwt.decode(token, found[kid], algorithms=["ES256"], audience="authapi", issuer=ISSUER)
    # A key that is retired at once is removed at once.
    await keys.lifecycle.retire(jwt.get_unverified_header(tokens[0])["kid"])
    left = (await api_on_each.get("/.well-known/jwks.json")).json()["keys"]
    assert {key["kid"] for key in left} == states.keys() - {
        jwt.get_unverified_header(tokens[0])["kid"]
    }


async def test_rsa_keys_have_only_public_members(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(jwt_algorithm="RS256"))) as api:
        for key in (await api.get("/.well-known/jwks.json")).json()["keys"]:
            assert key.keys() == {"kty", "n", "e", "kid", "alg", "use"}
            assert (key["kty"], key["e"], key["alg"]) == ("RSA", "AQAB", "RS256")


# RFC 8414


async def test_authorization_server_metadata_is_complete(api: Client) -> None:
    answer = await api.get(SERVER)
    assert answer.status_code == 200
    check_headers(answer, cache_control=CACHE)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "token_endpoint": f"{ISSUER}/token",
        "token_endpoint_auth_methods_supported": ["none"],
        "grant_types_supported": ["refresh_token", "password"],
        "response_types_supported": [],
        "revocation_endpoint": f"{ISSUER}/token/revoke",
        "revocation_endpoint_auth_methods_supported": ["none"],
        "introspection_endpoint": f"{ISSUER}/token/introspect",
        "introspection_endpoint_auth_methods_supported": [
            *("client_secret_basic", "client_secret_post", "Bearer"),
        ],
        "scopes_supported": ["introspect"],
        "service_documentation": f"{ISSUER}/docs",
    }
    for name, url in answer.json().items():
        if name.endswith(("_endpoint", "_uri", "_documentation")):
            assert (await api.get(url)).status_code in (200, 405), name


async def test_authorization_server_metadata_omits_missing_endpoints(
    make_settings: SettingsFactory,
) -> None:
    assert await metadata_of(SERVER, make_settings(docs=False), include=["well_known"]) == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "grant_types_supported": [],
        "response_types_supported": [],
    }
    without_docs = await metadata_of(SERVER, make_settings(docs=False))
    assert without_docs["grant_types_supported"] == ["refresh_token"]
    assert "service_documentation" not in without_docs
    without_jwt = await metadata_of(SERVER, make_settings(strategies=("session",)))
    assert without_jwt["grant_types_supported"] == []
    assert without_jwt.keys().isdisjoint(
        {"token_endpoint", "introspection_endpoint_auth_methods_supported"}
    )
    public = make_settings(
        public_url="https://auth.example.com/base", scopes={"reports:read": "Read reports"}
    )
    public_metadata = await metadata_of(SERVER, public)
    assert public_metadata["issuer"] == "https://auth.example.com/base"
    assert public_metadata["revocation_endpoint"] == "https://auth.example.com/base/token/revoke"
    assert public_metadata["scopes_supported"] == ["introspect", "reports:read"]


# RFC 9728


async def test_resource_metadata_names_the_authorization_server(api: Client) -> None:
    answer = await api.get(RESOURCE)
    assert answer.status_code == 200
    check_headers(answer, cache_control=CACHE)
    assert answer.json() == {
        "resource": ISSUER,
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["introspect"],
        "resource_name": "authapi",
        "resource_documentation": f"{ISSUER}/docs",
    }


async def test_resource_metadata_names_trusted_issuers(
    make_settings: SettingsFactory,
) -> None:
    name = f"{__name__}:TrustingStrategy"
    alone = make_settings(strategies=("session", name), docs=False)
    assert (await metadata_of(RESOURCE, alone))["authorization_servers"] == [
        "https://issuer.example"
    ]
    both = await metadata_of(RESOURCE, make_settings(strategies=("session", name, "token", "jwt")))
    assert both["authorization_servers"] == ["https://issuer.example", ISSUER]


async def test_without_bearer_tokens_there_is_no_authorization_server(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(strategies=("session",), docs=False)
    assert await metadata_of(RESOURCE, settings, include=["well_known", "me"]) == {
        "resource": ISSUER,
        "bearer_methods_supported": [],
        "resource_name": "Reports",
    }


async def test_challenges_link_to_the_resource_metadata(make_settings: SettingsFactory) -> None:
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        [bearer, cookie] = (await api.get("/me")).headers.get_list("www-authenticate")
        parameters = dict(part.split("=") for part in bearer.removeprefix("Bearer ").split(", "))
        url = parameters["resource_metadata"].strip('"')
        assert url == "https://auth.example.com/.well-known/oauth-protected-resource"
        # RFC 9728, section 3.3: `resource` must match the URL that the metadata belongs to.
        assert (await api.get(url)).json()["resource"] == "https://auth.example.com"
        assert "resource_metadata" not in cookie


async def test_challenges_have_no_link_without_metadata(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["me", "login"])
    async with client(app) as api:
        for answer in (await api.get("/me"), await api.post("/login", json=WRONG)):
            assert 'Bearer realm="authapi"' in answer.headers.get_list("www-authenticate")


WRONG = {"email": "alice@example.com", "password": "wrong password"}


@pytest.mark.parametrize("path", [SERVER, RESOURCE])
async def test_unchanged_metadata_is_a_304(api: Client, path: str) -> None:
    etag = (await api.get(path)).headers["etag"]
    answer = await api.get(path, headers={"if-none-match": etag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    check_headers(answer, cache_control=CACHE)


@pytest.mark.parametrize(
    "path", ["/.well-known/jwks.json", SERVER, RESOURCE, "/health/live", "/health/ready"]
)
async def test_invalid_credentials_are_ignored_by_public_routes(api: Client, path: str) -> None:
    headers = {"authorization": "Bearer x", "cookie": "authapi=x; authapi=y"}
    assert (await api.get(path, headers=headers)).status_code == 200
