"""The contract suite of strategies, for the strategies without a database."""

from abc import abstractmethod
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from authapi import Strategy, User
from authapi.testing.strategy_contract import AuthenticationContract
from authapi.testing.strategy_harness import (
    Credential,
    Harness,
    Headers,
    RecordingStrategy,
    harness_for,
)
from authapi.verify import RemoteIntrospection, RemoteJWT, ResourceServer
from tests.verify.conftest import Clock, bearer
from tests.verify.issuer import AUDIENCE, INTROSPECT, Issuer, Reply


class Bystander(RecordingStrategy):
    """The harness of the suite, for an application without services."""

    def __init__(self) -> None:
        self.asked = 0


class RemoteContract(AuthenticationContract):
    """Common parts of both: users are those that the issuer names."""

    @pytest.fixture
    async def harness(self, issuer: Issuer, clock: Clock) -> AsyncIterator[Harness]:
        self.issuer = issuer
        auth = ResourceServer(self.strategy(), Bystander())
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)
        async with harness_for(app, auth.runtime.registry) as found:
            yield found

    @abstractmethod
    def strategy(self) -> Strategy[str]:
        """The strategy under test."""


class TestRemoteJWT(RemoteContract):
    def strategy(self) -> Strategy[str]:
        return RemoteJWT(self.issuer.url, AUDIENCE)

    async def obtain(self, harness: Harness, user: User) -> Credential:
        token = self.issuer.token(sub=str(user.id))
        return Credential(bearer(token), token)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {
            "garbage": bearer("a.b.c"),
            "cut": bearer(good.secret[:-1]),
            "no signature": bearer(good.secret.rpartition(".")[0] + "."),
            "for another audience": bearer(self.issuer.token(aud="other")),
        }

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"an unknown key": bearer(self.issuer.token(header={"kid": "made up"}))}


class TestRemoteIntrospection(RemoteContract):
    def strategy(self) -> Strategy[str]:
        self.issuer.replies[INTROSPECT] = self.introspect
        return RemoteIntrospection(self.issuer.url + INTROSPECT, "credential-of-our-own")

    def introspect(self, form: dict[str, str]) -> Reply:
        kind, _, subject = form["token"].partition("_")
        return Reply({"active": kind == "good", "sub": subject, "token_type": "Bearer"})

    async def obtain(self, harness: Harness, user: User) -> Credential:
        token = f"good_{user.id}"
        return Credential(bearer(token), token)

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"quotes": bearer('"good"'), "nothing": bearer("")}

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        return {"inactive": bearer("bad_token")}
