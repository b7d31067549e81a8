"""Tests the service against its OpenAPI document with schemathesis.

The tests use the engine of schemathesis, as its command line does, with the application in this
process. (Its pytest plugin cannot rename the items of pytest 9.2, and would build all cases during
collection.)
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
from authapi.domain.email_token import Purpose
from authapi.domain.identity import Identity
from authapi.domain.user import User, UserOrder
from authapi.services import Services
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.cursors import encode_cursor
from authapi.testing import PASSWORD
from tests.conftest import SettingsFactory
from tests.second_factors import stored_passkey
from tests.services.federated_people import a_link
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import Headers, sign_in
from tests.web.operations import operations

CONFIG: dict[str, Any] = {
    "seed": 1,
    "generation": {
        "deterministic": True,
        "database": "none",
        # JSON Schema cannot express that no string contains NUL, least of all in session data.
        # tests/hostile tests that it is refused.
        "allow-x00": False,
    },
    "phases": {
        # Ids in responses differ between runs, so they must not influence the generated requests.
        name: {"extra-data-sources": {"responses": False}}
        for name in ("examples", "coverage", "fuzzing")
    },
    # All checks are enabled.
    "checks": {
        # A well-formed If-Match may be out of date: 412.
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "412"]
        },
        # In addition to the default: a member may be so long that the body is too large.
        "negative_data_rejection": {
            "expected-statuses": [
                *("400", "401", "403", "404", "405", "406", "409"),
                *("413", "415", "422", "428", "429", "5xx"),
            ]
        },
    },
}
PHASES = {
    # The caller, the number of examples, and the phases. Coverage tries every limit of every
    # member. It does not depend on the strategy, so it runs only for two callers.
    "anonymous": (8, ["examples", "coverage", "fuzzing"]),
    "session": (12, ["examples", "coverage", "fuzzing"]),
    "token": (6, ["examples", "fuzzing"]),
    "jwt": (6, ["examples", "fuzzing"]),
}
PURPOSES = {
    "/email/confirm": Purpose.CONFIRM,
    "/email/undo": Purpose.REVERT_EMAIL_CHANGE,
    "/login/disown": Purpose.DISOWN,
    "/password/reset": Purpose.RESET,
    "/invitation/accept": Purpose.INVITATION,
}
"""The purpose of the e-mail token that each route expects."""
# The format "email" of JSON Schema is wider than the addresses that the service accepts. These are
# valid for both.
schemathesis.openapi.format("email", st.from_regex(r"[a-z]{1,9}@[a-z]{2,9}\.com", fullmatch=True))

NEED_SECOND_FACTOR = {
    "POST /login/enrolment/passkey",
    "POST /login/enrolment/passkey/options",
    "POST /login/enrolment/totp",
    "POST /login/enrolment/totp/confirm",
    "POST /login/passkey",
    "POST /login/second-factor",
    "POST /login/second-factor/options",
    "POST /me/factors/passkeys",
    "POST /me/factors/totp/confirm",
    "DELETE /me/factors/totp",
    "POST /me/factors/recovery-codes",
}
"""Operations that succeed only with a code, a passkey or the ticket of a login: JSON Schema cannot
express one, and the tests of these routes have it."""


class Accounts:
    """Creates a new account with a new login for each request.

    Otherwise, all requests after the first logout would only test the 401.
    """

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._services = Services.build(settings)
        self._numbers = itertools.count()
        self._hash: PasswordHash
        self._runner.run(self._start())

    def close(self) -> None:
        self._runner.run(self._services.stop())
        self._runner.close()

    def login(self, strategy: str, *, superuser: bool = False) -> Headers:
        """The headers of a new login of a new account."""
        return self._runner.run(self._login(strategy, superuser))

    def ids(self, *, of_other: bool) -> dict[str, str]:
        """Values of path parameters: a session, a token and a passkey of the newest account, and
        another account that was invited and has not accepted. With `of_other`, that account has
        accepted, and they are its own, as the routes of administrators name them.
        """
        return self._runner.run(self._ids(of_other))

    async def _start(self) -> None:
        # Without background tasks: the event loop runs only inside `Runner.run`.
        await self._services.open()
        self._hash = await self._services.passwords.hash(PASSWORD)
        # The account of the examples: the password grant refuses an unknown one with a 400.
        await self._add(email="alice@example.com", is_confirmed=True)

    async def _add(
        self,
        superuser: bool = False,
        *,
        email: str = "",
        waits: bool = False,
        is_confirmed: bool = False,
    ) -> User:
        email, at = email or f"user{next(self._numbers)}@example.org", now()
        confirmed_at = at if is_confirmed else None
        user = User(new_id(), email, None, True, superuser, confirmed_at, at, at)
        async with self._services.database.transaction() as store:
            password_hash = None if waits else self._hash
            await store.users.add(user, email=email, password_hash=password_hash)
        return user

    async def _login(self, strategy: str, superuser: bool) -> Headers:
        self._user = await self._add(superuser, is_confirmed=True)
        return await sign_in(self._services, self._user, strategy)

    async def _ids(self, of_other: bool) -> dict[str, str]:
        other = await self._add(waits=not of_other)
        user = other if of_other else self._user
        await sign_in(self._services, user, "token")
        [session, *_] = await self._services.sessions.list_for_user(user.id)
        owner = Identity(user, "session", None, frozenset(), now(), ("pwd",), None)
        token, _ = await self._services.tokens.personal.create(
            owner, name="x", scopes=None, lifetime=None
        )
        passkey, identity = stored_passkey(user.id, SoftAuthenticator()), a_link(user.id)
        async with self._services.database.transaction() as store:
            await store.users.lock(user.id)
            await store.passkeys.add(passkey)
            await store.identities.add(identity, auth_context=None)
        ids = {"session_id": session.id, "token_id": token.id, "user_id": other.id}
        ids |= {"passkey_id": passkey.id, "identity_id": identity.id}
        return {name: str(value) for name, value in ids.items()}

    def email_token(self, purpose: Purpose) -> tuple[str, str]:
        """An e-mail token of a new account, and its address."""
        return self._runner.run(self._secret(purpose))

    async def _secret(self, purpose: Purpose) -> tuple[str, str]:
        user = await self._add()
        email_tokens = EmailTokens(
            self._services.database, self._services.mail, self._services.settings
        )
        async with self._services.database.transaction() as store:
            return (await email_tokens.issue(store, user, purpose)).text, user.email

    def cursor(self, sort: str) -> str:
        """The cursor after the newest account, for this order."""
        return encode_cursor(self._user, UserOrder(sort))


@pytest.fixture(autouse=True)
def _every_password_is_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    # JSON Schema cannot express that a password is not common; tests/services tests it.
    monkeypatch.setattr("authapi.services.passwords.is_common", lambda _: False)


@pytest.fixture
def settings(make_settings: SettingsFactory) -> Settings:
    return make_settings(
        secret=SecretStr("s" * 32),
        scopes={"reports:read": "Read reports", "b": "Another", "introspect": "Ask"},
        jwt_audiences=("billing", "urn:reports"),
        # All examples come from one network: valid ones must not depend on how fast they come.
        limit_registrations="10000/minute",
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[FastAPI]:
    yield create_app(settings)
    shutdown_lifespans()


@pytest.fixture
def accounts(settings: Settings) -> Iterator[Accounts]:
    accounts = Accounts(settings)
    yield accounts
    accounts.close()


def run(schema: BaseSchema) -> tuple[list[str], dict[str, set[int]]]:
    """Run schemathesis. Returns its failures, and the statuses of each operation."""
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


def without_nul(value: Any) -> Any:
    """`value` without NUL in the names of members, which `allow-x00` does not concern."""
    if isinstance(value, dict):
        return {name.replace("\0", ""): without_nul(item) for name, item in value.items()}
    return [without_nul(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize(
    "who",
    [
        pytest.param(who, marks=[pytest.mark.slow] if "coverage" in phases else [])
        for who, (_, phases) in PHASES.items()
    ],
)
def test_schemathesis_finds_no_failures(settings: Settings, accounts: Accounts, who: str) -> None:
    # schemathesis does not know that a scheme of type oauth2 uses the header Authorization, so it
    # would treat a JWT as a missing credential. Without the docs page, the type is http.
    app = create_app(settings.model_copy(update={"docs": who != "jwt"}))
    schema = load(app, *PHASES[who])
    # Open operations are tested anonymously, also those with an optional login.
    mine = [
        item
        for item in operations(app)
        if who == "anonymous" or (who in item.strategies and not item.is_open)
    ]
    names = {str(item) for item in mine}
    schema = schema.include(lambda context: context.operation.label in names)
    turns = defaultdict[str, Iterator[int]](itertools.count)

    def with_secret(case: Case[Any]) -> None:
        purpose = PURPOSES.get(case.operation.path)
        is_good = case.meta is not None and case.meta.generation.mode.is_positive
        if purpose is not None and is_good and isinstance(case.body, dict):
            # JSON Schema cannot express a valid e-mail token.
            secret, email = accounts.email_token(purpose)
            typed = {"email": email} if case.body.get("email") else {}
            case.body = {**case.body, "token": secret, **typed}

    if who != "anonymous":

        @schema.auth(refresh_interval=None)
        class Login:
            def get(self, case: Case[Any], _: AuthContext) -> Headers:
                return accounts.login(who, superuser=case.operation.path.startswith("/admin/"))

            def set(self, case: Case[Any], data: Headers, _: AuthContext) -> None:
                case.headers.update(data)
                is_good = case.meta is not None and case.meta.generation.mode.is_positive
                # The first request of an operation, and then every second, uses an existing id.
                turn = turns[case.operation.label]
                if case.path_parameters and is_good and next(turn) % 2 == 0:
                    of_other = case.path_parameters.keys() > {"user_id"}
                    own = accounts.ids(of_other=of_other)
                    case.path_parameters = {name: own[name] for name in case.path_parameters}

                if is_good and "authorization" in case.headers and isinstance(case.body, dict):
                    # JSON Schema cannot express that a header excludes a parameter (RFC 6749,
                    # section 2.3).
                    case.body = {k: v for k, v in case.body.items() if k != "client_secret"}

                if is_good and "after" in (case.query or {}):
                    # JSON Schema cannot express a valid cursor.
                    case.query["after"] = accounts.cursor(case.query.get("sort", "created_at"))

    @schemathesis.hook
    def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
        if case.meta is not None and case.meta.generation.mode.is_positive:
            case.body = without_nul(case.body)
        if who == "anonymous":
            with_secret(case)

    try:
        found, seen = run(schema)
    finally:
        hooks.unregister(before_call)  # hooks are global
    assert found == [], "\n\n".join(found)
    assert seen.keys() == names
    for item in mine:
        # Otherwise the test could pass with refused requests only.
        if str(item) in NEED_SECOND_FACTOR:
            continue
        open_to_me = who != "anonymous" or item.is_open
        assert any(status < 300 for status in seen[str(item)]) == open_to_me, (item, seen)


@pytest.mark.slow
def test_stateful_requests_on_tokens_succeed(app: FastAPI, accounts: Accounts) -> None:
    """Sequences of requests of one account: create, list, revoke a token, and revoke it again."""
    schema = load(app, 30, ["stateful"]).include(path_regex="^/me/tokens")
    headers = accounts.login("session")

    @schema.auth(refresh_interval=None)
    class Login:
        def get(self, case: Case[Any], _: AuthContext) -> Headers:
            return headers

        def set(self, case: Case[Any], data: Headers, _: AuthContext) -> None:
            case.headers.update(data)

    found, seen = run(schema)
    assert found == [], "\n\n".join(found)
    assert seen["DELETE /me/tokens/{token_id}"] >= {204, 404}
