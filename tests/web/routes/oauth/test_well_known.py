"""/.well-known: our keys, and what we tell of ourselves."""

from collections.abc import Collection

import jwt
import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.strategies.token import TokenStrategy
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.answers import check_headers
from tests.web.logins import sign_in

CACHE = "public, max-age=300"
ISSUER = "http://127.0.0.1:8000"
SERVER = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"


class TrustingStrategy(TokenStrategy):
    """A strategy that takes the tokens of somebody else."""

    name = "trusting"
    authorization_server = "https://issuer.example"


async def told(
    path: str, settings: Settings, include: Collection[str] | None = None, title: str = "Reports"
) -> dict[str, object]:
    """What an application says of itself at `path` that has only some of the routes."""
    auth = AuthAPI(settings)
    app = FastAPI(title=title, lifespan=auth.lifespan, docs_url=None)
    auth.install(app, include=include)
    async with client(app) as api:
        answer = await api.get(path)
        assert answer.status_code == 200
        check_headers(answer, cache_control=CACHE)
        found: dict[str, object] = answer.json()
        return found


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


async def test_keys_that_wait_sign_and_did_are_all_published(api_on_each: Client) -> None:
    alice = await api_on_each.create_user()
    keys = api_on_each.services.keys
    tokens, etags = [], []
    for _ in range(3):
        header = (await sign_in(api_on_each.services, alice, "jwt"))["authorization"]
        tokens.append(header.removeprefix("Bearer "))
        etags.append((await api_on_each.get("/.well-known/jwks.json")).headers["etag"])
        await keys.rotate(early=True)
    assert len(set(etags)) == 3, "a change is a change"
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
    # One that is ended at once is gone from here at once.
    await keys.lifecycle.retire(jwt.get_unverified_header(tokens[0])["kid"])
    left = (await api_on_each.get("/.well-known/jwks.json")).json()["keys"]
    assert {key["kid"] for key in left} == states.keys() - {
        jwt.get_unverified_header(tokens[0])["kid"]
    }


async def test_keys_of_rsa_are_published_with_public_members_only(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(jwt_algorithm="RS256"))) as api:
        for key in (await api.get("/.well-known/jwks.json")).json()["keys"]:
            assert key.keys() == {"kty", "n", "e", "kid", "alg", "use"}
            assert (key["kty"], key["e"], key["alg"]) == ("RSA", "AQAB", "RS256")


# RFC 8414


async def test_the_authorization_server_says_what_it_has(api: Client) -> None:
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


async def test_it_says_nothing_that_is_not_there(make_settings: SettingsFactory) -> None:
    assert await told(SERVER, make_settings(docs=False), include=["well_known"]) == {
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "grant_types_supported": [],
        "response_types_supported": [],
    }
    without_docs = await told(SERVER, make_settings(docs=False))
    assert without_docs["grant_types_supported"] == ["refresh_token"]
    assert "service_documentation" not in without_docs
    without_jwt = await told(SERVER, make_settings(strategies=("session",)))
    assert without_jwt["grant_types_supported"] == []
    assert without_jwt.keys().isdisjoint(
        {"token_endpoint", "introspection_endpoint_auth_methods_supported"}
    )
    public = make_settings(
        public_url="https://auth.example.com/base", scopes={"reports:read": "Read reports"}
    )
    named = await told(SERVER, public)
    assert named["issuer"] == "https://auth.example.com/base"
    assert named["revocation_endpoint"] == "https://auth.example.com/base/token/revoke"
    assert named["scopes_supported"] == ["introspect", "reports:read"]


# RFC 9728


async def test_the_resource_says_who_gives_its_tokens(api: Client) -> None:
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


async def test_a_strategy_that_trusts_somebody_else_names_them(
    make_settings: SettingsFactory,
) -> None:
    name = f"{__name__}:TrustingStrategy"
    alone = make_settings(strategies=("session", name), docs=False)
    assert (await told(RESOURCE, alone))["authorization_servers"] == ["https://issuer.example"]
    both = await told(RESOURCE, make_settings(strategies=("session", name, "token", "jwt")))
    assert both["authorization_servers"] == ["https://issuer.example", ISSUER]


async def test_without_bearer_tokens_nobody_gives_any(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies=("session",), docs=False)
    assert await told(RESOURCE, settings, include=["well_known", "me"]) == {
        "resource": ISSUER,
        "bearer_methods_supported": [],
        "resource_name": "Reports",
    }


async def test_challenges_lead_to_it(make_settings: SettingsFactory) -> None:
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        [bearer, cookie] = (await api.get("/me")).headers.get_list("www-authenticate")
        parameters = dict(part.split("=") for part in bearer.removeprefix("Bearer ").split(", "))
        url = parameters["resource_metadata"].strip('"')
        assert url == "https://auth.example.com/.well-known/oauth-protected-resource"
        # RFC 9728, section 3.3: what is found there must be about where it was found.
        assert (await api.get(url)).json()["resource"] == "https://auth.example.com"
        assert "resource_metadata" not in cookie


async def test_challenges_lead_nowhere_where_there_is_nothing(
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
async def test_unchanged_metadata_are_not_sent_again(api: Client, path: str) -> None:
    etag = (await api.get(path)).headers["etag"]
    answer = await api.get(path, headers={"if-none-match": etag})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    check_headers(answer, cache_control=CACHE)


@pytest.mark.parametrize(
    "path", ["/.well-known/jwks.json", SERVER, RESOURCE, "/health/live", "/health/ready"]
)
async def test_a_bad_credential_does_not_close_what_is_public(api: Client, path: str) -> None:
    headers = {"authorization": "Bearer x", "cookie": "authapi=x; authapi=y"}
    assert (await api.get(path, headers=headers)).status_code == 200
