"""Gates by the strength of a login (RFC 9470): `mfa`, `acr`, and both together with `fresh`."""

import asyncio
import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from fastapi import Depends, FastAPI, WebSocket

from authapi import AuthAPI, Settings, create_app, current_identity, current_user
from authapi.domain.factors.authentication_context import ACR_VALUES, MFA
from authapi.errors import ConfigurationError
from authapi.testing import PASSWORD, Client, acting_as, client
from authapi.testing.strategy_harness import statements
from authapi.web.requirements import Gate
from authapi.web.resolver import identity_if_configured
from tests.conftest import SettingsFactory
from tests.strategies.test_basic import basic
from tests.strategies.test_custom_strategy import ApiKey
from tests.web.logins import sign_in
from tests.web.responses import BEARER, gate_problem, problem
from tests.web.test_resolver import COOKIE, challenges, opened
from tests.web.websockets import handshake

ONE, TWO, PHR = ACR_VALUES
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
METHODS = {
    "password": ("pwd",),
    "code": ("pwd", "otp", MFA),
    "recovery": ("pwd", "recovery", MFA),
    "second key": ("pwd", "pop", MFA),
    "passkey": ("pop", "user", MFA),
    "federated": ("fed",),
    "mail": ("email",),
    "key without user": ("pop",),
    "personal token": (),
}
"""How callers have proved who they are."""
STRONG = {"code", "recovery", "second key", "passkey"}
RESISTANT = {"second key", "passkey"}
LOGINS = METHODS.keys() - {"personal token"}


def stepped_up(acr: str | None, max_age: int | None = None) -> list[str]:
    """Returns the challenges for a login that lacks these."""
    named = "" if acr is None else f', acr_values="{acr}"'
    aged = "" if max_age is None else f', max_age="{max_age}"'
    return [f'{BEARER}, error="insufficient_user_authentication"{named}{aged}', COOKIE]


async def raise_session(
    api: Client, session_id: object, *, amr: tuple[str, ...], mfa_at: datetime | None
) -> None:
    """Changes what a session has proved, as a step-up does."""
    async with api.services.database.transaction() as store:
        table = store.sessions
        values = {"amr": list(amr), "mfa_at": mfa_at}
        await table._update(values, table._sessions.c.id == UUID(str(session_id)))


# Which login passes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "has_mfa", "passing"),
    [
        (current_user(mfa=True), False, STRONG),
        (current_user(mfa=True), True, STRONG),
        (current_user(mfa=HOUR), True, STRONG),
        (current_user(mfa="enrolled"), True, STRONG),
        (current_user(mfa="enrolled"), False, LOGINS),
        (current_user(acr=ONE), True, LOGINS),
        (current_user(acr=TWO), False, STRONG),
        (current_user(acr=PHR), False, RESISTANT),
        (current_user(acr=PHR, mfa="enrolled"), False, RESISTANT),
        (current_user(acr=ONE, mfa=True), False, STRONG),
        (current_user(mfa=False), True, METHODS.keys()),
    ],
)
async def test_methods_of_the_login_decide(
    make_settings: SettingsFactory, gate: Gate[object], has_mfa: bool, passing: set[str]
) -> None:
    async with opened(make_settings(), guarded=gate) as api:
        user = await api.create_user()
        user = replace(user, mfa_since=user.created_at if has_mfa else None)
        for name, amr in METHODS.items():
            with acting_as(user, amr=amr):
                answer = await api.get("/guarded")
            if name in passing:
                assert answer.status_code == 200, name
            else:
                gate_problem(answer, 401, "insufficient_authentication")


async def test_age_of_the_second_factor_is_measured_from_its_proof(
    make_settings: SettingsFactory,
) -> None:
    start = datetime(2031, 1, 1, tzinfo=UTC)
    gates = {"hour": current_user(mfa=HOUR), "any": current_user(mfa=True)}
    with time_machine.travel(start, tick=False) as clock:
        async with opened(make_settings(), **gates) as api:
            alice = await api.create_user()
            for after, expected in (
                (HOUR, [200, 200]),
                (HOUR + timedelta(microseconds=1), [401, 200]),
            ):
                clock.move_to(start + after, tick=False)
                # The password was entered again since.
                with acting_as(alice, mfa=True, mfa_at=start):
                    assert [(await api.get(f"/{name}")).status_code for name in gates] == expected
            with acting_as(alice, mfa=True, mfa_at=start):
                answer = await api.get("/hour")
    body = gate_problem(answer, 401, "insufficient_authentication")
    assert (body["acr_values"], body["max_age"]) == (TWO, 3600)
    assert challenges(answer) == stepped_up(TWO, 3600)


async def test_a_strategy_that_tells_no_time_of_the_proof_is_refused(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(make_settings(), hour=current_user(mfa=HOUR)) as api:
        alice = await api.create_user()
        headers = await sign_in(api.services, alice)
        [session] = await api.services.sessions.list_for_user(alice.id)
        await raise_session(api, session.id, amr=("pwd", "otp", MFA), mfa_at=None)
        answer = await api.get("/hour", headers=headers)
    gate_problem(answer, 401, "insufficient_authentication")


# What the refusal names ---------------------------------------------------------------------------


LONG_AGO = timedelta(days=1)


@pytest.mark.parametrize(
    ("gate", "login", "code", "acr", "max_age"),
    [
        (current_user(mfa=True), {}, "insufficient", TWO, None),
        (current_user(mfa=True, fresh=MINUTE), {}, "insufficient", TWO, None),
        (current_user(mfa=True, fresh=MINUTE), {"age": LONG_AGO}, "insufficient", TWO, 60),
        (current_user(mfa=True, fresh=MINUTE), {"mfa": True, "age": LONG_AGO}, "stale", None, 60),
        (current_user(mfa=True, fresh=True), {"age": LONG_AGO}, "insufficient", TWO, 300),
        (current_user(mfa=True, acr=PHR), {}, "insufficient", PHR, None),
        (current_user(mfa=True, acr=PHR), {"mfa": True}, "insufficient", PHR, None),
        (current_user(mfa=True, acr=ONE), {}, "insufficient", TWO, None),
        (current_user(mfa=HOUR), {}, "insufficient", TWO, 3600),
        (current_user(mfa=HOUR, acr=PHR), {"acr": PHR, "age": LONG_AGO}, "insufficient", PHR, 3600),
        (current_user(mfa=HOUR, fresh=MINUTE), {"age": LONG_AGO}, "insufficient", TWO, 60),
        (current_user(mfa=MINUTE, fresh=HOUR), {"age": LONG_AGO}, "insufficient", TWO, 60),
        # A personal access token: a login meets the weakest class in any case.
        (current_user(mfa="enrolled"), {"amr": ()}, "insufficient", ONE, None),
        (current_user(mfa="enrolled", fresh=True), {"amr": ()}, "stale", None, 300),
        (current_user(acr=ONE, fresh=True), {"amr": ()}, "stale", None, 300),
        (current_user(mfa=True, fresh=True), {"amr": ()}, "insufficient", TWO, 300),
    ],
)
async def test_one_refusal_names_all_that_is_missing(
    make_settings: SettingsFactory,
    gate: Gate[object],
    login: dict[str, Any],
    code: str,
    acr: str | None,
    max_age: int | None,
) -> None:
    arguments = {name: value for name, value in login.items() if name != "age"}
    arguments["auth_time"] = datetime.now(UTC) - login.get("age", timedelta(0))
    async with opened(make_settings(), guarded=gate) as api:
        alice = await api.create_user()
        with acting_as(alice, **arguments):
            answer = await api.get("/guarded")
    body = gate_problem(answer, 401, f"{code}_authentication")
    assert (body.get("acr_values"), body.get("max_age")) == (acr, max_age)
    assert challenges(answer) == stepped_up(acr, max_age)


async def test_strength_is_checked_after_the_account_and_before_scopes(
    make_settings: SettingsFactory,
) -> None:
    gate = current_user(mfa=True, acr=PHR, scopes={"a"}, verified=True, superuser=True)
    async with opened(make_settings(scopes={"a": "A"}), guarded=gate) as api:
        user = replace(await api.create_user(), is_active=False)

        async def code(**login: Any) -> str:
            with acting_as(user, **login):
                return str((await api.get("/guarded")).json()["code"])

        assert (await api.get("/guarded")).json()["code"] == "unauthenticated"
        assert await code() == "inactive_account"
        user = replace(user, is_active=True)
        assert await code() == "insufficient_authentication"
        assert await code(mfa=True) == "insufficient_authentication"
        assert await code(acr=PHR) == "insufficient_scope"


async def test_optional_gates_refuse_a_weak_login_and_accept_anonymous_requests(
    make_settings: SettingsFactory,
) -> None:
    async with opened(make_settings(), lax=current_user(mfa=True, optional=True)) as api:
        assert (await api.get("/lax")).json() is None
        alice = await api.create_user()
        with acting_as(alice):
            gate_problem(await api.get("/lax"), 401, "insufficient_authentication")
        with acting_as(alice, mfa=True):
            assert (await api.get("/lax")).json() == alice.email


async def test_http_basic_proves_one_factor(make_settings: SettingsFactory) -> None:
    gates = {"two": current_user(mfa=True), "enrolled": current_user(mfa="enrolled")}
    async with opened(make_settings(strategies=("session", "basic")), **gates) as api:
        alice = await api.create_user()
        headers = dict(basic(alice.email))
        assert (await api.get("/enrolled", headers=headers)).json() == alice.email
        gate_problem(await api.get("/two", headers=headers), 401, "insufficient_authentication")
        await api.authenticator().enrol(alice)
        refused = await api.get("/enrolled", headers=headers)
        gate_problem(refused, 401, "unauthenticated")  # not accepted for this account at all


# The arguments ------------------------------------------------------------------------------------


def test_equal_arguments_give_the_same_gate() -> None:
    for make in (current_user, current_identity):
        assert make(mfa=True) is make(mfa=True)
        assert make(mfa=HOUR) is make(mfa=timedelta(minutes=60))
        assert make(acr=PHR, mfa="enrolled") is make(mfa="enrolled", acr="phr")
        assert make(mfa=False) is make()
        gates = [make(**wanted) for wanted in ({}, {"mfa": True}, {"mfa": HOUR}, {"acr": TWO})]
        assert len(set(gates)) == len(gates)
    assert identity_if_configured(mfa="enrolled") is identity_if_configured(mfa="enrolled")
    assert identity_if_configured(mfa="enrolled") is not identity_if_configured()


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"mfa": "enroled"}, ValueError, 'mfa must be True, False, "enrolled" or a timedelta'),
        ({"mfa": 1}, TypeError, "mfa must be"),
        ({"mfa": 0}, TypeError, "mfa must be"),
        ({"mfa": None}, TypeError, "mfa must be"),
        ({"mfa": -HOUR}, ValueError, "positive"),
        ({"mfa": timedelta(0)}, ValueError, "positive"),
        ({"fresh": False}, TypeError, "fresh must be True, None or a timedelta, not False"),
        ({"fresh": 60}, TypeError, "fresh must be"),
        ({"acr": "PHR"}, ValueError, f"acr must be one of {ONE}, {TWO}, phr, not 'PHR'"),
        ({"acr": ""}, ValueError, "acr must be"),
        ({"acr": True}, ValueError, "acr must be"),
        ({"acr": {"phr"}}, ValueError, "acr must be"),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_written(
    wrong: dict[str, Any], kind: type[Exception], text: str
) -> None:
    for make in (current_user, current_identity):
        with pytest.raises(kind, match=text):
            make(**wrong)
    if "mfa" in wrong:
        with pytest.raises(kind, match=text):
            identity_if_configured(**wrong)


def no_content() -> None:
    """A handler whose gate is all that matters."""


class Foreign(ApiKey):
    """Callers of another service."""

    name = "foreign"
    users_are_accounts = False


@pytest.mark.parametrize("mfa", ["enrolled", HOUR])
async def test_callers_of_another_issuer_have_no_known_factors(
    make_settings: SettingsFactory, mfa: Any
) -> None:
    settings = make_settings(strategies=("session", "tests.web.test_step_up:Foreign"))
    for names in ((), ("foreign",)):
        auth = AuthAPI(settings)
        app = FastAPI(lifespan=auth.lifespan)
        auth.install(app)
        app.get("/own", dependencies=[Depends(current_user("session", mfa=mfa))])(no_content)
        app.get("/all", dependencies=[Depends(current_user(*names, mfa=mfa))])(no_content)
        with pytest.raises(ConfigurationError, match=r"GET /all: mfa=.* 'foreign'.*use mfa=True"):
            async with client(app):
                pass


# Callers in memory --------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_a_cached_caller_costs_no_query(
    make_settings: SettingsFactory, strategy: str
) -> None:
    gates = {
        "two": current_user(mfa=True, acr=TWO),
        "hour": current_user(mfa=HOUR),
        "enrolled": current_user(mfa="enrolled", fresh=True),
        "phr": current_user(acr=PHR),
    }
    async with opened(make_settings(), **gates) as api:
        alice = await api.create_user()
        app = api.authenticator()
        alice = await app.enrol(alice)
        await api.login(alice, strategy=strategy, authenticator=app)
        assert (await api.get("/two")).status_code == 200
        with statements(api) as seen:
            answers = [(await api.get(f"/{name}")).status_code for name in gates]
        assert answers == [200, 200, 200, 401]
        assert seen == []


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_a_step_up_in_another_process_is_heard(strategy: str, database_url: str) -> None:
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]
    gate = current_user(mfa=True)
    async with opened(settings, two=gate) as here, client(create_app(settings)) as there:
        alice = await here.create_user()
        headers = await sign_in(here.services, alice, strategy)
        identity = (await here.get("/me/identity", headers=headers)).json()
        for _ in range(2):
            gate_problem(
                await here.get("/two", headers=headers), 401, "insufficient_authentication"
            )

        async def status_becomes(expected: int) -> None:
            async with asyncio.timeout(10):
                while (await here.get("/two", headers=headers)).status_code != expected:  # noqa: ASYNC110  # in another process
                    await asyncio.sleep(0.01)  # until the notification has arrived

        amr, proved_at = ("pwd", "otp", MFA), datetime.now(UTC)
        await raise_session(there, identity["session_id"], amr=amr, mfa_at=proved_at)
        await status_becomes(200)
        # And the reverse: the user of a session is read again as well.
        await raise_session(there, identity["session_id"], amr=("pwd",), mfa_at=None)
        await status_becomes(401)


# The routes of authapi ----------------------------------------------------------------------------


SENSITIVE = {
    "POST /me/password": {"current_password": PASSWORD, "new_password": "another horse battery 9"},
    "POST /me/email": {"email": "new@example.com", "current_password": PASSWORD},
    "POST /me/tokens": {"name": "robot"},
    "DELETE /me": None,
}
"""What an account with a second factor allows only a login that has proved it."""


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_changes_of_credentials_need_the_second_factor_of_the_account(
    api_on_each: Client, strategy: str
) -> None:
    api = api_on_each
    alice = await api.create_user()
    headers = await sign_in(api.services, alice, strategy)
    await api.authenticator().enrol(alice)  # this session began before
    for route, body in SENSITIVE.items():
        method, path = route.split()
        answer = await api.request(method, path, json=body, headers=headers)
        found = problem(answer, 401, "insufficient_authentication")
        assert found["acr_values"] == TWO, route
        assert "max_age" not in found, route
    # What protects the account stays possible.
    assert (await api.get("/me", headers=headers)).status_code == 200
    assert (await api.delete("/me/sessions", headers=headers)).status_code == 204
    proved = await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=headers)
    assert proved.status_code == 204


async def test_a_login_with_two_factors_may_change_credentials(api: Client) -> None:
    for route, body in SENSITIVE.items():
        method, path = route.split()
        alice = await api.create_user()
        app = api.authenticator()
        await api.login(await app.enrol(alice), authenticator=app)
        answer = await api.request(method, path, json=body)
        # No mail is sent here, so addresses cannot change; the gate has let the request pass.
        assert answer.is_success or answer.json()["code"] == "mail_disabled", route


# Tokens -------------------------------------------------------------------------------------------


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return {name: found.get(name) for name in ("amr", "acr", "auth_time")}


async def test_tokens_carry_what_their_session_has_proved(make_settings: SettingsFactory) -> None:
    settings = make_settings(jwt_audiences=("billing",))
    async with client(create_app(settings)) as api:
        root = await api.create_user(is_superuser=True)
        login = (await api.login(root, strategy="jwt")).json()
        at = int(
            datetime.fromisoformat((await api.get("/me/identity")).json()["auth_time"]).timestamp()
        )
        weak = {"amr": ["pwd"], "acr": ONE, "auth_time": at}
        strong = {"amr": ["pwd", "otp", MFA], "acr": TWO, "auth_time": at}

        async def introspected(token: str) -> dict[str, Any]:
            found = (await api.post("/token/introspect", data={"token": token})).json()
            assert found["active"]
            return {name: found.get(name) for name in weak}

        async def exchanged() -> dict[str, Any]:
            body = {"kind": "jwt", "audience": "billing"}
            return claims_of((await api.post("/me/tokens", json=body)).json()["access_token"])

        token = login["access_token"]
        assert claims_of(token) == await introspected(token) == await exchanged() == weak
        [session] = await api.services.sessions.list_for_user(root.id)
        amr = ("pwd", "otp", MFA)
        await raise_session(api, session.id, amr=amr, mfa_at=datetime.now(UTC))
        # The claims of a JWT are those of its issue, and introspection asks the session.
        assert claims_of(token) == weak
        assert await introspected(token) == await exchanged() == strong
        form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
        renewed = (await api.post("/token", data=form)).json()["access_token"]
        assert claims_of(renewed) == await introspected(renewed) == strong
        # A personal access token comes from no login, and neither does its JWT.
        made = (await api.post("/me/tokens", json={"name": "robot"})).json()["access_token"]
        assert await introspected(made) == dict.fromkeys(weak)
        api.headers["Authorization"] = f"Bearer {made}"
        assert await exchanged() == {"amr": [], "acr": None, "auth_time": None}


# WebSockets ---------------------------------------------------------------------------------------


async def test_websockets_are_refused_as_requests(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.websocket("/live", dependencies=[Depends(current_user(mfa=True, fresh=MINUTE))])
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()

    async with client(app) as api:
        alice = await api.create_user()
        old = datetime.now(UTC) - HOUR
        with acting_as(alice, auth_time=old):
            [closed] = await handshake(app, "/live")
        assert (closed["code"], closed["reason"]) == (4401, "insufficient_authentication")
        with acting_as(alice, mfa=True, auth_time=old):
            [closed] = await handshake(app, "/live")
        assert (closed["code"], closed["reason"]) == (4401, "stale_authentication")
        with acting_as(alice, mfa=True):
            assert (await handshake(app, "/live"))[0]["type"] == "websocket.accept"
