"""The test suite for strategies, built-in and custom. It needs `fastapi-authapi[testing]`.

Subclass the contract that matches the base class of the strategy, in a module that pytest collects:

    class TestAPIKey(StrategyContract):
        spec = "my.package:APIKeyStrategy"    # as AUTHAPI_STRATEGIES names it

        async def obtain(self, harness: Harness, user: User) -> Credential:
            ...                               # a credential of this user

        def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
            ...                               # credentials of this kind that are malformed

        def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
            ...                               # well-formed credentials that do not exist

`StrategyContract`, `IssuerContract` and `RevocableContract` extend one another, as the base classes
of the strategies do. The attributes of `StrategyContract` describe the strategy. Its tests run on
an SQLite database of their own; override the fixture `database_url` to run those that depend on
stored rows on other databases too.

`AuthenticationContract` has the tests that need no database, such as for a strategy of a
`ResourceServer`. Define the fixture `harness` with `harness_for`.

pytest shows the values of a failed assertion if `conftest.py` calls
`pytest.register_assert_rewrite("authapi.testing")` before it imports `authapi.testing`.
`examples/api_key` is a strategy with these tests.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import httpx
import pytest
import time_machine

from authapi import Issuer, Revocable, User
from authapi.domain.email_address import stored_email
from authapi.errors import InvalidCredentials
from authapi.storage.inspection import count_rows, stored_values
from authapi.testing.authentication_contract import AuthenticationContract
from authapi.testing.client import PASSWORD
from authapi.testing.strategy_harness import (
    Credential,
    Harness,
    Headers,
    bearer_of,
    connection,
    harness_for,
    open_harness,
    refusal,
    statements,
)

__all__ = [
    "AuthenticationContract",
    "Credential",
    "Harness",
    "Headers",
    "IssuerContract",
    "RevocableContract",
    "StrategyContract",
    "harness_for",
]

START = datetime(2031, 5, 6, 7, 8, 9, 654321, tzinfo=UTC)
"""The start of a stopped clock. It is no whole second, so that rounding shows."""
MOMENT = timedelta(microseconds=1)
NEW_PASSWORD = "another horse battery staple"
_MAX_STALENESS = 2.0
"""Seconds after which no other process accepts a credential that has ended: the default of the
setting `identity_cache_max_staleness`."""


class StrategyContract(AuthenticationContract):
    """Tests for every strategy whose users are rows in the database."""

    spec: ClassVar[str]
    """Its name in the settings."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Further settings."""
    amr: ClassVar[tuple[str, ...]] = ("pwd",)
    """The `amr` of its identities (RFC 8176)."""
    has_session = True
    """Whether its credentials belong to a session."""
    is_cached = False
    """Whether the strategy has a `cache_key`: the next request with the credential sends no query.
    """
    records_refusals = False
    """Whether an invalid credential is recorded as an event, and not only logged."""

    @pytest.fixture
    def sqlite_url(self, tmp_path: Path) -> str:
        """An SQLite database, for tests that do not depend on stored rows."""
        return f"sqlite:///{tmp_path}/authapi.db"

    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        """A database for tests that depend on stored rows. Parametrize it for several kinds."""
        return sqlite_url

    @pytest.fixture
    async def harness(self, sqlite_url: str) -> AsyncIterator[Harness]:
        async with open_harness(self.spec, sqlite_url, **self.settings) as found:
            yield found

    @pytest.fixture
    async def each_harness(self, database_url: str) -> AsyncIterator[Harness]:
        """A harness on each kind of database."""
        async with open_harness(self.spec, database_url, **self.settings) as found:
            yield found

    async def test_valid_credential_returns_an_identity(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        answer = await harness.get("/either", good)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert seen["user_id"] == str(harness.alice.id)
        assert seen["strategy"] == harness.name
        assert seen["amr"] == list(self.amr)
        assert harness.recording.calls == 0, "the first strategy with a credential decides"
        sessions = await count_rows(harness.api.services.database, "sessions")
        assert sessions == (1 if self.has_session else 0)
        if self.has_session:
            session = UUID(seen["session_id"])
            assert await harness.api.services.sessions.get_data(session) == {}
            assert seen["expires_at"] is not None
        else:
            assert seen["session_id"] is None

    async def test_number_of_database_statements(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        for path in ("/async", "/sync"):
            with statements(harness.api) as seen:
                assert (await harness.get(path)).status_code == 401
            assert len(seen) == 0, "no query"
            harness.api.services.identity_cache.clear()
            with statements(harness.api) as seen:
                assert (await harness.get(path, good)).status_code == 200
            assert len(seen) == 1, seen
            assert seen[0].startswith("SELECT")
            with statements(harness.api) as seen:
                assert (await harness.get(path, good)).status_code == 200
            assert len(seen) == (0 if self.is_cached else 1), "answered from the cache?"
        for reason, headers in self.malformed(harness, good).items():
            with statements(harness.api) as seen:
                assert (await harness.get("/async", headers)).status_code == 401, reason
            assert len(seen) == 0, reason
        for reason, headers in self.unknown(harness, good).items():
            with statements(harness.api) as seen:
                assert (await harness.get("/async", headers)).status_code == 401, reason
            looked_up = [text for text in seen if text.startswith("SELECT")]
            assert len(looked_up) == 1, reason
            assert len(seen) == 1 or self.records_refusals, reason

    async def test_no_secret_is_stored(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.last_used.flush()
        values = await stored_values(harness.api.services.database, "users", "sessions")
        assert any(harness.alice.email.encode() in value for value in values), "the dump has values"
        for form in _forms(good.secret):
            assert not any(form in value for value in values)

    async def test_deactivation_ends_the_credential(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.accounts.administration.change(
            harness.alice.id, {"is_active": False}
        )
        assert (await harness.get("/async", good)).status_code == 401
        assert (await harness.get("/sync", good)).status_code == 401

    async def test_deletion_ends_the_credential(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.accounts.deletion.delete(harness.alice.id)
        refused = await harness.get("/async", good)
        assert refusal(refused) == refusal(await harness.get("/async"))

    async def test_password_change_ends_the_credential(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        owner = await harness.cookie(harness.alice)
        answer = await harness.request("POST", "/me/password", owner, json=change)
        assert answer.status_code == 204, answer.text
        assert (await harness.get("/async", good)).status_code == 401


class IssuerContract(StrategyContract):
    """Tests for a strategy that issues credentials."""

    def issued_credential(self, response: httpx.Response) -> Credential:
        """Returns the credential in the response of a login."""
        return bearer_of(response)

    async def obtain(self, harness: Harness, user: User) -> Credential:
        return self.issued_credential(await harness.login(harness.name, user))

    async def test_credential_is_valid_until_it_expires(self, database_url: str) -> None:
        with time_machine.travel(START, tick=False) as clock:
            async with open_harness(self.spec, database_url, **self.settings) as harness:
                answer = await harness.login(harness.name, harness.alice)
                assert answer.json()["strategy"] == harness.name
                assert answer.json()["user"]["id"] == str(harness.alice.id)
                good = self.issued_credential(answer)
                seen = await harness.get("/async", good)
                assert seen.status_code == 200
                ends = datetime.fromisoformat(answer.json()["expires_at"])
                stated = datetime.fromisoformat(seen.json()["expires_at"])
                assert abs(stated - ends) < timedelta(seconds=1)
                assert datetime.fromisoformat(seen.json()["auth_time"]) == START
                for tenth in range(1, 10):  # in steps, so that it does not reach the idle timeout
                    clock.move_to(START + (ends - START) * tenth / 10, tick=False)
                    assert (await harness.get("/async", good)).status_code == 200, tenth
                clock.move_to(ends - MOMENT, tick=False)
                assert (await harness.get("/async", good)).status_code == 200
                clock.move_to(ends, tick=False)
                refused = await harness.get("/async", good)
                assert refusal(refused) == refusal(await harness.get("/async"))
                assert await self.recognized(harness, good) is None
                assert harness.recording.calls == 0, "an expired credential is invalid, not absent"

    async def test_each_login_issues_a_new_credential(self, harness: Harness) -> None:
        found = [await self.obtain(harness, harness.alice) for _ in range(3)]
        assert len({credential.secret for credential in found}) == 3
        sessions = {(await harness.get("/async", one)).json()["session_id"] for one in found}
        assert len(sessions) == 3

    async def test_secret_is_returned_once(self, harness: Harness) -> None:
        answer = await harness.login(harness.name, harness.alice)
        raw = str(answer.headers.multi_items()) + answer.text
        assert raw.count(self.issued_credential(answer).secret) == 1
        assert answer.headers["cache-control"] == "no-store"

    async def test_stale_login_issues_no_credential(self, each_harness: Harness) -> None:
        harness = each_harness
        # The password changes, or the account ends, between verification and session.
        assert isinstance(harness.strategy, Issuer)
        accounts = harness.api.services.accounts
        bob = await harness.api.create_user()
        proofs = [
            harness.api.services.logins.complete_at_once(
                await accounts.authentication.authenticate(stored_email(user.email), PASSWORD)
            )
            for user in (harness.alice, bob)
        ]
        await accounts.passwords.set(harness.alice.id, NEW_PASSWORD)
        await harness.api.services.accounts.administration.change(bob.id, {"is_active": False})
        for proof in proofs:
            with pytest.raises(InvalidCredentials):
                await harness.strategy.issue(proof, connection({}))
        assert await count_rows(harness.api.services.database, "sessions") == 0


class RevocableContract(IssuerContract):
    """Tests for a strategy whose credentials a logout ends."""

    async def test_logout_ends_only_its_credential(
        self, each_harness: Harness, database_url: str
    ) -> None:
        harness = each_harness
        assert isinstance(harness.strategy, Revocable)
        mine, other = [await self.obtain(harness, harness.alice) for _ in range(2)]
        bob = await harness.api.create_user()
        foreign = await self.obtain(harness, bob)
        async with open_harness(
            self.spec, database_url, **self.settings
        ) as elsewhere:  # like another process
            assert (await elsewhere.get("/async", mine)).status_code == 200
            answer = await harness.request("POST", "/logout", mine)
            assert (answer.status_code, answer.content) == (204, b"")
            for place in (harness, elsewhere):
                if place is elsewhere:  # a notification tells it, in milliseconds
                    async with asyncio.timeout(_MAX_STALENESS):
                        while (await place.get("/async", mine)).status_code == 200:
                            pass
                for path in ("/async", "/sync"):
                    assert (await place.get(path, mine)).status_code == 401
                for other_credential in (other, foreign):
                    assert (await place.get("/async", other_credential)).status_code == 200
        again = await harness.request("POST", "/logout", mine)
        assert refusal(again) == refusal(await harness.get("/async"))

    async def test_owner_can_end_it_from_another_session(self, each_harness: Harness) -> None:
        harness = each_harness
        good = await self.obtain(harness, harness.alice)
        session = (await harness.get("/async", good)).json()["session_id"]
        owner = await harness.cookie(harness.alice)
        listed = (await harness.get("/me/sessions", owner)).json()
        assert session in [item["id"] for item in listed]
        answer = await harness.request("DELETE", f"/me/sessions/{session}", owner)
        assert answer.status_code == 204
        assert (await harness.get("/async", good)).status_code == 401
        assert (await harness.get("/me", owner)).status_code == 200


def _forms(secret: str) -> Iterator[bytes]:
    """Returns forms in which a secret could be stored or logged: whole, in parts, decoded."""
    for part in {secret, *secret.split(".")}:
        yield part.encode()
        body = part.rpartition("aat_")[2][:43]
        if len(body) == 43 and " " not in body:
            yield base64.urlsafe_b64decode(body + "=")
