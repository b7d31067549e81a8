"""`{tenantid}` in the issuer: one strategy for all tenants of Microsoft Entra."""

from typing import Any

import pytest

from authapi.errors import ConfigurationError
from authapi.verify import RemoteJWT, TokenPolicy
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import AUDIENCE, JWKS, OPENID, SUBJECT, Issuer, Reply

TENANT = "11111111-2222-3333-4444-555555555555"
ANOTHER = "99999999-2222-3333-4444-555555555555"
DISCOVERY = f"/common/v2.0{OPENID}"


@pytest.fixture
def entra(issuer: Issuer) -> Issuer:
    """Serves metadata for every tenant, as Entra does under `common`."""
    issuer.replies.clear()
    template = f"{issuer.url}/{{tenantid}}/v2.0"
    issuer.publish(issuer.key)
    issuer.replies[DISCOVERY] = Reply({"issuer": template, "jwks_uri": issuer.url + JWKS})
    return issuer


def of_tenant(issuer: Issuer, tenant: object, **claims: Any) -> str:
    named = {"iss": f"{issuer.url}/{tenant}/v2.0", "tid": tenant, "ver": "2.0"}
    return issuer.token(header={"typ": "JWT", "nonce": "n"}, **{**named, **claims})


def strategy(issuer: Issuer, **options: Any) -> RemoteJWT:
    policy = TokenPolicy(**{"types": ("JWT",), **options})
    return RemoteJWT(f"{issuer.url}/{{tenantid}}/v2.0", AUDIENCE, policy=policy)


async def test_template_matches_every_tenant(entra: Issuer, clock: Clock, trusting: Open) -> None:
    async with trusting(strategy(entra)) as api:
        people = set()
        for tenant in (TENANT, ANOTHER):
            answer = await api.get("/who", headers=bearer(of_tenant(entra, tenant)))
            assert answer.status_code == 200, answer.text
            people.add(answer.json()["user_id"])
        assert SUBJECT not in people, "two tenants could have the same"
        assert len(people) == 2
        for bad in (
            of_tenant(entra, TENANT, tid=ANOTHER),
            of_tenant(entra, TENANT, tid=None),
            of_tenant(entra, "common"),
            of_tenant(entra, f"{TENANT}/evil"),
            of_tenant(entra, TENANT.upper().replace("1", "A")),
            of_tenant(entra, TENANT, iss=f"{entra.url}/{{tenantid}}/v2.0"),
            of_tenant(entra, TENANT, iss=f"https://evil.example/{TENANT}/v2.0"),
            of_tenant(entra, TENANT, aud="other"),
        ):
            assert (await api.get("/who", headers=bearer(bad))).status_code == 401
    assert entra.asked[DISCOVERY] == 1


async def test_only_listed_tenants_are_accepted(
    entra: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting(strategy(entra, tenants=(TENANT,))) as api:
        good, other = of_tenant(entra, TENANT), of_tenant(entra, ANOTHER)
        assert (await api.get("/who", headers=bearer(good))).status_code == 200
        assert (await api.get("/who", headers=bearer(other))).status_code == 401


async def test_key_with_an_issuer_signs_only_for_it(
    entra: Issuer, clock: Clock, trusting: Open
) -> None:
    owner = f"{entra.url}/{ANOTHER}/v2.0"
    entra.publish({**entra.key.verifying.jwk, "issuer": owner})
    async with trusting(strategy(entra)) as api:
        for tenant, status in ((ANOTHER, 200), (TENANT, 401)):
            token = of_tenant(entra, tenant)
            assert (await api.get("/who", headers=bearer(token))).status_code == status


async def test_metadata_must_name_the_same_template(entra: Issuer, trusting: Open) -> None:
    for other in (f"{entra.url}/{TENANT}/v2.0", f"{entra.url}/common/v2.0"):
        entra.replies[DISCOVERY] = Reply({"issuer": other, "jwks_uri": entra.url + JWKS})
        with pytest.raises(ConfigurationError, match="names another issuer"):
            async with trusting(strategy(entra)):
                pass


@pytest.mark.parametrize(
    "issuer",
    [
        *("https://{tenantid}.example/v2.0", "https://x/{tenantid}/{tenantid}", "https://x/{tid}"),
        *("https://x/a{tenantid}", "https://x/{tenantid}b/v2.0", "https://x/{tenantid}/{other}"),
        *("https://x/{", "https://x/}", "https://x/{{tenantid}}"),
    ],
)
def test_invalid_templates_are_rejected(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="tenantid"):
        RemoteJWT(issuer, AUDIENCE)


def test_tenants_must_be_uuids() -> None:
    for tenants in (TENANT, (TENANT.upper() + "A",), ("contoso.example",), ("",), (None,)):
        with pytest.raises(ConfigurationError, match="UUIDs"):
            TokenPolicy(tenants=tenants)  # type: ignore[arg-type]  # wrong on purpose
