"""schemathesis over the OpenAPI document: what it says is so, and what it does not say is refused.

Driven by schemathesis' engine, as its command line is, with the application in this process. (Its
pytest plugin cannot change the names of pytest 9.2's items, and would build all cases already when
tests are collected.)
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import AuthContext, Case, hooks
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.hooks import HookContext
from schemathesis.python.asgi import shutdown_lifespans
from schemathesis.schemas import BaseSchema

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.identity import Identity, User
from authapi.services import Services
from authapi.services.accounts.cursors import cursor_behind
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.storage.tables.one_time_secrets import Purpose
from authapi.storage.tables.users import UserOrder
from authapi.testing import PASSWORD
from tests.conftest import SettingsFactory
from tests.web.logins import Headers, sign_in
from tests.web.operations import operations

CONFIG: dict[str, Any] = {
    "seed": 1,
    "generation": {
        "deterministic": True,
        "database": "none",
        # JSON Schema has no word for "no string anywhere holds NUL", in what a session keeps least
        # of all. That it is refused everywhere is tested in tests/hostile.
        "allow-x00": False,
    },
    "phases": {
        # Ids in answers differ from run to run, and must not steer what is sent.
        name: {"extra-data-sources": {"responses": False}}
        for name in ("examples", "coverage", "fuzzing")
    },
    # All checks are on.
    "checks": {
        # A well-formed If-Match may name another state than the present one: 412.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "412"]
        },
        # Beside what it expects by itself: a member may be so long that the body is.
        "negative_data_rejection": {
            "expected-statuses": [
                *("400", "401", "403", "404", "405", "406", "409"),
                *("413", "415", "422", "428", "429", "5xx"),
            ]
        },
    },
}
PHASES = {
    # Who, and how many examples in which phases. Coverage tries every limit of every member, which
    # is the same whatever a caller is recognised by, so two look at it: nobody and a session.
    "nobody": (8, ["examples", "coverage", "fuzzing"]),
    "session": (12, ["examples", "coverage", "fuzzing"]),
    "token": (6, ["examples", "fuzzing"]),
    "jwt": (6, ["examples", "fuzzing"]),
}
PURPOSES = {
    "/email/confirm": Purpose.CONFIRM,
    "/email/undo": Purpose.UNDO,
    "/password/reset": Purpose.RESET,
    "/invitation/accept": Purpose.INVITATION,
}
"""What a one-time secret of each route is for."""
# JSON Schema's "email" is wider than what we take: this is the part that both agree on.
schemathesis.openapi.format("email", st.from_regex(r"[a-z]{1,9}@[a-z]{2,9}\.com", fullmatch=True))


class Accounts:
    """Makes a fresh account with a fresh login for each request, so that none is in the way.

    Otherwise the first logout would make everything behind it trivial.
    """

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._services = Services.build(settings)
        self._numbers = itertools.count()
        self._hash = self._runner.run(self._start())

    def close(self) -> None:
        self._runner.run(self._services.stop())
        self._runner.close()

    def login(self, strategy: str, *, superuser: bool = False) -> Headers:
        """The headers of a new login of a new account."""
        return self._runner.run(self._login(strategy, superuser))

    def ids(self) -> dict[str, str]:
        """What the owner of the newest account may name in a path: a session, a token, and, for a
        superuser, the account of somebody else, who is invited and has not come yet.
        """
        return self._runner.run(self._ids())

    async def _start(self) -> PasswordHash:
        await self._services.open()  # nothing in the background: it would run in turns only
        return await self._services.passwords.hash(PASSWORD)

    async def _add(self, superuser: bool = False, *, waits: bool = False) -> User:
        email, at = f"user{next(self._numbers)}@example.org", now()
        user = User(new_id(), email, None, True, superuser, None, at, at)
        async with self._services.database.transaction() as store:
            password_hash = None if waits else self._hash
            await store.users.add(user, email=email, password_hash=password_hash)
        return user

    async def _login(self, strategy: str, superuser: bool) -> Headers:
        self._user = await self._add(superuser)
        return await sign_in(self._services, self._user, strategy)

    async def _ids(self) -> dict[str, str]:
        await sign_in(self._services, self._user, "token")
        [session, *_] = await self._services.sessions.list_of(self._user.id)
        owner = Identity(self._user, "session", None, frozenset(), now(), ("pwd",), None)
        token, _ = await self._services.tokens.create(owner, name="x", scopes=None, lifetime=None)
        other = await self._add(waits=True)
        ids = {"session_id": session.id, "token_id": token.id, "user_id": other.id}
        return {name: str(value) for name, value in ids.items()}

    def one_time_secret(self, purpose: Purpose) -> tuple[str, str]:
        """What a mail would have said to the owner of a new account, and their address."""
        return self._runner.run(self._secret(purpose))

    async def _secret(self, purpose: Purpose) -> tuple[str, str]:
        user = await self._add()
        one_time = OneTimeSecrets(self._services.database, self._services.settings)
        async with self._services.database.transaction() as store:
            return (await one_time.make(store, user, purpose)).text, user.email

    def cursor(self, sort: str) -> str:
        """Where a list of accounts goes on behind the newest, in this order."""
        return cursor_behind(self._user, UserOrder(sort))


@pytest.fixture(autouse=True)
def _every_password_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    # JSON Schema has no word for "not one that too many people have"; tests/services has.
    monkeypatch.setattr("authapi.services.passwords.is_common", lambda _: False)


@pytest.fixture
def settings(make_settings: SettingsFactory) -> Settings:
    return make_settings(
        secret=SecretStr("s" * 32),
        scopes={"reports:read": "Read reports", "b": "Another", "introspect": "Ask"},
        jwt_audiences=("billing", "urn:reports"),
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    yield create_app(settings)
    shutdown_lifespans()


@pytest.fixture
def accounts(settings: Settings) -> Iterator[Accounts]:
    found = Accounts(settings)
    yield found
    found.close()


def run(schema: BaseSchema) -> tuple[list[str], dict[str, set[int]]]:
    """What schemathesis finds, and the statuses that it has seen of each operation."""
    found: list[str] = []
    seen = defaultdict[str, set[int]](set)
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            recorder = event.recorder
            for case_id, node in recorder.cases.items():
                interaction = recorder.interactions.get(case_id)
                if interaction is not None and interaction.response is not None:
                    seen[node.value.operation.label].add(interaction.response.status_code)
            checks = itertools.chain.from_iterable(recorder.checks.values())
            failures = [check.failure_info for check in checks if check.failure_info]
            found += [f"{failure.failure}\n{failure.code_sample}" for failure in failures]
    return found, seen


def load(app: FastAPI, examples: int, phases: list[str]) -> BaseSchema:
    config = SchemathesisConfig.from_dict(CONFIG)
    schema = schemathesis.openapi.from_dict(app.openapi(), config=config)
    schema.app = app
    schema.config.generation.update(max_examples=examples)
    schema.config.phases.update(phases=phases)
    return schema


@pytest.mark.slow
@pytest.mark.parametrize(
    "who",
    [
        pytest.param(who, marks=[pytest.mark.slow] if "coverage" in phases else [])
        for who, (_, phases) in PHASES.items()
    ],
)
def test_it_finds_nothing(settings: Settings, accounts: Accounts, who: str) -> None:
    # schemathesis does not see that a scheme of type oauth2 also goes into Authorization, and would
    # take our JWT for no credential. Without the docs page the document has the type http.
    app = create_app(settings.model_copy(update={"docs": who != "jwt"}))
    schema = load(app, *PHASES[who])
    # What is open is tried by nobody, also where a login may come along as proof.
    mine = [
        item
        for item in operations(app)
        if who == "nobody" or (who in item.strategies and not item.is_open)
    ]
    names = {str(item) for item in mine}
    schema = schema.include(lambda context: context.operation.label in names)
    turn = itertools.count()

    def with_secret(case: Case[Any]) -> None:
        purpose = PURPOSES.get(case.operation.path)
        is_good = case.meta is not None and case.meta.generation.mode.is_positive
        if purpose is not None and is_good and isinstance(case.body, dict):
            # JSON Schema has no word for "what came by mail" either.
            secret, email = accounts.one_time_secret(purpose)
            typed = {"email": email} if case.body.get("email") else {}
            case.body = {**case.body, "token": secret, **typed}

    if who != "nobody":

        @schema.auth(refresh_interval=None)
        class Login:
            def get(self, case: Case[Any], _: AuthContext) -> Headers:
                return accounts.login(who, superuser=case.operation.path.startswith("/admin/"))

            def set(self, case: Case[Any], data: Headers, _: AuthContext) -> None:
                case.headers.update(data)
                is_good = case.meta is not None and case.meta.generation.mode.is_positive
                # A good id is one of their own every second time, else nobody's.
                if case.path_parameters and is_good and next(turn) % 2:
                    own = accounts.ids()
                    case.path_parameters = {name: own[name] for name in case.path_parameters}

                if is_good and "authorization" in case.headers and isinstance(case.body, dict):
                    # JSON Schema has no word for "not beside that header" (RFC 6749, section 2.3).
                    case.body = {k: v for k, v in case.body.items() if k != "client_secret"}

                if is_good and "after" in (case.query or {}):
                    # JSON Schema has no word for "what the page before has said".
                    case.query["after"] = accounts.cursor(case.query.get("sort", "created_at"))

    @schemathesis.hook
    def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
        if who == "nobody":
            with_secret(case)

    try:
        found, seen = run(schema)
    finally:
        hooks.unregister(before_call)  # it is of all schemas
    assert found == []
    assert seen.keys() == names
    for item in mine:
        # Else all that was found to be right would be the refusal of strangers.
        open_to_me = who != "nobody" or item.is_open
        assert any(status < 300 for status in seen[str(item)]) == open_to_me, (item, seen)


@pytest.mark.slow
def test_what_one_answer_names_the_next_request_finds(app: FastAPI, accounts: Accounts) -> None:
    """Sequences of requests by one account: a token is made, listed, ended, and gone."""
    schema = load(app, 30, ["stateful"]).include(path_regex="^/me/tokens")
    headers = accounts.login("session")

    @schema.auth(refresh_interval=None)
    class Login:
        def get(self, case: Case[Any], _: AuthContext) -> Headers:
            return headers

        def set(self, case: Case[Any], data: Headers, _: AuthContext) -> None:
            case.headers.update(data)

    found, seen = run(schema)
    assert found == []
    assert seen["DELETE /me/tokens/{token_id}"] >= {204, 404}
