"""The suite that every strategy passes, built-in or not.

Subclass the class that fits what the strategy can do, as a class that pytest collects:

    class TestApiKey(StrategyContract):
        spec = "my.package:ApiKey"            # as AUTHAPI_STRATEGIES names it
        async def obtain(...): ...            # a credential of a user
        def malformed(...): ...               # what the strategy knows as its own, and broken
        def unknown(...): ...                 # well formed, and nobody's

`StrategyContract` < `IssuerContract` < `RevocableContract`, as the strategies themselves. What
depends on rows runs on SQLite and on PostgreSQL. `RecognitionContract` is the part of it that needs
no database.
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
from authapi.services.addresses import parse_email
from authapi.strategies.registry import Registry
from authapi.testing import PASSWORD, Client, client
from authapi.web.challenges import extended
from authapi.web.schemas import IdentityOut
from tests.storage.rows import in_background
from tests.web.answers import METADATA

START = datetime(2031, 5, 6, 7, 8, 9, 654321, tzinfo=UTC)
"""Where a stopped clock begins: not on a whole second, which is where rounding shows."""
MOMENT = timedelta(microseconds=1)
NEW_PASSWORD = "another horse battery staple"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Credential:
    """What a client presents: as headers, and the part of it that nobody else may ever see."""

    headers: Headers
    secret: str


class Witness(Strategy):
    """Stands behind the strategy under test, notes that it was asked, and answers as it is told."""

    name = "witness"
    ambient = True

    answer: Identity | None = None
    asked = 0

    async def authenticate(self, connection: HTTPConnection) -> Identity | None:
        self.asked += 1
        return self.answer

    def challenge(self) -> Challenge:
        return Challenge("Witness")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "apiKey", "in": "header", "name": "X-Witness"}


@dataclass
class House:
    """An application of somebody's own, with authapi and the strategy under test installed."""

    app: FastAPI
    api: Client
    strategy: Strategy
    witness: Witness
    alice: User

    @property
    def name(self) -> str:
        """What routes call the strategy under test."""
        return self.strategy.name

    async def get(self, path: str, credential: Credential | Headers | None = None) -> Any:
        """GET with exactly this credential."""
        return await self.request("GET", path, credential)

    async def request(
        self,
        method: str,
        path: str,
        credential: Credential | Headers | None = None,
        **options: Any,
    ) -> httpx.Response:
        """A request with exactly this credential; what the answer sets is not kept."""
        headers = credential.headers if isinstance(credential, Credential) else credential or {}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        response = await self.api.request(method, path, headers=raw, **options)
        self.api.cookies.clear()
        return response

    async def login(self, strategy: str, user: User, **options: Any) -> httpx.Response:
        """POST /login."""
        body = {"email": user.email, "password": PASSWORD, "strategy": strategy, **options}
        response = await self.request("POST", "/login", json=body)
        assert response.status_code == 200, response.text
        return response

    async def cookie(self, user: User) -> Credential:
        """A cookie session of `user`, to do with their account what its owner may."""
        return cookie_of(await self.login("session", user))


@asynccontextmanager
async def open_house(spec: str, database_url: str, **changes: object) -> AsyncIterator[House]:
    """A House whose strategies are `spec`, the cookie session, and the witness."""
    named = tuple(dict.fromkeys((spec, "session", "tests.strategies.contract:Witness")))
    values = {"database_url": database_url, "strategies": named, **changes}
    auth = AuthAPI(Settings(**values))  # type: ignore[arg-type]  # pydantic validates
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with furnished(app, auth.runtime.registry) as house:
        yield house


@asynccontextmanager
async def furnished(app: FastAPI, registry: Registry) -> AsyncIterator[House]:
    """A House of an application whose first strategy is under test, and another is the witness."""
    strategy, witness = next(iter(registry)), registry["witness"]
    assert isinstance(witness, Witness)
    mine = Annotated[Identity, Depends(current_identity(strategy.name))]
    either = Annotated[Identity, Depends(current_identity(strategy.name, "witness"))]

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
        yield House(app, api, strategy, witness, alice)


def cookie_of(response: httpx.Response) -> Credential:
    """The cookie that an answer sets."""
    pair = response.headers["set-cookie"].partition(";")[0]
    return Credential({"Cookie": pair}, pair.partition("=")[2])


def bearer_of(response: httpx.Response) -> Credential:
    """The bearer token that an answer carries."""
    token = response.json()["access_token"]
    return Credential({"Authorization": f"Bearer {token}"}, token)


def refusal(response: httpx.Response) -> dict[str, Any]:
    """What a 401 says, without what is different in each."""
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body.pop("request_id") == response.headers["x-request-id"]
    assert isinstance(body, dict)
    return body


def connection(headers: Headers) -> HTTPConnection:
    """A request with these headers, as a strategy sees it."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw, "client": None})


@dataclass
class Statements:
    """The SQL that ran."""

    texts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


@contextmanager
def statements(api: Client) -> Iterator[Statements]:
    """Everything that is sent to the application's database inside this block."""
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
    """How many rows `sessions` has."""
    async with api.services.database.engine.connect() as connection:
        found = await connection.execute(sa.text("SELECT count(*) FROM sessions"))
        return int(found.scalar_one())


async def dump(api: Client) -> list[bytes]:
    """Every value of both tables, as it lies there."""
    found: list[bytes] = []
    async with api.services.database.engine.connect() as connection:
        for table in ("users", "sessions"):
            # As plain text, so that no column type of ours hides or changes anything.
            for row in await connection.execute(sa.text(f"SELECT * FROM {table}")):
                found += [value if isinstance(value, bytes) else _plain(value) for value in row]
    return found


def _plain(value: object) -> bytes:
    return (value if isinstance(value, str) else json.dumps(value, default=str)).encode()


class RecognitionContract(ABC):
    """What holds for every strategy, whatever it stands on. Subclasses give the fixture `house`."""

    @abstractmethod
    async def obtain(self, house: House, user: User) -> Credential:
        """A good credential of `user`."""

    @abstractmethod
    def malformed(self, house: House, good: Credential) -> dict[str, Headers]:
        """Credentials that are its own and cannot be good, by what is wrong with them."""

    @abstractmethod
    def unknown(self, house: House, good: Credential) -> dict[str, Headers]:
        """Well-formed credentials that only the database can tell to be nobody's."""

    async def test_the_three_answers(self, house: House) -> None:
        ask = house.strategy.authenticate
        good = await self.obtain(house, house.alice)
        assert await ask(connection({})) is None
        assert await ask(connection({"X-Other": good.secret, "Cookie": "other=x"})) is None
        identity = await ask(connection(good.headers))
        assert isinstance(identity, Identity)
        assert (identity.user.id, identity.strategy) == (house.alice.id, house.name)
        for reason, headers in (self.malformed(house, good) | self.unknown(house, good)).items():
            try:
                answer = await ask(connection(headers))
            except InvalidCredential:
                continue
            pytest.fail(f"{reason}: {answer}, where it should refuse")

    async def test_absent_lets_the_next_be_asked(self, house: House) -> None:
        assert await self.recognised(house, None) is None
        assert house.witness.asked == 1
        house.witness.answer = _identity(house.alice)
        answer = await house.get("/either")
        assert (answer.status_code, answer.json()["strategy"]) == (200, "witness")

    async def test_users_are_told_apart(self, house: House) -> None:
        bob = await house.api.create_user()
        for user in (house.alice, bob):
            good = await self.obtain(house, user)
            assert (await house.get("/async", good)).json()["user_id"] == str(user.id)

    async def test_bad_is_final(self, house: House) -> None:
        house.witness.answer = _identity(house.alice)
        good = await self.obtain(house, house.alice)
        same = refusal(await house.get("/async"))
        bad = self.malformed(house, good) | self.unknown(house, good)
        assert bad
        for reason, headers in bad.items():
            answer = await house.get("/either", headers)
            assert answer.status_code == 401, reason
            assert refusal(answer) == same, reason
            assert house.witness.asked == 0, reason
        assert (await house.get("/either", good)).status_code == 200, "and good is still good"

    async def test_def_and_async_def_are_the_same(self, house: House) -> None:
        good = await self.obtain(house, house.alice)
        assert (await house.get("/sync", good)).json()["user_id"] == str(house.alice.id)
        bad = self.malformed(house, good) | self.unknown(house, good)
        bad["nothing"] = {}
        for reason, headers in bad.items():
            first, second = await house.get("/async", headers), await house.get("/sync", headers)
            assert refusal(first) == refusal(second), reason
            challenges = [r.headers.get_list("www-authenticate") for r in (first, second)]
            assert challenges[0] == challenges[1], reason

    async def test_its_challenge_is_in_a_401(self, house: House) -> None:
        # One for bearer tokens also says where to read who gives them.
        own = str(extended(house.strategy.challenge(), {"resource_metadata": METADATA}))
        assert (await house.get("/async")).headers.get_list("www-authenticate") == [own]
        both = (await house.get("/either")).headers.get_list("www-authenticate")
        assert sorted(both) == sorted([own, "Witness"])

    async def test_it_is_in_the_openapi_document(self, house: House) -> None:
        document = house.app.openapi()
        scheme = document["components"]["securitySchemes"][house.name]
        assert scheme == house.strategy.openapi()
        assert scheme["type"] in {"apiKey", "http", "oauth2", "openIdConnect"}
        assert document["paths"]["/async"]["get"]["security"] == [{house.name: []}]
        either = document["paths"]["/either"]["get"]["security"]
        assert sorted(item.popitem()[0] for item in either) == sorted([house.name, "witness"])

    async def test_no_secret_is_logged(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG")
        good = await self.obtain(house, house.alice)
        await house.get("/async", good)
        bad = self.malformed(house, good) | self.unknown(house, good)
        for headers in bad.values():
            await house.get("/async", headers)
        assert good.secret not in caplog.text

    async def recognised(self, house: House, credential: Credential | Headers | None) -> str | None:
        """The strategy that recognises it at /either, if any."""
        answer = await house.get("/either", credential)
        return answer.json()["strategy"] if answer.status_code == 200 else None


class StrategyContract(RecognitionContract):
    """What holds for every strategy whose users are rows of our database."""

    spec: ClassVar[str]
    """As the settings name it."""
    settings: ClassVar[Mapping[str, object]] = {}
    """Whatever else it needs to be set."""
    amr: ClassVar[tuple[str, ...]] = ("pwd",)
    """What its identities tell of how they were proved."""
    has_session = True
    """Whether a session stands behind its credentials."""
    remembered = False
    """Whether a caller is known without a query after the first request."""

    @pytest.fixture
    async def house(self, sqlite_url: str) -> AsyncIterator[House]:
        async with open_house(self.spec, sqlite_url, **self.settings) as found:
            yield found

    @pytest.fixture
    async def each_house(self, database_url: str) -> AsyncIterator[House]:
        """On SQLite and on PostgreSQL: for tests that depend on what lies in the rows."""
        async with open_house(self.spec, database_url, **self.settings) as found:
            yield found

    async def test_good_is_an_identity(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        answer = await house.get("/either", good)
        assert answer.status_code == 200, answer.text
        seen = answer.json()
        assert seen["user_id"] == str(house.alice.id)
        assert seen["strategy"] == house.name
        assert seen["amr"] == list(self.amr)
        assert house.witness.asked == 0, "the first that recognises its kind decides"
        assert await count_sessions(house.api) == (1 if self.has_session else 0)
        if self.has_session:
            session = UUID(seen["session_id"])
            assert await house.api.services.sessions.data_of(session) == {}
            assert seen["expires_at"] is not None
        else:
            assert seen["session_id"] is None

    async def test_what_it_costs(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        for path in ("/async", "/sync"):
            with statements(house.api) as seen:
                assert (await house.get(path)).status_code == 401
            assert len(seen) == 0, "nothing to look up"
            house.api.services.known.forget()
            with statements(house.api) as seen:
                assert (await house.get(path, good)).status_code == 200
            assert len(seen) == 1, seen.texts
            assert seen.texts[0].startswith("SELECT")
            with statements(house.api) as seen:
                assert (await house.get(path, good)).status_code == 200
            assert len(seen) == (0 if self.remembered else 1), "is the caller known now?"
        for reason, headers in self.malformed(house, good).items():
            with statements(house.api) as seen:
                assert (await house.get("/async", headers)).status_code == 401, reason
            assert len(seen) == 0, reason
        for reason, headers in self.unknown(house, good).items():
            with statements(house.api) as seen:
                assert (await house.get("/async", headers)).status_code == 401, reason
            looked_up = [text for text in seen.texts if text.startswith("SELECT")]
            assert len(looked_up) == 1, reason
            # A wrong password is written down as an event; a credential without one only logged.
            assert len(seen) == 1 or house.strategy.name == "basic", reason

    async def test_no_secret_is_stored(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        assert (await house.get("/async", good)).status_code == 200
        await house.api.services.activity.flush()
        values = await dump(house.api)
        assert any(house.alice.email.encode() in value for value in values), "a real dump"
        for form in _forms(good.secret):
            assert not any(form in value for value in values)

    async def test_deactivation_ends_it(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        assert (await house.get("/async", good)).status_code == 200
        await house.api.services.accounts.set_active(house.alice.id, active=False)
        assert (await house.get("/async", good)).status_code == 401
        assert (await house.get("/sync", good)).status_code == 401

    async def test_deletion_ends_it(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        assert (await house.get("/async", good)).status_code == 200
        await house.api.services.accounts.delete(house.alice.id)
        refused = await house.get("/async", good)
        assert refusal(refused) == refusal(await house.get("/async"))

    async def test_a_change_of_password_ends_it(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        assert (await house.get("/async", good)).status_code == 200
        change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
        owner = await house.cookie(house.alice)
        answer = await house.request("POST", "/me/password", owner, json=change)
        assert answer.status_code == 204, answer.text
        assert (await house.get("/async", good)).status_code == 401


class IssuerContract(StrategyContract):
    """What holds for a strategy that a login can end in."""

    def presented(self, response: httpx.Response) -> Credential:
        """What the answer of a login gives to its client."""
        return bearer_of(response)

    async def obtain(self, house: House, user: User) -> Credential:
        return self.presented(await house.login(house.name, user))

    async def test_a_credential_works_at_once_and_until_it_expires(self, database_url: str) -> None:
        with time_machine.travel(START, tick=False) as clock:
            async with open_house(self.spec, database_url, **self.settings) as house:
                answer = await house.login(house.name, house.alice)
                assert answer.json()["strategy"] == house.name
                assert answer.json()["user"]["id"] == str(house.alice.id)
                good = self.presented(answer)
                seen = await house.get("/async", good)
                assert seen.status_code == 200
                ends = datetime.fromisoformat(answer.json()["expires_at"])
                told = datetime.fromisoformat(seen.json()["expires_at"])
                assert abs(told - ends) < timedelta(seconds=1)
                assert datetime.fromisoformat(seen.json()["auth_time"]) == START
                for tenth in range(1, 10):  # in steps, so that it never lies idle for long
                    clock.move_to(START + (ends - START) * tenth / 10, tick=False)
                    assert (await house.get("/async", good)).status_code == 200, tenth
                clock.move_to(ends - MOMENT, tick=False)
                assert (await house.get("/async", good)).status_code == 200
                clock.move_to(ends, tick=False)
                refused = await house.get("/async", good)
                assert refusal(refused) == refusal(await house.get("/async"))
                assert await self.recognised(house, good) is None
                assert house.witness.asked == 0, "an expired credential is bad, not absent"

    async def test_each_login_gives_another(self, house: House) -> None:
        found = [await self.obtain(house, house.alice) for _ in range(3)]
        assert len({credential.secret for credential in found}) == 3
        sessions = {(await house.get("/async", one)).json()["session_id"] for one in found}
        assert len(sessions) == 3

    async def test_the_secret_is_told_once(self, house: House) -> None:
        answer = await house.login(house.name, house.alice)
        raw = str(answer.headers.multi_items()) + answer.text
        assert raw.count(self.presented(answer).secret) == 1
        assert answer.headers["cache-control"] == "no-store"

    async def test_a_proof_that_is_out_of_date_gives_none(self, each_house: House) -> None:
        house = each_house
        # Between the proof and the session somebody changes the password, or the account ends.
        assert isinstance(house.strategy, Issuer)
        accounts = house.api.services.accounts
        bob = await house.api.create_user()
        proofs = [
            await accounts.prove(parse_email(user.email), PASSWORD) for user in (house.alice, bob)
        ]
        await accounts.set_password(house.alice.id, NEW_PASSWORD)
        await accounts.set_active(bob.id, active=False)
        for proof in proofs:
            with pytest.raises(InvalidCredentials):
                await house.strategy.issue(proof, connection({}))
        assert await count_sessions(house.api) == 0


class RevocableContract(IssuerContract):
    """What holds for a strategy whose credentials a logout ends."""

    async def test_logout_ends_it_and_nothing_else(
        self, each_house: House, database_url: str
    ) -> None:
        house = each_house
        assert isinstance(house.strategy, Revocable)
        mine, other = [await self.obtain(house, house.alice) for _ in range(2)]
        bob = await house.api.create_user()
        foreign = await self.obtain(house, bob)
        async with open_house(
            self.spec, database_url, **self.settings
        ) as elsewhere:  # another process, as it were
            assert (await elsewhere.get("/async", mine)).status_code == 200
            answer = await house.request("POST", "/logout", mine)
            assert (answer.status_code, answer.content) == (204, b"")
            for place in (house, elsewhere):
                for path in ("/async", "/sync"):
                    assert (await place.get(path, mine)).status_code == 401
                for alive in (other, foreign):
                    assert (await place.get("/async", alive)).status_code == 200
        again = await house.request("POST", "/logout", mine)
        assert refusal(again) == refusal(await house.get("/async"))

    async def test_its_owner_can_end_it_from_elsewhere(self, each_house: House) -> None:
        house = each_house
        good = await self.obtain(house, house.alice)
        session = (await house.get("/async", good)).json()["session_id"]
        owner = await house.cookie(house.alice)
        listed = (await house.get("/me/sessions", owner)).json()
        assert session in [item["id"] for item in listed]
        answer = await house.request("DELETE", f"/me/sessions/{session}", owner)
        assert answer.status_code == 204
        assert (await house.get("/async", good)).status_code == 401
        assert (await house.get("/me", owner)).status_code == 200


def _identity(user: User) -> Identity:
    return Identity(
        user=user,
        strategy="witness",
        session_id=None,
        scopes=frozenset(),
        auth_time=START,
        amr=(),
        expires_at=None,
    )


def _forms(secret: str) -> Iterator[bytes]:
    """The ways in which a secret could lie around: as it is, in parts, decoded."""
    for part in {secret, *secret.split(".")}:
        yield part.encode()
        body = part.rpartition("aat_")[2][:43]
        if len(body) == 43 and " " not in body:
            yield base64.urlsafe_b64decode(body + "=")
