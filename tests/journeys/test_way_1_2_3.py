"""The ways of recognising a caller, walked step by step against a real `authapi serve`.

A request keeps no state, so each one has to say who is calling. A browser-like client with a cookie
jar goes through a session; a program goes through an opaque token and a JWT.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from joserfc import jwk
from joserfc import jwt as second_opinion

from tests.servers.forked import Forking
from tests.servers.process import free_port

ACCOUNT = {"email": "alice@example.com", "password": "correct horse battery staple"}


@pytest.fixture(params=["sqlite", "postgres"])
def service(request: pytest.FixtureRequest, tmp_path: Path, forking: Forking) -> Iterator[str]:
    """The address of a real service, on each database."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "served")}
    if request.param == "postgres":
        environment["AUTHAPI_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with forking.start(["serve", "--port", str(port)], environment, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=30)
        yield f"http://127.0.0.1:{port}"
        assert server.terminate() == 0
        assert "Traceback" not in server.output()


@pytest.fixture
def browser(service: str) -> Iterator[httpx.Client]:
    """A client that keeps cookies and sends them back by itself, as a browser does."""
    with httpx.Client(base_url=service) as http:
        assert http.post("/register", json=ACCOUNT).status_code == 201
        yield http


def test_way_2_cookie_and_session(browser: httpx.Client, service: str) -> None:
    # A visitor whom the server does not know gets nobody's data.
    assert browser.get("/me").status_code == 401

    # Log in: the server checks the account and makes a session; its id is kept as a cookie.
    answer = browser.post("/login", json=ACCOUNT)
    assert answer.status_code == 200
    name, attributes = _set_cookie(answer)
    assert name == "authapi", "plain http on loopback, in development"
    assert attributes == {"httponly", "samesite=lax", "path=/"}, "no Max-Age: the browser's session"
    secret = browser.cookies["authapi"]
    assert secret not in answer.text

    # The client sends it, the server looks it up in the store and answers with that user's data.
    me = browser.get("/me")
    assert (me.status_code, me.json()["email"]) == (200, ACCOUNT["email"])
    assert browser.get("/me/identity").json()["strategy"] == "session"

    # The browser revalidates its private copy: unchanged data does not travel again.
    again = browser.get("/me", headers={"If-None-Match": me.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    # A session holds temporary data about the visit, on the server.
    assert browser.patch("/me/session", json={"basket": ["tea"]}).status_code == 200
    assert browser.get("/me/session").json()["data"] == {"basket": ["tea"]}

    # Another browser is another visit: it has no cookie, and after a login none of this data.
    with httpx.Client(base_url=service) as other:
        assert other.get("/me/session").status_code == 401
        assert other.post("/login", json=ACCOUNT).status_code == 200
        assert other.get("/me/session").json()["data"] == {}
        assert len(other.get("/me/sessions").json()) == 2

    # The session ends at logout: the cookie is taken away, and the old one opens nothing.
    goodbye = browser.post("/logout")
    assert goodbye.status_code == 204
    assert "max-age=0" in _set_cookie(goodbye)[1]
    assert goodbye.headers["clear-site-data"] == '"cache", "cookies", "storage"'
    assert "authapi" not in browser.cookies
    assert browser.get("/me", headers={"Cookie": f"authapi={secret}"}).status_code == 401


def test_a_remembered_login_outlives_the_browser(browser: httpx.Client) -> None:
    answer = browser.post("/login", json={**ACCOUNT, "remember": True})
    assert "max-age=7776000" in _set_cookie(answer)[1]


def test_way_3_opaque_token(browser: httpx.Client) -> None:
    answer = browser.post("/login", json={**ACCOUNT, "strategy": "token"})
    token = answer.json()["access_token"]
    assert token.startswith("aat_")
    assert "set-cookie" not in answer.headers
    headers = {"Authorization": f"Bearer {token}"}
    assert browser.get("/me", headers=headers).json()["email"] == ACCOUNT["email"]
    assert browser.get("/me/identity", headers=headers).json()["strategy"] == "token"
    assert browser.post("/logout", headers=headers).status_code == 204
    assert browser.get("/me", headers=headers).status_code == 401


def test_way_3_jwt(browser: httpx.Client, service: str) -> None:
    token = browser.post("/login", json={**ACCOUNT, "strategy": "jwt"}).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    me = browser.get("/me", headers=headers).json()

    # Anybody can read and verify it with our public keys; here two libraries that are not ours.
    keys = browser.get("/.well-known/jwks.json").json()
    claims = jwt.decode(
        token,
        jwt.PyJWKSet.from_dict(keys)[jwt.get_unverified_header(token)["kid"]],
        algorithms=["ES256"],
        audience="authapi",
        issuer=service,
        options={"require": ["exp", "iat", "sub", "jti", "aud", "iss"]},
    )
    assert claims["sub"] == me["id"]
    other = second_opinion.decode(token, jwk.KeySet.import_key_set(keys), algorithms=["ES256"])
    assert other.claims == claims
    assert other.header["typ"] == "at+jwt"

    # And still it is dead at once after a logout.
    assert browser.post("/logout", headers=headers).status_code == 204
    assert browser.get("/me", headers=headers).status_code == 401


def test_way_1_account_data_in_the_header_is_off(browser: httpx.Client) -> None:
    answer = browser.get("/me", auth=(ACCOUNT["email"], ACCOUNT["password"]))
    assert answer.status_code == 401
    assert not any(item.startswith("Basic") for item in answer.headers.get_list("www-authenticate"))


def _set_cookie(answer: httpx.Response) -> tuple[str, set[str]]:
    """Name and attributes, in lower case, of the one cookie that an answer sets."""
    [header] = answer.headers.get_list("set-cookie")
    pair, *attributes = (part.strip() for part in header.split(";"))
    return pair.partition("=")[0], {attribute.lower() for attribute in attributes}
