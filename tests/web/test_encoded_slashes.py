"""Encoded paths, which a reverse proxy and the router may interpret differently."""

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI

from authapi import AuthAPI, User, create_app, current_user
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.asgi import RawHeaders, ask
from tests.web.logins import sign_in

METRICS = "/internal/metrics"
READS = ("/me/sessions", "/me/session", "/me/tokens", "/me/events", "/me/identity", METRICS)
PUBLIC = ("/health/live", "/.well-known/jwks.json", "/docs/page.js")


async def cookie_of_a_login(api: Client) -> RawHeaders:
    headers = await sign_in(api.services, await api.create_user())
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def disguised(path: str) -> list[bytes]:
    """Returns `path` with each slash but the first encoded, one at a time and all at once."""
    parts = path.strip("/").split("/")
    found = [
        "/" + "/".join(parts[:at]) + sign + "/".join(parts[at:])
        for at in range(1, len(parts))
        for sign in ("%2F", "%2f", "%5C", "%5c", "%252F")
    ]
    return [item.encode() for item in [*found, "/" + "%2F".join(parts)]]


async def test_encoded_slash_matches_no_own_route(
    make_settings: SettingsFactory,
) -> None:
    app = create_app(make_settings(metrics_path=METRICS))
    async with client(app) as api:
        headers = await cookie_of_a_login(api)
        for path in (*READS, *PUBLIC):
            assert (await ask(app, "GET", path.encode(), headers=headers)).status_code == 200, path
            for raw_path in disguised(path):
                answer = await ask(app, "GET", raw_path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), raw_path
                answer = await ask(app, "PUT", raw_path, headers=headers)
                assert answer.status_code == 404, (
                    raw_path
                )  # 405 would disclose that the route exists
        seen = await ask(app, "GET", b"/me/identity", headers=headers)
        session = f"/me/sessions/{seen.json()['session_id']}"
        for raw_path in disguised(session):
            answer = await ask(app, "DELETE", raw_path, headers=headers)
            assert answer.status_code in (404, 422), raw_path
        assert (await ask(app, "GET", b"/me", headers=headers)).status_code == 200
        answer = await ask(app, "DELETE", session.encode(), headers=headers)
        assert answer.status_code == 204


async def test_other_characters_may_be_encoded(make_settings: SettingsFactory) -> None:
    # An equivalent path by RFC 3986, section 6.2.2.2: a proxy must normalize it.
    app = create_app(make_settings())
    async with client(app):
        assert (await ask(app, "GET", b"/health/%6Cive")).status_code == 200


@pytest.mark.parametrize("mounted", [False, True])
async def test_routes_of_the_importing_application_accept_encoded_slashes(
    make_settings: SettingsFactory, mounted: bool
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/files/{name:path}")
    async def read(name: str, user: Annotated[User, Depends(current_user())]) -> str:
        return name

    root = app
    if mounted:
        root = FastAPI(lifespan=auth.lifespan)
        root.mount("/auth", app)
    prefix = b"/auth" if mounted else b""
    async with client(app) as api:
        headers = await cookie_of_a_login(api)
        for raw_path, name in (
            (b"/files/a%2Fb", "a/b"),
            (b"/files%2Fa", "a"),
            (b"/files/a%5Cb", "a\\b"),
        ):
            answer = await ask(root, "GET", prefix + raw_path, headers=headers)
            assert (answer.status_code, answer.json()) == (200, name)
        for raw_path in (b"/me%2Fidentity", b"/health%2Flive"):
            answer = await ask(root, "GET", prefix + raw_path, headers=headers)
            assert answer.status_code == 404
        if mounted:
            answer = await ask(root, "GET", b"/auth%2Fme", headers=headers)
            assert answer.status_code == 404
