"""An application keeps its installation, and a dropped application is released with it."""

import gc
from collections.abc import Callable
from typing import Annotated, TypeAlias
from weakref import ref

import pytest
from fastapi import Depends, FastAPI

from authapi import AuthAPI, Settings, User, create_app, current_user
from authapi.testing import client
from authapi.verify import RemoteJWT, ResourceServer
from authapi.web.installation import runtime_of
from tests.conftest import SettingsFactory

Build: TypeAlias = Callable[[Settings], FastAPI]


def guest(settings: Settings) -> FastAPI:
    auth = AuthAPI(settings)
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/mine")
    async def mine(user: Annotated[User, Depends(current_user())]) -> str:
        return user.email

    return app


def mounted(settings: Settings) -> FastAPI:
    auth, inner = AuthAPI(settings), FastAPI()
    auth.install(inner)
    app = FastAPI(lifespan=auth.lifespan)
    app.mount("/accounts", inner)
    return app


def resource_server(_: Settings) -> FastAPI:
    auth = ResourceServer(RemoteJWT(issuer="https://id.example", audience="a"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    return app


BUILDS: dict[str, Build] = {
    "service": create_app,
    "guest": guest,
    "mounted": mounted,
    "resource server": resource_server,
}


@pytest.mark.parametrize("build", [create_app, guest])
async def test_a_served_application_is_released(
    make_settings: SettingsFactory, build: Build
) -> None:
    app = build(make_settings())
    async with client(app) as api:
        await api.login(await api.create_user())
        assert (await api.get("/me")).status_code == 200
    del api
    app.openapi()
    dropped = ref(app)
    del app
    gc.collect()
    assert dropped() is None


@pytest.mark.parametrize("name", BUILDS)
def test_an_application_that_never_started_is_released(
    make_settings: SettingsFactory, name: str
) -> None:
    app = BUILDS[name](make_settings())
    dropped = ref(app)
    del app
    gc.collect()
    assert dropped() is None


def test_an_application_keeps_its_installation(make_settings: SettingsFactory) -> None:
    app = guest(make_settings())
    gc.collect()
    assert runtime_of(app).is_started is False
