"""The three ways to authenticate a request, step by step with a real `authapi serve`.

HTTP is stateless, so each request must identify the caller: with account data in the header (1), a
cookie of a session (2), or a token (3). A client with a cookie jar stands for a browser.
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
    """The URL of a real service, on each database."""
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "AUTHAPI_DATA_DIR": str(tmp_path / "served")}
    if request.param == "postgres":
        environment["AUTHAPI_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with forking.start(["serve", "--port", str(port)], environment, tmp_path) as server:
        server.wait_ready(f"http://127.0.0.1:{port}/health/ready", timeout=60)
        yield f"http://127.0.0.1:{port}"
        assert server.terminate() == 0
        assert "Traceback" not in server.output()


@pytest.fixture
def browser(service: str) -> Iterator[httpx.Client]:
    """A client with a cookie jar, as a browser has."""
    with httpx.Client(base_url=service) as http:
        assert http.post("/register", json=ACCOUNT).status_code == 201
        yield http


def test_way_2_cookie_and_session(browser: httpx.Client, service: str) -> None:
    # A request without a cookie is refused.
    assert browser.get("/me").status_code == 401

    # Log in: the server checks the password, creates a session, and sets a cookie.
    answer = browser.post("/login", json=ACCOUNT)
    assert answer.status_code == 200
    name, attributes = _set_cookie(answer)
    assert name == "authapi", "plain http on loopback, in development"
    assert attributes == {"httponly", "samesite=lax", "path=/"}, "no Max-Age: the browser's session"
    secret = browser.cookies["authapi"]
    assert secret not in answer.text

    # The client sends the cookie; the server finds the session and returns the data of its user.
    me = browser.get("/me")
    assert (me.status_code, me.json()["email"]) == (200, ACCOUNT["email"])
    assert browser.get("/me/identity").json()["strategy"] == "session"

    # The browser revalidates its cached copy: unchanged data is not sent again.
    again = browser.get("/me", headers={"If-None-Match": me.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")

    # The server stores temporary data in the session.
    assert browser.patch("/me/session", json={"basket": ["tea"]}).status_code == 200
    assert browser.get("/me/session").json()["data"] == {"basket": ["tea"]}

    # Another browser has no cookie, and after a login another session without this data.
    with httpx.Client(base_url=service) as other:
        assert other.get("/me/session").status_code == 401
        assert other.post("/login", json=ACCOUNT).status_code == 200
        assert other.get("/me/session").json()["data"] == {}
        assert len(other.get("/me/sessions").json()) == 2

    # The logout ends the session: the cookie is deleted, and its old value is invalid.
    goodbye = browser.post("/logout")
    assert goodbye.status_code == 204
    assert "max-age=0" in _set_cookie(goodbye)[1]
    assert goodbye.headers["clear-site-data"] == '"cache", "cookies", "storage"'
    assert "authapi" not in browser.cookies
    assert browser.get("/me", headers={"Cookie": f"authapi={secret}"}).status_code == 401


def test_a_remembered_login_sets_a_persistent_cookie(browser: httpx.Client) -> None:
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

    # Two independent libraries verify the JWT with the public keys of the service.
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

    # After a logout, the JWT is refused at once.
    assert browser.post("/logout", headers=headers).status_code == 204
    assert browser.get("/me", headers=headers).status_code == 401


def test_way_1_http_basic_is_off(browser: httpx.Client) -> None:
    answer = browser.get("/me", auth=(ACCOUNT["email"], ACCOUNT["password"]))
    assert answer.status_code == 401
    assert not any(item.startswith("Basic") for item in answer.headers.get_list("www-authenticate"))


def _set_cookie(answer: httpx.Response) -> tuple[str, set[str]]:
    """Name and lower-case attributes of the only cookie that a response sets."""
    [header] = answer.headers.get_list("set-cookie")
    pair, *attributes = (part.strip() for part in header.split(";"))
    return pair.partition("=")[0], {attribute.lower() for attribute in attributes}
