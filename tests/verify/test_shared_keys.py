"""Several strategies whose issuers share keys or names of keys."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from authapi import Identity, current_identity
from authapi.testing import Client, client
from authapi.verify import RemoteJWT, TokenPolicy
from tests.crypto import forgery
from tests.verify.conftest import Clock, application, bearer
from tests.verify.issuer import JWKS, METADATA, OPENID, Issuer, Reply

NOW = forgery.NOW
V1, V2 = "/tenant", "/tenant/v2.0"


@pytest.fixture
def shared(issuer: Issuer) -> Issuer:
    """Serves two issuers, `/tenant` and `/tenant/v2.0`, with the same keys."""
    for path in (V1, V2):
        named = {"issuer": issuer.url + path, "jwks_uri": issuer.url + JWKS}
        issuer.replies[f"{METADATA}{path}"] = issuer.replies[f"{path}{OPENID}"] = Reply(named)
    return issuer


def named(app: FastAPI, *names: str) -> FastAPI:
    """Builds an application with one route per strategy."""
    for name in names:

        @app.get(f"/{name}")
        async def by_name(identity: Annotated[Identity, Depends(current_identity(name))]) -> str:
            return identity.strategy

    return app


async def told(api: Client, token: str, path: str = "/who") -> str | int:
    """Returns the strategy that authenticated the token, or the status of the rejection."""
    answer = await api.get(path, headers=bearer(token))
    if not answer.is_success:
        if answer.status_code == 401:
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
        return answer.status_code
    found = answer.json()
    return str(found["strategy"] if isinstance(found, dict) else found)


@pytest.mark.parametrize("turned", [False, True], ids=["in this order", "the other way round"])
async def test_two_versions_of_one_issuer_share_keys(
    shared: Issuer, clock: Clock, turned: bool
) -> None:
    both = [
        RemoteJWT(shared.url + V1, "api://orders", name="v1", subjects_are_ids=False),
        RemoteJWT(shared.url + V2, "orders", name="v2", subjects_are_ids=False),
    ]
    if turned:
        both.reverse()
    async with client(named(application(*both), "v1", "v2")) as api:
        first = shared.token(iss=shared.url + V1, aud="api://orders")
        second = shared.token(iss=shared.url + V2, aud="orders")
        for _ in range(2):  # the second time from the cache
            assert await told(api, first) == "v1"
            assert await told(api, second) == "v2"
        assert await told(api, first, "/v1") == "v1"
        assert await told(api, first, "/v2") == 401
        assert await told(api, second, "/v1") == 401
        for bad in (
            shared.token(iss=shared.url + V1, aud="orders"),
            shared.token(iss=shared.url + V2, aud="api://orders"),
            shared.token(iss=shared.url + "/other", aud="orders"),
            shared.token(iss=shared.url + V2, aud="orders", exp=NOW, iat=NOW - 9),
            shared.token(iss=shared.url + V2, aud="orders", header={"typ": "JWT"}),
            shared.token(iss=shared.url + V2, aud="orders", header={"crit": ["exp"]}),
            second[:-4] + "AAAA",
        ):
            assert await told(api, bad) == 401
            assert await told(api, bad, "/maybe") == 401


@pytest.mark.parametrize("turned", [False, True], ids=["in this order", "the other way round"])
async def test_two_strategies_of_one_issuer_with_different_audiences(
    issuer: Issuer, clock: Clock, turned: bool
) -> None:
    both = [
        RemoteJWT(issuer.url, "orders", name="shop"),
        RemoteJWT(issuer.url, "stock", name="store", policy=TokenPolicy(scope_claims=("roles",))),
    ]
    if turned:
        both.reverse()
    async with client(application(*both)) as api:
        assert await told(api, issuer.token(aud="orders")) == "shop"
        assert await told(api, issuer.token(aud="stock")) == "store"
        assert await told(api, issuer.token(aud=["stock", "orders"])) == both[0].name
        assert await told(api, issuer.token(aud="other")) == 401


async def test_each_of_two_strategies_accepts_a_token_for_both(
    issuer: Issuer, clock: Clock
) -> None:
    shop = RemoteJWT(issuer.url, "orders", name="shop")
    store = RemoteJWT(issuer.url, "stock", name="store")
    async with client(named(application(shop, store), "shop", "store")) as api:
        token = issuer.token(aud=["stock", "orders"])
        for _ in range(2):  # the second time from the cache
            assert await told(api, token, "/store") == "store"
            assert await told(api, token, "/shop") == "shop"
            assert await told(api, token) == "shop"


async def test_token_of_another_strategy_is_verified_once(
    issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = RemoteJWT(issuer.url, "orders", name="shop")
    store = RemoteJWT(issuer.url, "stock", name="store")
    async with client(application(shop, store)) as api:
        token = issuer.token(aud="stock")
        assert await told(api, token) == "store"
        monkeypatch.setattr(shop, "accept", None)
        assert await told(api, token) == "store"
        assert await told(api, issuer.token(aud="stock", jti="x")) == 500


async def test_several_tenants_share_keys(shared: Issuer, clock: Clock) -> None:
    tenants = [f"{number}1111111-2222-3333-4444-555555555555" for number in range(1, 6)]
    strategies = []
    for number, tenant in enumerate(tenants):
        shared.replies[f"/{tenant}{OPENID}"] = Reply(
            {"issuer": f"{shared.url}/{tenant}", "jwks_uri": shared.url + JWKS}
        )
        strategies.append(
            RemoteJWT(f"{shared.url}/{tenant}", "orders", name=f"t{number}", subjects_are_ids=False)
        )
    async with client(application(*strategies)) as api:
        for number, tenant in enumerate(tenants):
            made = shared.token(iss=f"{shared.url}/{tenant}")
            assert await told(api, made) == f"t{number}"
        assert await told(api, shared.token(iss=f"{shared.url}/other")) == 401


async def test_two_issuers_use_one_kid_for_different_keys(issuer: Issuer, clock: Clock) -> None:
    with Issuer() as partner:
        for each in (issuer, partner):
            each.publish({**each.key.verifying.jwk, "kid": "default"})
        both = (
            RemoteJWT(issuer.url, "orders"),
            RemoteJWT(partner.url, "orders", name="partner", subjects_are_ids=False),
        )
        async with client(application(*both)) as api:
            header = {"kid": "default"}
            assert await told(api, issuer.token(header=header)) == "jwt"
            assert await told(api, partner.token(header=header)) == "partner"
            for bad in (
                issuer.token(header=header, iss=partner.url),
                partner.token(header=header, iss=issuer.url),
                forged(issuer, iss=partner.url),
                forged(issuer),
            ):
                assert await told(api, bad) == 401


def forged(issuer: Issuer, **claims: Any) -> str:
    """A token with a kid of another issuer, signed with an unknown key."""
    return issuer.token(key=forgery.new_key(), header={"kid": "default"}, **claims)


@pytest.mark.parametrize("away", ["first", "second"])
async def test_new_key_of_one_issuer_while_the_other_is_unavailable(
    clock: Clock, away: str
) -> None:
    with Issuer() as first, Issuer() as second:
        both = (
            RemoteJWT(first.url, "orders", name="first"),
            RemoteJWT(second.url, "orders", name="second", subjects_are_ids=False),
        )
        async with client(application(*both)) as api:
            gone, there = (first, second) if away == "first" else (second, first)
            gone.away()
            clock.move(30)
            key = forgery.new_key()
            there.publish(there.key, key)
            name = "second" if away == "first" else "first"
            assert await told(api, there.token(key=key)) == name
            # A token with a bad signature is rejected, also while the other issuer is unavailable.
            assert await told(api, there.token(aud="other")) == 401
            assert await told(api, there.token(exp=NOW, iat=NOW - 9)) == 401
            assert await told(api, there.token(header={"typ": "JWT"})) == 401
            assert await told(api, there.token(iss=gone.url)) == 503
            # A token with an unknown key gets 503: the unavailable issuer may have signed it.
            assert await told(api, gone.token(key=forgery.new_key())) == 503


async def test_log_has_the_failed_check_of_each_strategy(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "authapi.verify")
    both = (
        RemoteJWT(issuer.url, "orders", name="shop"),
        RemoteJWT(issuer.url, "stock", name="store"),
    )
    refused, left = "token rejected", "token left to other strategies"
    async with client(application(*both)) as api:
        for token, status, seen in (
            (
                issuer.token(aud="stock", exp=NOW, iat=NOW - 9),
                401,
                [("store", "exp", refused), ("shop", "aud", refused)],
            ),
            (issuer.token(aud="stock"), "store", [("shop", "aud", left)]),
            (
                issuer.token(key=forgery.new_key(), header={"kid": issuer.key.verifying.kid}),
                401,
                [("shop", "signature", left), ("store", "signature", left)],
            ),
            ("opaque", 401, [("shop", "format", left), ("store", "format", left)]),
        ):
            caplog.clear()
            assert await told(api, token) == status
            assert [
                (entry.__dict__["strategy"], entry.__dict__["check"], entry.getMessage())
                for entry in caplog.records
                if "check" in entry.__dict__
            ] == seen
