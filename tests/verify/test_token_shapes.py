"""Tokens in the form that providers document, and what the same options reject."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from authapi.verify import EdgeSettings, RemoteJWT, TokenPolicy
from tests.crypto.external_signers import public_jwk, signed
from tests.crypto.forgery import NOW, new_key
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import SUBJECT, Issuer


@dataclass(frozen=True)
class Provider:
    """The tokens of one provider, with the audience and the policy of `RemoteJWT` for them."""

    header: Mapping[str, object]
    claims: Mapping[str, object]
    options: Mapping[str, Any]
    algorithm: str = "RS256"
    jwk: Mapping[str, object] = field(default_factory=lambda: {"kid": "k1", "use": "sig"})
    scopes: frozenset[str] = frozenset()


# Headers and claims from the documentation of each provider, as of November 2026.
PROVIDERS = {
    "Auth0": Provider(
        {"typ": "JWT", "kid": "k1"},
        {
            "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
            "aud": ["https://orders.example", "https://tenant.auth0.example/userinfo"],
            "azp": "client-1",
            "scope": "openid profile",
            "permissions": ["orders:read"],
            "gty": "password",
        },
        {
            "audience": "https://orders.example",
            "types": ("at+jwt", "JWT"),
            "scope_claims": ("scope", "permissions"),
        },
        scopes=frozenset({"openid", "profile", "orders:read"}),
    ),
    "Clerk": Provider(
        {"typ": "JWT", "kid": "k1", "cat": "cl_B7d4PD111AAA"},
        {
            "azp": "https://shop.example",
            "nbf": NOW + 2,
            "sid": "sess_2abc",
            "fva": [0, -1],
            "v": 2,
            "sts": "active",
        },
        {"client_ids": ("https://shop.example",), "types": ("JWT",)},
    ),
    "Amazon Cognito": Provider(
        {"kid": "k1"},
        {
            "token_use": "access",
            "client_id": "client-1",
            "scope": "orders/read",
            "cognito:groups": ["staff"],
            "version": 2,
            "auth_time": NOW - 5,
        },
        {
            "client_ids": "client-1",
            "types": (None,),
            "required_claims": {"token_use": "access"},
            "scope_claims": ("scope", "cognito:groups"),
        },
        scopes=frozenset({"orders/read", "staff"}),
    ),
    "Microsoft Entra, version 2.0": Provider(
        {"typ": "JWT", "kid": "k1", "x5t": "k1", "nonce": "abc"},
        {
            "aud": "app-1",
            "azp": "client-1",
            "scp": "orders.read",
            "roles": ["ClaimsReader"],
            "tid": "11111111-2222-3333-4444-555555555555",
            "ver": "2.0",
            "nbf": NOW,
        },
        {"audience": "app-1", "types": ("JWT",), "scope_claims": ("scp", "roles")},
        jwk={"kid": "k1", "use": "sig", "x5t": "k1", "x5c": ["MII="]},
        scopes=frozenset({"orders.read", "ClaimsReader"}),
    ),
    "Microsoft Entra, version 1.0": Provider(
        {"typ": "JWT", "kid": "k1", "x5t": "k1"},
        {"aud": "api://app-1", "appid": "client-1", "scp": "orders.read", "ver": "1.0"},
        {
            "audience": "api://app-1",
            "client_ids": ("client-1",),
            "client_claims": ("appid",),
            "types": ("JWT",),
        },
        scopes=frozenset({"orders.read"}),
    ),
    "Firebase": Provider(
        {"typ": "JWT", "kid": "k1"},
        {
            "aud": "project-1",
            "auth_time": NOW - 5,
            "email": "a@example.com",
            "email_verified": True,
            "firebase": {"identities": {"email": ["a@example.com"]}, "sign_in_provider": "x"},
        },
        {"audience": "project-1", "types": ("JWT",)},
        jwk={"kid": "k1", "use": "sig", "alg": "RS256"},
    ),
    "Google": Provider(
        {"typ": "JWT", "kid": "k1"},
        {"aud": "client-1", "azp": "client-1", "email": "a@example.com", "email_verified": True},
        {"audience": "client-1", "client_ids": "client-1", "types": ("JWT",)},
    ),
    "Keycloak": Provider(
        {"typ": "JWT", "kid": "k1"},
        {
            "aud": ["orders", "account"],
            "typ": "Bearer",
            "azp": "shop",
            "scope": "openid",
            "realm_access": {"roles": ["staff"]},
            "resource_access": {"orders.api": {"roles": ["reader"]}},
            "allowed-origins": ["https://shop.example"],
        },
        {
            "audience": "orders",
            "types": ("JWT",),
            "required_claims": {"typ": "Bearer"},
            "scope_claims": (
                *("scope", "realm_access.roles", "resource_access.orders.api.roles"),
                "resource_access.other.roles",
            ),
        },
        "PS256",
        {"kid": "k1", "use": "sig", "alg": "PS256", "x5c": ["MII="]},
        frozenset({"openid", "staff", "reader"}),
    ),
    "Okta": Provider(
        {"kid": "k1"},
        {"aud": "api://default", "cid": "client-1", "uid": "u", "scp": ["orders"], "ver": 1},
        {
            "audience": "api://default",
            "client_ids": "client-1",
            "client_claims": ("cid",),
            "types": (None,),
        },
        scopes=frozenset({"orders"}),
    ),
    "Supabase": Provider(
        {"typ": "JWT", "kid": "k1"},
        {
            "aud": "authenticated",
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": NOW - 5}],
            "session_id": "0190c0de-0000-7000-8000-000000000001",
            "email": "",
            "phone": "",
            "is_anonymous": False,
            "app_metadata": {"provider": "email"},
        },
        {"audience": "authenticated", "types": ("JWT",), "scope_claims": ("role",)},
        "ES256",
        {"kid": "k1", "use": "sig", "alg": "ES256", "key_ops": ["verify"], "ext": True},
        frozenset({"authenticated"}),
    ),
    "better-auth": Provider(
        {"kid": "k1"},
        {"aud": "https://shop.example", "email": "a@example.com", "name": "A", "image": None},
        {"audience": "https://shop.example", "types": (None,)},
        "EdDSA",
        {"kid": "k1", "alg": "EdDSA"},
    ),
    "an issuer with roles under a URL": Provider(
        {"typ": "at+jwt"},
        {"aud": "orders", "https://example.com/roles": ["a"], "groups": "b c"},
        {"audience": "orders", "scope_claims": ("https://example.com/roles", "groups")},
        "ES384",
        {},
        frozenset({"a", "b", "c"}),
    ),
    "an issuer with RS384": Provider(
        {"typ": "application/AT+JWT", "kid": "k1", "cty": "JWT"},
        {"aud": "orders"},
        {"audience": "orders", "algorithms": ("RS384",)},
        "RS384",
    ),
}


def token(issuer: Issuer, provider: Provider, **changes: Any) -> str:
    claims = {"iss": issuer.url, "sub": SUBJECT, "iat": NOW, "exp": NOW + 600, **provider.claims}
    return signed(provider.algorithm, provider.header, {**claims, **changes})


def trusted(issuer: Issuer, options: Mapping[str, Any]) -> RemoteJWT:
    """Returns a strategy with the audience and the policy of these options."""
    policy = {name: value for name, value in options.items() if name != "audience"}
    return RemoteJWT(issuer.url, options.get("audience"), policy=TokenPolicy(**policy))


@pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS.keys())
async def test_access_token_of_each_provider_is_accepted(
    issuer: Issuer, clock: Clock, trusting: Open, provider: Provider
) -> None:
    issuer.publish(public_jwk(provider.algorithm, **provider.jwk))
    strategy = trusted(issuer, provider.options)
    async with trusting(strategy) as api:
        answer = await api.get("/who", headers=bearer(token(issuer, provider)))
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["scopes"]) == provider.scopes
        for changes in (
            {"iss": issuer.url + "/"},
            {"aud": "another"},
            {"aud": ["another"]},
            {"exp": NOW},
            {"nbf": NOW + 31},
            {"sub": None},
        ):
            bad = token(issuer, provider, **changes)
            assert (await api.get("/who", headers=bearer(bad))).status_code == 401, changes
        if "client_ids" in provider.options:
            for name in provider.options.get("client_claims", ("client_id", "azp")):
                bad = token(issuer, provider, **{name: "another"})
                assert (await api.get("/who", headers=bearer(bad))).status_code == 401, name
        for name in provider.options.get("required_claims", ()):
            bad = token(issuer, provider, **{name: "ID"})
            assert (await api.get("/who", headers=bearer(bad))).status_code == 401, name


async def test_id_token_of_cognito_is_rejected(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    provider = PROVIDERS["Amazon Cognito"]
    issuer.publish(public_jwk("RS256", kid="k1"))
    id_token = token(issuer, provider, token_use="id", aud="client-1", client_id="client-1")
    changed: list[dict[str, Any]] = [{}, {"required_claims": {}}]
    for changes in changed:
        strategy = trusted(issuer, {**provider.options, **changes})
        async with trusting(strategy) as api:
            assert (await api.get("/who", headers=bearer(id_token))).status_code == 401


async def test_other_algorithms_are_rejected(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    issuer.publish(public_jwk("RS256", kid="r"), public_jwk("ES384", kid="e"))
    claims = {"iss": issuer.url, "sub": "x", "aud": "orders", "iat": NOW, "exp": NOW + 600}
    policy = TokenPolicy(types=(None,), algorithms=("PS512", "ES384"))
    strategy = RemoteJWT(issuer.url, "orders", policy=policy)
    async with trusting(strategy) as api:
        for algorithm, kid, status in (
            *(("PS512", "r", 200), ("ES384", "e", 200), ("RS256", "r", 401), ("PS256", "r", 401)),
        ):
            answer = await api.get("/who", headers=bearer(signed(algorithm, {"kid": kid}, claims)))
            assert answer.status_code == status, algorithm


async def test_amr_with_objects(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    async with trusting() as api:
        for methods, seen in (
            ([{"method": "password", "timestamp": NOW}, {"method": "totp"}], ["password", "totp"]),
            (["pwd", {"method": "mfa"}], ["pwd", "mfa"]),
            ([{"provider": "x"}], ["unspecified"]),
            ([], []),
        ):
            made = issuer.token(auth_time=NOW, amr=methods)
            assert (await api.get("/who", headers=bearer(made))).json()["amr"] == seen
        wrong: list[object] = [[{"method": 7}], [None], [["pwd"]], "pwd", {"method": "pwd"}]
        for value in wrong:
            made = issuer.token(auth_time=NOW, amr=value)
            assert (await api.get("/who", headers=bearer(made))).status_code == 401, value


@pytest.mark.parametrize(
    ("path", "claims", "scopes"),
    [
        ("a.b", {"a": {"b": "x y"}}, {"x", "y"}),
        ("a.b", {"a.b": ["x"], "a": {"b": ["y"]}}, {"x"}),
        ("a.b.c", {"a.b": {"c": ["x"]}, "a": {"b": {"c": ["y"]}}}, {"x"}),
        ("a.b.c", {"a": {"b.c": ["x"]}}, {"x"}),
        ("https://example.com/roles", {"https://example.com/roles": ["x"]}, {"x"}),
        ("https://example.com/app.roles", {"https://example.com/app": {"roles": "x"}}, {"x"}),
        ("a.b", {"a": {}}, set()),
        ("a.b", {"a": None}, set()),
        ("a.b", {"a": {"b": None}}, set()),
        ("a.b", {"b": ["x"]}, set()),
        ("a..b", {"a": {"b": ["x"]}}, set()),
        (".a", {"a": ["x"]}, set()),
        ("a.", {"a": {"": ["x"]}}, {"x"}),
        ("a.b", {"a": "b"}, None),
        ("a.b", {"a": ["b"]}, None),
        ("a.b", {"a": {"b": {"c": 1}}}, None),
        ("a.b", {"a": {"b": [1]}}, None),
        ("a.b", {"a": {"b": True}}, None),
    ],
    ids=range(18),
)
async def test_scope_claim_paths(
    issuer: Issuer,
    clock: Clock,
    trusting: Open,
    path: str,
    claims: dict[str, Any],
    scopes: set[str] | None,
) -> None:
    strategy = RemoteJWT(issuer.url, "orders", policy=TokenPolicy(scope_claims=(path,)))
    async with trusting(strategy) as api:
        answer = await api.get("/who", headers=bearer(issuer.token(**claims)))
    assert answer.status_code == (401 if scopes is None else 200)
    assert scopes is None or set(answer.json()["scopes"]) == scopes


@pytest.mark.parametrize("kid", [{}, {"kid": "unpublished"}], ids=["unnamed", "named"])
async def test_keys_without_kid(
    issuer: Issuer, clock: Clock, trusting: Open, kid: dict[str, str]
) -> None:
    issuer.publish(public_jwk("EdDSA"), public_jwk("ES384"), public_jwk("RS256", alg="RS384"))
    claims = {"iss": issuer.url, "sub": "x", "aud": "orders", "iat": NOW, "exp": NOW + 600}
    header = {"typ": "at+jwt", **kid}
    async with trusting() as api:
        for algorithm in ("EdDSA", "ES384", "RS384"):
            made = signed(algorithm, header, claims)
            answer = await api.get("/who", headers=bearer(made))
            assert answer.status_code == (401 if kid else 200), algorithm
        for algorithm in ("RS256", "PS384", "ES256"):
            made = signed(algorithm, header, claims)
            assert (await api.get("/who", headers=bearer(made))).status_code == 401, algorithm


@pytest.mark.parametrize("before", ["ES384", "ES256"])
async def test_replaced_key_without_kid(
    issuer: Issuer, clock: Clock, trusting: Open, before: str
) -> None:
    old = new_key().verifying.jwk if before == "ES256" else public_jwk(before)
    issuer.publish({name: value for name, value in old.items() if name != "kid"})
    claims = {"iss": issuer.url, "sub": "x", "aud": "orders", "iat": NOW, "exp": NOW + 600}
    after = bearer(signed("ES256", {"typ": "at+jwt"}, claims))
    async with trusting() as api:
        assert (await api.get("/who", headers=after)).status_code == 401
        issuer.publish(public_jwk("ES256"))
        clock.move(10)
        assert (await api.get("/who", headers=after)).status_code == 200
    issuer.away()
    clock.move(10)
    async with trusting() as api:
        assert (await api.get("/who", headers=after)).status_code == 503
        none = bearer(signed("ES256", {"typ": "at+jwt", "alg": "none"}, claims))
        assert (await api.get("/who", headers=none)).status_code == 401


async def test_max_credential_bytes_permits_a_long_token(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    long = bearer(issuer.token(groups=[f"group-{number}" for number in range(1500)]))
    assert 20_000 < len(long["Authorization"]) < 32_768
    roomy = EdgeSettings(max_credential_bytes=32_768, max_header_bytes=65_536)
    async with trusting(settings=roomy) as api:
        assert (await api.get("/who", headers=long)).status_code == 200
    async with trusting() as api:
        assert (await api.get("/who", headers=long)).status_code == 431
