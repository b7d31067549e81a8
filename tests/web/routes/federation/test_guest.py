"""Logins at providers in an application that has authapi below a prefix."""

from fastapi import FastAPI

from authapi import AuthAPI
from authapi.testing import client
from tests.web.federation.visits import (
    NAVIGATION,
    ORIGIN,
    FakeUpstreams,
    Visitor,
    person,
    settings_with_providers,
    state_of,
)


class PrefixedUpstreams(FakeUpstreams):
    """The providers of an application whose authapi has a prefix."""

    def redirect_uri(self, name: str) -> str:
        return f"{ORIGIN}/api/auth/login/with/{name}/callback"


async def test_a_login_below_a_prefix(sqlite_url: str) -> None:
    auth = AuthAPI(settings_with_providers(sqlite_url, registration="open"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/api/auth")
    assert auth.runtime.upstreams.redirect_uri("acme") == (
        f"{ORIGIN}/api/auth/login/with/acme/callback"
    )
    upstreams = PrefixedUpstreams()
    auth.runtime.upstreams = upstreams
    async with client(app, base_url=ORIGIN) as api:
        visitor = Visitor(api, upstreams)
        listed = (await api.get("/api/auth/login/with")).json()
        assert listed[0]["start"] == "/api/auth/login/with/acme"
        shown = await api.get("/api/auth/account/sign-up")
        assert 'href="../login/with/acme?strategy=session"' in shown.text
        for body, location in (
            ({"continue": "/home"}, "/home"),
            ({}, "../../../account/sign-in?done=in"),
        ):
            begun = await api.post("/api/auth/login/with/acme", json=body)
            visitor.acme.codes["a-code"] = person()
            answer = await api.get(
                "/api/auth/login/with/acme/callback",
                params={"state": state_of(begun.json()["url"]), "code": "a-code"},
                headers=NAVIGATION,
            )
            assert answer.headers["location"] == location
            assert (await api.get("/api/auth/me")).status_code == 200
        refused = await api.get("/api/auth/login/with/acme/callback", headers=NAVIGATION)
        assert refused.headers["location"] == ("../../../account/sign-in?done=login-flow-invalid")
        document = (await api.get("/openapi.json")).json()
        assert "/api/auth/login/with/{provider}" in document["paths"]
        assert "/api/auth/login/with/{provider}/callback" not in document["paths"]


async def test_an_application_may_leave_the_unit_out(sqlite_url: str) -> None:
    auth = AuthAPI(settings_with_providers(sqlite_url))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["me", "login", "signin", "account"])
    async with client(app, base_url=ORIGIN) as api:
        assert (await api.get("/login/with")).status_code == 404
        assert "Continue with" not in (await api.get("/account/sign-in")).text
