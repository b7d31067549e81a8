"""GET / of the service."""

from importlib.metadata import version

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.responses import problem

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


async def test_a_browser_is_led_to_its_account(api: Client) -> None:
    answer = await api.get("/", headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "account")
    shown = await api.get("/", headers=BROWSER, follow_redirects=True)
    assert shown.url.path == "/account/sign-in"
    assert "<h1>Sign in</h1>" in shown.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "text/html;q=0"])
async def test_a_program_is_told_where_the_api_is(api: Client, accept: str) -> None:
    answer = await api.get("/", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.json() == {
        "service": "authapi",
        "metadata": "http://127.0.0.1:8000/.well-known/oauth-authorization-server",
        "docs": "http://127.0.0.1:8000/docs",
        "openapi": "http://127.0.0.1:8000/openapi.json",
        "version": version("fastapi-authapi"),
    }
    for name in ("metadata", "docs", "openapi"):
        assert (await api.get(answer.json()[name])).status_code == 200


async def test_production_names_no_version(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(docs=False, pages="none"))) as api:
        answer = await api.get("/", headers=BROWSER)
        assert answer.json().keys() == {"service", "metadata", "version"}
        problem(await api.post("/"), 405, "method_not_allowed")


async def test_browsers_that_ask_the_host_get_the_icon(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        icon = await api.get("/favicon.ico")
        assert icon.status_code == 200
        assert icon.headers["content-type"] == "image/svg+xml"
        assert icon.headers["cache-control"] == "public, max-age=86400"
        assert icon.content == (await api.get("/account/icon")).content
        assert "set-cookie" not in icon.headers
        problem(await api.post("/favicon.ico"), 405, "method_not_allowed")
    async with client(create_app(make_settings(pages="none"))) as api:
        problem(await api.get("/favicon.ico"), 404, "not_found")
    auth, app = AuthAPI(make_settings()), FastAPI()
    app.router.lifespan_context = auth.lifespan
    auth.install(app, prefix="/auth")
    async with client(app) as api:
        assert (await api.get("/favicon.ico")).json() == {"detail": "Not Found"}
        assert (await api.get("/auth/account/icon")).status_code == 200
