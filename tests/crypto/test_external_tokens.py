"""Tokens of other issuers: members that RFC 7515 allows, and rejections."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.crypto import jwk, jws
from authapi.errors import TokenError, UnknownKey
from tests.crypto.external_signers import public_jwk, signed
from tests.crypto.forgery import (
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    KEY,
    NOW,
    RING,
    forge,
    new_key,
    without,
)
from tests.crypto.forgery import raw as raw_json
from tests.known_key import FOREIGN

TENANT = "11111111-2222-3333-4444-555555555555"
OTHER_TENANT = "99999999-2222-3333-4444-555555555555"
TEMPLATE = "https://login.example/{tenantid}/v2.0"


def verify(token: str, *keys: jwk.VerifyingKey, **changes: Any) -> Any:
    """Returns the claims of `token` under the default rules with `changes`."""
    options: dict[str, Any] = {"issuer": ISSUER, "audiences": (AUDIENCE,), "external": True}
    ring = jwk.keys_by_kid(keys) if keys else RING
    expected = jws.ValidationRules(**{**options, **changes})
    return jws.verify(token, keys=ring, expected=expected, now=NOW).claims


def refused(token: str, check: str, *keys: jwk.VerifyingKey, **changes: Any) -> None:
    """Asserts that `token` is rejected by this check, which the error text does not contain."""
    with pytest.raises(TokenError) as caught:
        verify(token, *keys, **changes)
    assert caught.value.check == check
    assert caught.value.args == ()


@pytest.mark.parametrize(
    "members",
    [
        {"cat": "cl_B7d4PD111AAA"},
        {"nonce": "abc", "x5t": "abc", "x5t#S256": "def"},
        {"gty": "client-credentials", "cty": "JWT"},
        {"jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/cert"},
        {"jwk": dict(FOREIGN.verifying.jwk), "x5c": ["AAAA"]},
        {"": {"a": [None]}, "ö": 1},
    ],
    ids=str,
)
def test_unknown_header_members_are_ignored(members: dict[str, object]) -> None:
    assert verify(forge({**HEADER, **members})) == CLAIMS


def test_key_in_the_header_is_never_used() -> None:
    own = new_key()
    for kid in ({}, {"kid": own.verifying.kid}, {"kid": KEY.verifying.kid}):
        header = {**without(HEADER, "kid"), **kid, "jwk": dict(own.verifying.jwk)}
        with pytest.raises(TokenError):
            verify(forge(header, key=own))


@pytest.mark.parametrize("value", [["exp"], ["x"], [], "exp", None, {}], ids=repr)
def test_critical_extensions_are_rejected(value: object) -> None:
    refused(forge({**HEADER, "crit": value}), "header")
    refused(forge({**HEADER, "b64": False}), "header")


@pytest.mark.parametrize(
    "value", ["at+jwt", "AT+JWT", "At+Jwt", "application/at+jwt", "Application/AT+JWT"]
)
def test_typ_is_compared_as_a_media_type(value: str) -> None:
    assert verify(forge({**HEADER, "typ": value})) == CLAIMS


@pytest.mark.parametrize(
    "value",
    [
        *("JWT", "at+jwt ", "", "text/at+jwt", "application/application/at+jwt", "x/at+jwt"),
        *("application/", "at+jwt;a=b", None, 7, ["at+jwt"], {"at+jwt": 1}),
    ],
    ids=repr,
)
def test_other_typ_is_rejected(value: object) -> None:
    refused(forge({**HEADER, "typ": value}), "typ")
    refused(forge({**HEADER, "typ": value}), "typ", types=("at+jwt", None))


def test_typ_may_be_absent_if_allowed() -> None:
    refused(forge(without(HEADER, "typ")), "typ")
    assert verify(forge(without(HEADER, "typ")), types=("jwt", None)) == CLAIMS


def test_every_present_client_claim_must_match() -> None:
    def one(**claims: object) -> str:
        return forge(claims={**without(CLAIMS, "aud"), **claims})

    for good in ({"client_id": "app"}, {"azp": "app"}, {"client_id": "app", "azp": "app"}):
        assert verify(one(**good), audiences=None, clients=("app",))
    for bad in (
        {},
        {"client_id": "evil"},
        {"client_id": "app", "azp": "evil"},
        {"client_id": "evil", "azp": "app"},
        {"client_id": ["app"]},
        {"client_id": None},
        {"azp": "ap"},
        {"azp": "app "},
        {"cid": "app", "appid": "app"},
    ):
        refused(one(**bad), "client", audiences=None, clients=("app",))
    assert verify(one(cid="app"), audiences=None, clients=("app",), client_claims=("cid",))
    for audience in (AUDIENCE, "other", [], None, ["app"]):
        token = one(client_id="app", aud=audience)
        refused(token, "aud", audiences=None, clients=("app",))
    both = one(client_id="app", aud=AUDIENCE)
    assert verify(both, clients=("app",))
    refused(both, "client", clients=("other",))
    refused(one(client_id="app"), "aud", clients=("app",))


def test_required_claims_must_be_present() -> None:
    token = forge(claims={**CLAIMS, "token_use": "access", "n": 1, "yes": True})
    assert verify(token, claims={"token_use": "access", "n": 1, "yes": True})
    for claims in ({"token_use": "id"}, {"other": "x"}, {"n": True}, {"yes": 1}, {"n": "1"}):
        refused(token, "required claims", claims=claims)


@pytest.mark.parametrize(
    ("claim", "ahead"), [("nbf", 5), ("iat", 5), ("nbf", 0), ("iat", 0)], ids=str
)
def test_times_in_the_future(claim: str, ahead: int) -> None:
    options = {"nbf_leeway": ahead, "iat_leeway": ahead}
    assert verify(forge(claims={**CLAIMS, claim: NOW + ahead}), **options)
    refused(forge(claims={**CLAIMS, claim: NOW + ahead + 1}), claim, **options)


def test_keys_without_kid() -> None:
    first, second, other, strange = (
        jwk.read_jwk(public_jwk(algorithm), algorithms=jwk.VERIFIED_ALGORITHMS, kid_required=False)
        for algorithm in ("ES256", "ES384", "RS256", "EdDSA")
    )
    lenient: dict[str, Any] = {"types": (None,)}
    for algorithm in ("ES256", "ES384", "RS256", "PS256", "EdDSA"):
        token = signed(algorithm, {}, CLAIMS)
        assert verify(token, first, second, other, strange, **lenient) == CLAIMS
    # Several keys match: those without `kid` are tried.
    more = [
        jwk.read_jwk(
            without(dict(new_key().verifying.jwk), "kid"),
            algorithms=jwk.VERIFIED_ALGORITHMS,
            kid_required=False,
        )
        for _ in range(3)
    ]
    assert verify(signed("ES256", {}, CLAIMS), *more, first, **lenient) == CLAIMS
    for ring in ([second, other], [*more, second]):
        with pytest.raises(TokenError):
            verify(signed("ES256", {}, CLAIMS), *ring, **lenient)
    # A key that may be published later is unknown; an unsupported algorithm is rejected.
    for ring in (more, [second]):
        with pytest.raises(UnknownKey):
            verify(signed("ES256", {}, CLAIMS), *ring, **lenient)
    limited = {**lenient, "algorithms": jwk.VERIFIED_ALGORITHMS}
    wrong: list[object] = ["none", "HS256", "ES256K", "", None, ["ES384"], {}]
    for value in wrong:
        refused(signed("ES384", {"alg": value}, CLAIMS), "alg", second, **limited)


def test_token_without_kid_needs_a_single_matching_key() -> None:
    keys = [
        jwk.read_jwk(public_jwk(name, kid=name), algorithms=jwk.VERIFIED_ALGORITHMS)
        for name in ("ES256", "ES384", "RS256")
    ]
    assert verify(signed("ES384", {}, CLAIMS), *keys, types=(None,)) == CLAIMS
    keys.append(new_key().verifying)
    refused(signed("ES256", {}, CLAIMS), "key", *keys, types=(None,))


def of_tenant(tenant: object, issuer: str | None = None) -> dict[str, object]:
    made = TEMPLATE.replace("{tenantid}", str(tenant)) if issuer is None else issuer
    return {**CLAIMS, "iss": made, "tid": tenant}


def test_issuer_contains_the_tenant() -> None:
    good = forge(claims=of_tenant(TENANT))
    assert verify(good, issuer=TEMPLATE)["tid"] == TENANT
    assert verify(good, issuer=TEMPLATE, tenants={TENANT})
    refused(good, "iss", issuer=TEMPLATE, tenants={OTHER_TENANT})
    tenants: list[object] = [
        *("common", "", "..", f"{TENANT}/..", f"x/{TENANT}", TENANT.replace("-", "")),
        *("AAAAAAAA-2222-3333-4444-555555555555", f"{{{TENANT}}}", f" {TENANT}", "{tenantid}"),
        *(f"{TENANT}~", f"evil.example/{TENANT}", None, 7, [TENANT], {}),
    ]
    for tenant in tenants:
        refused(forge(claims=of_tenant(tenant)), "iss", issuer=TEMPLATE)
    for claims in (
        of_tenant(OTHER_TENANT, TEMPLATE.replace("{tenantid}", TENANT)),
        of_tenant(TENANT, TEMPLATE),
        of_tenant(TENANT, f"https://evil.example/{TENANT}/v2.0"),
        of_tenant(TENANT, TEMPLATE.replace("{tenantid}", TENANT) + "/"),
        without(of_tenant(TENANT), "tid"),
    ):
        refused(forge(claims=claims), "iss", issuer=TEMPLATE)


def test_key_of_one_tenant_cannot_sign_for_another() -> None:
    def key(issuer: object) -> jwk.VerifyingKey:
        return jwk.read_jwk({**KEY.verifying.jwk, "issuer": issuer})

    good = forge(claims=of_tenant(TENANT))
    for owner in (TEMPLATE, TEMPLATE.replace("{tenantid}", TENANT), None):
        assert verify(good, key(owner), issuer=TEMPLATE)
    refused(
        good,
        "issuer of the key",
        key(TEMPLATE.replace("{tenantid}", OTHER_TENANT)),
        issuer=TEMPLATE,
    )


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        (raw_json(HEADER)[:-1] + b',"cat":1,"cat":2}', CLAIMS),
        (HEADER, raw_json(CLAIMS)[:-1] + b',"azp":"a","azp":"b"}'),
        (raw_json(HEADER, cat="[" * 50 + "]" * 50), CLAIMS),
        (HEADER, raw_json(CLAIMS, roles='{"a":' * 50 + "1" + "}" * 50)),
        (HEADER, raw_json(CLAIMS, exp="1" * 5000)),
        (HEADER, raw_json(CLAIMS, other="1e999")),
    ],
    ids=range(6),
)
def test_ambiguous_json_is_rejected(header: object, claims: object) -> None:
    refused(forge(header, claims), "format")


def test_maximum_token_length() -> None:
    long = forge(claims={**CLAIMS, "pad": "x" * 20_000})
    refused(long, "format")
    assert verify(long, max_length=32_768)
    refused(long, "format", max_length=len(long) - 1)
    assert verify(long, max_length=len(long))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = ("alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5c", "cty", "zip", "other")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4), st.booleans())
def test_changed_header_is_rejected_unless_the_change_has_no_meaning(
    changes: dict[str, Any], is_signed: bool
) -> None:
    token = forge({**HEADER, **changes}, key=KEY if is_signed else None)
    try:
        assert verify(token, types=("at+jwt", None)) == CLAIMS
    except TokenError:
        return
    assert is_signed
    assert not {"crit", "b64"} & changes.keys()
    assert {**HEADER, **changes}["alg"] == "ES256"
