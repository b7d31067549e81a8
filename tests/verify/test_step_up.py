"""Gates by the strength of a login, on resource servers: from the claims of a token (RFC 9470)."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastapi import Depends, FastAPI

from authapi import create_app, current_user
from authapi.domain.factors.authentication_context import ACR_VALUES
from authapi.errors import ConfigurationError
from authapi.testing import Client, acting_as, client
from authapi.verify import RemoteIntrospection, RemoteJWT, ResourceServer
from tests.conftest import SettingsFactory
from tests.crypto import forgery
from tests.verify.conftest import Clock, bearer
from tests.verify.issuer import AUDIENCE, INTROSPECT, SUBJECT, Issuer, Reply
from tests.web.responses import gate_problem

NOW = forgery.NOW
ONE, TWO, PHR = ACR_VALUES
GATES = {
    "mfa": current_user(mfa=True),
    "one": current_user(acr=ONE),
    "two": current_user(acr=TWO),
    "phr": current_user(acr=PHR),
    "both": current_user(mfa=True, acr=TWO, fresh=timedelta(minutes=1)),
}


def application(*strategies: RemoteJWT | RemoteIntrospection) -> FastAPI:
    auth = ResourceServer(*strategies)
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app)
    for name, gate in GATES.items():
        app.get(f"/{name}", dependencies=[Depends(gate)])(no_content)
    return app


def no_content() -> None:
    """A handler whose gate is all that matters."""


@asynccontextmanager
async def trusting(issuer: Issuer) -> AsyncIterator[Client]:
    strategies = (
        RemoteJWT(issuer.url, AUDIENCE),
        RemoteIntrospection(issuer.url + INTROSPECT, "x", issuer=issuer.url),
    )
    async with client(application(*strategies)) as api:
        yield api


async def passed(api: Client, token: str) -> set[str]:
    """Returns the names of the gates that accept the token."""
    answers = {name: await api.get(f"/{name}", headers=bearer(token)) for name in GATES}
    for name, answer in answers.items():
        assert answer.status_code in (200, 401), name
    return {name for name, answer in answers.items() if answer.status_code == 200}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        # Tokens of authapi.
        ({"amr": ["pwd"], "acr": ONE}, {"one"}),
        ({"amr": ["pwd", "otp", "mfa"], "acr": TWO}, {"mfa", "one", "two", "both"}),
        ({"amr": ["pop", "user", "mfa"], "acr": PHR}, {"mfa", "one", "two", "phr", "both"}),
        ({"amr": []}, set()),
        # Tokens without `acr`, as those of older versions: the methods never count as `phr`.
        ({"amr": ["pwd"]}, {"one"}),
        ({"amr": ["pwd", "mfa"]}, {"mfa", "one", "two", "both"}),
        ({"amr": ["mfa", "pop", "hwk"]}, {"mfa", "one", "two", "both"}),
        # An unknown class has no place in the order, and the methods do not give it one.
        ({"amr": ["pwd", "mfa"], "acr": "0"}, {"mfa"}),
        ({"amr": ["pwd", "mfa", "pop"], "acr": "PHR"}, {"mfa"}),
        ({"amr": ["pwd", "mfa"], "acr": "phr phrh"}, {"mfa"}),
        ({"amr": ["pwd", "mfa"], "acr": ""}, {"mfa"}),
        # `mfa` is about the methods, `acr` about the class.
        ({"amr": ["pop"], "acr": PHR}, {"one", "two", "phr"}),
        ({"acr": TWO}, {"one", "two"}),
        ({"amr": ["MFA", "mfa2"]}, {"one"}),
        # Without `auth_time`, a token does not say that it comes from a login.
        ({"amr": ["pwd", "mfa"], "acr": PHR, "auth_time": None}, set()),
        ({"amr": "mfa", "acr": TWO}, set()),
        ({"amr": ["pwd", "mfa"], "acr": ["phr"]}, set()),
        ({"amr": ["pwd", "mfa"], "acr": 2}, set()),
    ],
    ids=range(18),
)
async def test_claims_decide(
    issuer: Issuer, clock: Clock, claims: Mapping[str, Any], expected: set[str]
) -> None:
    chosen = {"auth_time": NOW, **claims}
    given = {name: value for name, value in chosen.items() if value is not None}
    introspected = {"active": True, "sub": SUBJECT, "iss": issuer.url, "iat": NOW, **given}
    issuer.replies[INTROSPECT] = Reply(introspected)
    async with trusting(issuer) as api:
        assert await passed(api, issuer.token(**chosen)) == expected
        assert await passed(api, "opaque") == expected


async def test_the_refusal_names_what_is_missing(issuer: Issuer, clock: Clock) -> None:
    async with trusting(issuer) as api:
        token = issuer.token(auth_time=NOW - 61, amr=["pwd"], acr=ONE)
        answer = await api.get("/both", headers=bearer(token))
    body = gate_problem(answer, 401, "insufficient_authentication")
    assert (body["acr_values"], body["max_age"]) == (TWO, 60)
    parameters = f'error="insufficient_user_authentication", acr_values="{TWO}", max_age="60"'
    assert parameters in answer.headers["www-authenticate"]


@pytest.mark.parametrize("mfa", ["enrolled", timedelta(hours=1)])
async def test_what_no_claim_tells_is_refused_at_the_start(issuer: Issuer, mfa: Any) -> None:
    auth = ResourceServer(RemoteJWT(issuer.url, AUDIENCE, name="main"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    app.get("/orders", dependencies=[Depends(current_user(mfa=mfa))])(no_content)
    with pytest.raises(ConfigurationError, match=r"GET /orders: mfa=.*'main'.*use mfa=True"):
        async with client(app):
            pass


async def test_acting_as_does_not_bypass_the_gates(issuer: Issuer) -> None:
    claims = {"tenant": "a"}
    async with trusting(issuer) as api:
        user = await api.create_user()
        for chosen, expected in (
            ({}, {"one"}),
            ({"mfa": True}, {"mfa", "one", "two", "both"}),
            ({"acr": TWO}, {"mfa", "one", "two", "both"}),
            ({"acr": PHR}, {"mfa", "one", "two", "phr", "both"}),
            ({"amr": ()}, set[str]()),
        ):
            for given in ({}, claims):
                with acting_as(user, claims=given, **chosen):
                    assert await passed(api, "x") == expected, chosen


async def test_tokens_of_a_running_authapi(make_settings: SettingsFactory, issuer: Issuer) -> None:
    settings = make_settings(public_url=issuer.url, jwt_audience=AUDIENCE)
    async with client(create_app(settings)) as there:
        issuer.publish(*(await there.get("/.well-known/jwks.json")).json()["keys"])
        alice = await there.create_user()
        weak = (await there.login(alice, strategy="jwt")).json()["access_token"]
        app = there.authenticator()
        await there.login(await app.enrol(alice), strategy="jwt", authenticator=app)
        strong = there.headers["authorization"].removeprefix("Bearer ")
    async with trusting(issuer) as api:
        assert await passed(api, weak) == {"one"}
        assert await passed(api, strong) == {"mfa", "one", "two", "both"}
