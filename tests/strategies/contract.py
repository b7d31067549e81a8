"""The test suite for strategies, built-in and custom.

Subclass the contract that matches the base class of the strategy, in a module that pytest collects:

    class TestApiKey(StrategyContract):
        spec = "my.package:ApiKey"            # as AUTHAPI_STRATEGIES names it
        async def obtain(...): ...            # a credential of a user
        def malformed(...): ...               # credentials of its kind that are malformed
        def unknown(...): ...                 # well-formed credentials that do not exist

`StrategyContract`, `IssuerContract` and `RevocableContract` extend one another, as the base classes
of the strategies do. Tests that depend on rows run on SQLite and on PostgreSQL.
`AuthenticationContract` has the tests that need no database.
"""

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar
from uuid import UUID

import httpx
import pytest
import sqlalchemy as sa
import time_machine
from fastapi import Depends, FastAPI
from sqlalchemy import event
from starlette.requests import HTTPConnection

from authapi import (
    AuthAPI,
    Challenge,
    Identity,
    Issuer,
    Revocable,
    Settings,
    Strategy,
    User,
    current_identity,
)
from authapi.errors import InvalidCredential, InvalidCredentials
from authapi.services.email_address import parse_email
from authapi.strategies.registry import Registry
from authapi.testing import PASSWORD, Client, client
from authapi.web.challenges import with_parameters
from authapi.web.schemas.login import IdentityOut
from tests.storage.rows import in_background
from tests.web.responses import METADATA

START = datetime(2031, 5, 6, 7, 8, 9, 654321, tzinfo=UTC)
"""The start of a stopped clock. It is no whole second, so that rounding shows."""
MOMENT = timedelta(microseconds=1)
NEW_PASSWORD = "another horse battery staple"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Credential:
    """A credential: its request headers, and the secret part of them."""

    headers: Headers
    secret: str


class RecordingStrategy(Strategy):
    """A strategy that the resolver tries last. It counts its calls and returns a fixed result."""

    name = "recording"
    ambient = True

    result: Identity | None = None
    calls = 0

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        self.calls += 1
        return self.result

    def challenge(self) -> Challenge:
        return Challenge("RecordingStrategy")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-RecordingStrategy"}


@dataclass
class Harness:
    """An importing application with the strategy under test."""

    app: FastAPI
    api: Client
    strategy: Strategy
    recording: RecordingStrategy
    alice: User

    @property
    def name(self) -> str:
        """The name of the strategy under test."""
        return self.strategy.name

    async def get(self, path: str, credential: Credential | Headers | None = None) -> Any:
        """Sends GET with exactly this credential; returns the response."""
        return await self.request("GET", path, credential)

    async def request(
        self,
        method: str,
        path: str,
        credential: Credential | Headers | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Sends a request with exactly this credential. Cookies of the response are not stored."""
        headers = credential.headers if isinstance(credential, Credential) else credential or {}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        response = await self.api.request(method, path, headers=raw, **options)
        self.api.cookies.clear()
        return response

    async def login(self, strategy: str, user: User, **options: Any) -> httpx.Response:
        """Logs in; returns the response."""
        body = {"email": user.email, "password": PASSWORD, "strategy": strategy, **options}
        response = await self.request("POST", "/login", json=body)
        assert response.status_code == 200, response.text
        return response

    async def cookie(self, user: User) -> Credential:
        """Logs in with a cookie, to manage the account of `user`."""
        return cookie_of(await self.login("session", user))


@asynccontextmanager
async def open_harness(spec: str, database_url: str, **changes: object) -> AsyncIterator[Harness]:
    """Runs an application with the strategies `spec`, session and `RecordingStrategy`."""
    named = tuple(dict.fromkeys((spec, "session", "tests.strategies.contract:RecordingStrategy")))
    values = {"database_url": database_url, "strategies": named, **changes}
    auth = AuthAPI(Settings(**values))  # type: ignore[arg-type]  # pydantic validates
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with harness_for(app, auth.runtime.registry) as harness:
        yield harness


@asynccontextmanager
async def harness_for(app: FastAPI, registry: Registry) -> AsyncIterator[Harness]:
    """Runs `app`. The first strategy of `registry` is under test; one is `RecordingStrategy`."""
    strategy, recording = next(iter(registry)), registry["recording"]
    assert isinstance(recording, RecordingStrategy)
    mine = Annotated[Identity, Depends(current_identity(strategy.name))]
    either = Annotated[Identity, Depends(current_identity(strategy.name, "recording"))]

    @app.get("/async")
    async def in_async(identity: mine) -> IdentityOut:
        return IdentityOut.of(identity)

    @app.get("/sync")
    def in_sync(identity: mine) -> IdentityOut:
        return IdentityOut.of(identity)

    @app.get("/either")
    async def in_either(identity: either) -> IdentityOut:
        return IdentityOut.of(identity)

    async with client(app) as api:
        alice = await api.create_user()
        yield Harness(app, api, strategy, recording, alice)


def cookie_of(response: httpx.Response) -> Credential:
    """Returns the cookie that a response sets."""
    pair = response.headers["set-cookie"].partition(";")[0]
    return Credential({"Cookie": pair}, pair.partition("=")[2])


def bearer_of(response: httpx.Response) -> Credential:
    """Returns the bearer token in a response."""
    token = response.json()["access_token"]
    return Credential({"Authorization": f"Bearer {token}"}, token)


def refusal(response: httpx.Response) -> dict[str, Any]:
    """Checks a 401 response; returns its body without the request id."""
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body.pop("request_id") == response.headers["x-request-id"]
    assert isinstance(body, dict)
    return body


def connection(headers: Headers) -> HTTPConnection:
    """Returns a connection with these headers, as a strategy receives it."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "client": None})


@dataclass
class Statements:
    """The executed SQL statements."""

    texts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


@contextmanager
def statements(api: Client) -> Iterator[Statements]:
    """Records the SQL statements of the application inside the block."""
    engine, seen = api.services.database.engine.sync_engine, Statements()

    def note(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not in_background():
            seen.texts.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def count_sessions(api: Client) -> int:
    """Returns the number of rows in `sessions`."""
    async with api.services.database.engine.connect() as connection:
        found = await connection.execute(sa.text("SELECT count(*) FROM sessions"))
        return int(found.scalar_one())


async def dump(api: Client) -> list[bytes]:
    """Returns every stored value of the tables `users` and `sessions`."""
    found: list[bytes] = []
    async with api.services.database.engine.connect() as connection:
        for table in ("users", "sessions"):
            # Raw SQL: authapi's column types would convert values.
            for row in await connection.execute(sa.text(f"SELECT * FROM {table}")):
                found += [value if isinstance(value, bytes) else _plain(value) for value in row]
    return found


def _plain(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()


class AuthenticationContract(ABC):
    """Tests for every strategy. Subclasses define the fixture `harness`."""

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
        ask = harness.strategy.authenticate
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
        harness.recording.result = _identity(harness.alice)
        answer = await harness.get("/either")
        assert (answer.status_code, answer.json()["strategy"]) == (200, "recording")

    async def test_identities_of_two_users_differ(self, harness: Harness) -> None:
        bob = await harness.api.create_user()
        for user in (harness.alice, bob):
            good = await self.obtain(harness, user)
            assert (await harness.get("/async", good)).json()["user_id"] == str(user.id)

    async def test_invalid_credential_tries_no_other_strategy(self, harness: Harness) -> None:
        harness.recording.result = _identity(harness.alice)
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
        own = str(with_parameters(harness.strategy.challenge(), {"resource_metadata": METADATA}))
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
    remembered = False
    """Whether the identity cache answers after the first request."""

    @pytest.fixture
    async def harness(self, sqlite_url: str) -> AsyncIterator[Harness]:
        async with open_harness(self.spec, sqlite_url, **self.settings) as found:
            yield found

    @pytest.fixture
    async def each_house(self, database_url: str) -> AsyncIterator[Harness]:
        """A harness on SQLite and on PostgreSQL, for tests that depend on stored rows."""
        async with open_harness(self.spec, database_url, **self.settings) as found:
            yield found

    async def test_valid_credential_returns_an_identity(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        answer = await harness.get("/either", good)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert seen["user_id"] == str(harness.alice.id)
        assert seen["strategy"] == harness.name
        assert seen["amr"] == list(self.amr)
        assert harness.recording.calls == 0, "the first strategy with a credential decides"
        assert await count_sessions(harness.api) == (1 if self.has_session else 0)
        if self.has_session:
            session = UUID(seen["session_id"])
            assert await harness.api.services.sessions.get_data(session) == {}
            assert seen["expires_at"] is not None
        else:
            assert seen["session_id"] is None

    async def test_number_of_database_statements(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        for path in ("/async", "/sync"):
            with statements(harness.api) as seen:
                assert (await harness.get(path)).status_code == 401
            assert len(seen) == 0, "no query"
            harness.api.services.identity_cache.clear()
            with statements(harness.api) as seen:
                assert (await harness.get(path, good)).status_code == 200
            assert len(seen) == 1, seen.texts
            assert seen.texts[0].startswith("SELECT")
            with statements(harness.api) as seen:
                assert (await harness.get(path, good)).status_code == 200
            assert len(seen) == (0 if self.remembered else 1), "answered from the cache?"
        for reason, headers in self.malformed(harness, good).items():
            with statements(harness.api) as seen:
                assert (await harness.get("/async", headers)).status_code == 401, reason
            assert len(seen) == 0, reason
        for reason, headers in self.unknown(harness, good).items():
            with statements(harness.api) as seen:
                assert (await harness.get("/async", headers)).status_code == 401, reason
            looked_up = [text for text in seen.texts if text.startswith("SELECT")]
            assert len(looked_up) == 1, reason
            # A wrong password is recorded as an event. Other invalid credentials are only logged.
            assert len(seen) == 1 or harness.strategy.name == "basic", reason

    async def test_no_secret_is_stored(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.last_used.flush()
        values = await dump(harness.api)
        assert any(harness.alice.email.encode() in value for value in values), "the dump has values"
        for form in _forms(good.secret):
            assert not any(form in value for value in values)

    async def test_deactivation_ends_the_credential(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.administration.change(harness.alice.id, {"is_active": False})
        assert (await harness.get("/async", good)).status_code == 401
        assert (await harness.get("/sync", good)).status_code == 401

    async def test_deletion_ends_the_credential(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        assert (await harness.get("/async", good)).status_code == 200
        await harness.api.services.accounts.delete(harness.alice.id)
        refused = await harness.get("/async", good)
        assert refusal(refused) == refusal(await harness.get("/async"))

    async def test_password_change_ends_the_credential(self, each_house: Harness) -> None:
        harness = each_house
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

    async def test_stale_login_issues_no_credential(self, each_house: Harness) -> None:
        harness = each_house
        # The password changes, or the account ends, between verification and session.
        assert isinstance(harness.strategy, Issuer)
        accounts = harness.api.services.accounts
        bob = await harness.api.create_user()
        proofs = [
            await accounts.authenticate(parse_email(user.email), PASSWORD)
            for user in (harness.alice, bob)
        ]
        await accounts.set_password(harness.alice.id, NEW_PASSWORD)
        await harness.api.services.administration.change(bob.id, {"is_active": False})
        for proof in proofs:
            with pytest.raises(InvalidCredentials):
                await harness.strategy.issue(proof, connection({}))
        assert await count_sessions(harness.api) == 0


class RevocableContract(IssuerContract):
    """Tests for a strategy whose credentials a logout ends."""

    async def test_logout_ends_only_its_credential(
        self, each_house: Harness, database_url: str
    ) -> None:
        harness = each_house
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
                for path in ("/async", "/sync"):
                    assert (await place.get(path, mine)).status_code == 401
                for other_credential in (other, foreign):
                    assert (await place.get("/async", other_credential)).status_code == 200
        again = await harness.request("POST", "/logout", mine)
        assert refusal(again) == refusal(await harness.get("/async"))

    async def test_owner_can_end_it_from_another_session(self, each_house: Harness) -> None:
        harness = each_house
        good = await self.obtain(harness, harness.alice)
        session = (await harness.get("/async", good)).json()["session_id"]
        owner = await harness.cookie(harness.alice)
        listed = (await harness.get("/me/sessions", owner)).json()
        assert session in [item["id"] for item in listed]
        answer = await harness.request("DELETE", f"/me/sessions/{session}", owner)
        assert answer.status_code == 204
        assert (await harness.get("/async", good)).status_code == 401
        assert (await harness.get("/me", owner)).status_code == 200


def _identity(user: User) -> Identity:
    return Identity(
        user=user,
        strategy="recording",
        session_id=None,
        scopes=frozenset(),
        auth_time=START,
        amr=(),
        expires_at=None,
    )


def _forms(secret: str) -> Iterator[bytes]:
    """Returns forms in which a secret could be stored or logged: whole, in parts, decoded."""
    for part in {secret, *secret.split(".")}:
        yield part.encode()
        body = part.rpartition("aat_")[2][:43]
        if len(body) == 43 and " " not in body:
            yield base64.urlsafe_b64decode(body + "=")
