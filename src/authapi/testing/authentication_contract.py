"""The tests of `strategy_contract` for every strategy; they need no database."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from authapi import Identity, Strategy, User
from authapi.errors import InvalidCredential
from authapi.testing.strategy_harness import Credential, Harness, Headers, connection, refusal
from authapi.web.challenges import RESOURCE_METADATA, with_parameters

_METADATA = f"http://127.0.0.1:8000{RESOURCE_METADATA}"


class AuthenticationContract(ABC):
    """Tests for every strategy. Subclasses define the fixture `harness`."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @abstractmethod
    async def obtain(self, harness: Harness, user: User) -> Credential:
        """Returns a valid credential of `user`."""

    @abstractmethod
    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        """Returns malformed credentials of its kind, by what is wrong with them."""

    @abstractmethod
    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        """Returns well-formed credentials that do not exist in the database."""

    async def test_authenticate_has_three_outcomes(self, harness: Harness) -> None:
        ask = _answer_of(harness.strategy)
        good = await self.obtain(harness, harness.alice)
        assert await ask(connection({})) is None
        assert await ask(connection({"X-Other": good.secret, "Cookie": "other=x"})) is None
        identity = await ask(connection(good.headers))
        assert isinstance(identity, Identity)
        assert (identity.user.id, identity.strategy) == (harness.alice.id, harness.name)
        for reason, headers in (
            self.malformed(harness, good) | self.unknown(harness, good)
        ).items():
            try:
                answer = await ask(connection(headers))
            except InvalidCredential:
                continue
            pytest.fail(f"{reason}: {answer}, where it should refuse")

    async def test_absent_credential_tries_the_next_strategy(self, harness: Harness) -> None:
        assert await self.recognized(harness, None) is None
        assert harness.recording.calls == 1
        harness.recording.caller = harness.alice
        answer = await harness.get("/either")
        assert (answer.status_code, answer.json()["strategy"]) == (200, "recording")

    async def test_identities_of_two_users_differ(self, harness: Harness) -> None:
        bob = await harness.api.create_user()
        for user in (harness.alice, bob):
            good = await self.obtain(harness, user)
            assert (await harness.get("/async", good)).json()["user_id"] == str(user.id)

    async def test_invalid_credential_tries_no_other_strategy(self, harness: Harness) -> None:
        harness.recording.caller = harness.alice
        good = await self.obtain(harness, harness.alice)
        same = refusal(await harness.get("/async"))
        bad = self.malformed(harness, good) | self.unknown(harness, good)
        assert bad
        for reason, headers in bad.items():
            answer = await harness.get("/either", headers)
            assert answer.status_code == 401, reason
            assert refusal(answer) == same, reason
            assert harness.recording.calls == 0, reason
        assert (await harness.get("/either", good)).status_code == 200, (
            "a valid credential still works"
        )

    async def test_sync_and_async_handlers_behave_alike(self, harness: Harness) -> None:
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/sync", good)).json()["user_id"] == str(harness.alice.id)
        bad = self.malformed(harness, good) | self.unknown(harness, good)
        bad["nothing"] = {}
        for reason, headers in bad.items():
            first, second = (
                await harness.get("/async", headers),
                await harness.get("/sync", headers),
            )
            assert refusal(first) == refusal(second), reason
            challenges = [r.headers.get_list("www-authenticate") for r in (first, second)]
            assert challenges[0] == challenges[1], reason

    async def test_challenge_is_in_a_401_response(self, harness: Harness) -> None:
        # A bearer challenge also has the URL of the metadata.
        own = str(with_parameters(harness.strategy.challenge(), {"resource_metadata": _METADATA}))
        assert (await harness.get("/async")).headers.get_list("www-authenticate") == [own]
        both = (await harness.get("/either")).headers.get_list("www-authenticate")
        assert sorted(both) == sorted([own, "RecordingStrategy"])

    async def test_security_scheme_is_in_the_openapi_document(self, harness: Harness) -> None:
        document = harness.app.openapi()
        scheme = document["components"]["securitySchemes"][harness.name]
        assert scheme == harness.strategy.openapi()
        assert scheme["type"] in {"apiKey", "http", "oauth2", "openIdConnect"}
        assert document["paths"]["/async"]["get"]["security"] == [{harness.name: []}]
        either = document["paths"]["/either"]["get"]["security"]
        assert sorted(item.popitem()[0] for item in either) == sorted([harness.name, "recording"])

    async def test_no_secret_is_logged(
        self, harness: Harness, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        good = await self.obtain(harness, harness.alice)
        await harness.get("/async", good)
        bad = self.malformed(harness, good) | self.unknown(harness, good)
        for headers in bad.values():
            await harness.get("/async", headers)
        assert good.secret not in caplog.text

    async def recognized(
        self, harness: Harness, credential: Credential | Headers | None
    ) -> str | None:
        """Returns the name of the strategy that accepts it at /either, or None."""
        answer = await harness.get("/either", credential)
        return answer.json()["strategy"] if answer.status_code == 200 else None


def _answer_of(
    strategy: Strategy[Any],
) -> Callable[[HTTPConnection], Awaitable[Identity | None]]:
    """Returns a function that reads and authenticates, as the resolver does."""

    async def answer(connection: HTTPConnection) -> Identity | None:
        credential = strategy.read(connection)
        return None if credential is None else await strategy.authenticate(credential, connection)

    return answer
