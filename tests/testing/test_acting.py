"""`acting_as` with any client, in any order with the start of the application."""

import asyncio
import threading
import warnings
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, WebSocket

from authapi import AuthAPI, Identity, User, current_identity, current_user
from authapi.testing import acting_as, client, sync_client
from tests.conftest import SettingsFactory

with warnings.catch_warnings():
    # Starlette prefers httpx2, and warns when it imports httpx.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

NOW = datetime(2026, 11, 1, tzinfo=UTC)
LATER = datetime(2026, 11, 2, tzinfo=UTC)
ADA = User(UUID(int=1), "ada@shop.test", None, True, False, NOW, NOW, NOW)
BOB = User(UUID(int=2), "bob@shop.test", None, True, False, NOW, NOW, NOW)
Caller = Annotated[User, Depends(current_user())]


def add_routes(app: FastAPI) -> None:
    @app.get("/who")
    def who(user: Caller) -> str:
        return user.email

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, user: Caller) -> None:
        await websocket.accept()
        await websocket.send_text(user.email)
        await websocket.close()


def application(make_settings: SettingsFactory) -> FastAPI:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    return app


def test_before_the_application_exists(make_settings: SettingsFactory) -> None:
    with acting_as(ADA):
        app = application(make_settings)
        add_routes(app)
        with TestClient(app) as api:
            assert api.get("/who").json() == ADA.email
    with TestClient(app) as api:
        assert api.get("/who").status_code == 401


def test_inside_a_started_test_client(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    with TestClient(app) as api:
        assert api.get("/who").status_code == 401
        with acting_as(ADA):
            assert api.get("/who").json() == ADA.email
            with acting_as(BOB):
                assert api.get("/who").json() == BOB.email
            with api.websocket_connect("/socket") as socket:
                assert socket.receive_text() == ADA.email
        assert api.get("/who").status_code == 401


def test_routes_that_are_added_later(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    with TestClient(app) as api, acting_as(ADA):
        add_routes(app)
        assert api.get("/who").json() == ADA.email


def test_a_test_client_that_runs_no_lifespan(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    with acting_as(ADA):
        assert TestClient(app).get("/who").json() == ADA.email


def test_the_synchronous_client(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    with sync_client(app) as api:
        with acting_as(ADA):
            assert api.get("/who").json() == ADA.email
        user = api.create_user(name="Eve")
        assert api.login(user, strategy="jwt").json()["token_type"] == "bearer"
        assert (api.get("/who").json(), "Authorization" in api.headers) == (user.email, True)
        assert api.patch("/me", json={"name": "Eva"}).json()["name"] == "Eva"
        assert api.request("GET", "/me").json()["name"] == "Eva"
        assert (api.head("/me").status_code, api.put("/who").status_code) == (200, 405)
        assert (api.options("/who").status_code, api.delete("/who").status_code) == (405, 405)
        assert api.post("/logout").status_code == 204
        assert (list(api.cookies), api.outbox()) == ([], [])
        assert api.services.settings.strategies == ("session", "token", "jwt")


@pytest.mark.parametrize(
    ("arguments", "amr", "acr", "is_proved"),
    [
        ({}, ("pwd",), "urn:authapi:acr:1", False),
        ({"mfa": True}, ("pwd", "otp", "mfa"), "urn:authapi:acr:2", True),
        ({"acr": "urn:authapi:acr:1"}, ("pwd",), "urn:authapi:acr:1", False),
        ({"acr": "urn:authapi:acr:2"}, ("pwd", "otp", "mfa"), "urn:authapi:acr:2", True),
        ({"acr": "phr"}, ("pop", "user", "mfa"), "phr", True),
        ({"mfa": True, "acr": "phr"}, ("pop", "user", "mfa"), "phr", True),
        (
            {"mfa": True, "acr": "urn:authapi:acr:1"},
            ("pwd", "otp", "mfa"),
            "urn:authapi:acr:2",
            True,
        ),
        ({"amr": ("fed", "mfa")}, ("fed", "mfa"), "urn:authapi:acr:2", True),
        ({"amr": ()}, (), None, False),
        ({"claims": {"a": 1}}, ("pwd",), "urn:authapi:acr:1", False),
        ({"claims": {"a": 1}, "acr": "phr"}, ("pop", "user", "mfa"), "phr", True),
    ],
)
def test_the_strength_of_the_login(
    make_settings: SettingsFactory,
    arguments: dict[str, Any],
    amr: tuple[str, ...],
    acr: str | None,
    is_proved: bool,
) -> None:
    app, seen = application(make_settings), list[Identity]()

    @app.get("/identity")
    def identity(caller: Annotated[Identity, Depends(current_identity())]) -> None:
        seen.append(caller)

    with sync_client(app) as api:
        for mfa_at in (None, LATER):
            with acting_as(ADA, auth_time=NOW, mfa_at=mfa_at, **arguments):
                assert api.get("/identity").status_code == 200
            caller = seen.pop()
            assert (caller.amr, caller.acr) == (amr, acr)
            assert caller.mfa_at == ((mfa_at or NOW) if is_proved else None)


def test_contradictory_and_unknown_strengths_are_refused() -> None:
    for mfa, acr in ((True, None), (False, "phr"), (True, "phr")):
        with (
            pytest.raises(TypeError, match="amr, or mfa and acr"),
            acting_as(ADA, amr=("pwd",), mfa=mfa, acr=acr),
        ):
            pass
    with pytest.raises(ValueError, match="acr must be one of"), acting_as(ADA, acr="strong"):
        pass


def test_a_block_holds_in_a_loop_that_was_started_before(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    answers: list[int] = []
    with asyncio.Runner() as runner:
        opened = client(app)
        api = runner.run(opened.__aenter__())
        asked = asyncio.Event()

        async def ask() -> None:
            await asked.wait()
            answers.append((await api.get("/who")).status_code)

        async def start() -> "asyncio.Task[None]":
            return asyncio.create_task(ask())

        async def finish(task: "asyncio.Task[None]") -> None:
            await asyncio.wait_for(task, 10)

        task = runner.run(start())
        with acting_as(ADA):
            asked.set()
            runner.run(finish(task))
        runner.run(opened.__aexit__(None, None, None))
    assert answers == [200]


async def test_a_task_does_not_act_after_the_block(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    async with client(app) as api:
        over = asyncio.Event()

        async def ask_later() -> int:
            await over.wait()
            return (await api.get("/who")).status_code

        with acting_as(ADA):
            task = asyncio.create_task(ask_later())
            await asyncio.sleep(0)
        over.set()
        assert await task == 401


def test_threads_are_independent(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    add_routes(app)
    seen: dict[str, object] = {}
    entered, asked = threading.Event(), threading.Event()
    with sync_client(app) as api:

        def act() -> None:
            with acting_as(BOB):
                entered.set()
                seen["thread"] = api.get("/who").json()
                asked.wait(10)

        thread = threading.Thread(target=act)
        thread.start()
        assert entered.wait(10)
        seen["main"] = api.get("/who").status_code
        with acting_as(ADA):
            seen["acting"] = api.get("/who").json()
        asked.set()
        thread.join()
    assert seen == {"thread": BOB.email, "main": 401, "acting": ADA.email}


@pytest.mark.parametrize("number", range(2))
def test_two_applications(make_settings: SettingsFactory, number: int) -> None:
    apps = [application(make_settings) for _ in range(2)]
    for app in apps:
        add_routes(app)
    with sync_client(apps[number]) as first, TestClient(apps[1 - number]) as second:
        with acting_as(ADA):
            assert first.get("/who").json() == second.get("/who").json() == ADA.email
        assert (first.get("/who").status_code, second.get("/who").status_code) == (401, 401)
