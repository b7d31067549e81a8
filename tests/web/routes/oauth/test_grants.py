"""POST /token: the password grant, which requires the docs page."""

import json

import httpx
import pytest

from authapi import create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import claims_of
from tests.web.responses import check_headers, problem, unnamed

GRANT = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
FORM = {"content-type": "application/x-www-form-urlencoded"}


async def test_a_password_grant_issues_a_jwt(api_on_each: Client) -> None:
    alice = await api_on_each.create_user("alice@example.com")
    response = await api_on_each.post("/token", data={**GRANT, "username": "Alice@example.com"})
    assert response.status_code == 200
    check_headers(response)
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body.keys() == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "refresh_expires_in",
        "scope",
    }
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("bearer", 600, "")
    assert "set-cookie" not in response.headers
    headers = {"authorization": f"Bearer {body['access_token']}"}
    identity = (await api_on_each.get("/me/identity", headers=headers)).json()
    assert (identity["user_id"], identity["strategy"]) == (str(alice.id), "jwt")
    assert (await api_on_each.post("/logout", headers=headers)).status_code == 204
    assert (await api_on_each.get("/me", headers=headers)).status_code == 401


SCOPES = {"b:write": "Write", "a:read": "Read"}


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({}, {"a:read", "b:write"}),
        # RFC 6749, section 3.2: a parameter without a value is treated as omitted.
        ({"scope": ""}, {"a:read", "b:write"}),
        ({"scope": "a:read"}, {"a:read"}),
        ({"scope": "b:write a:read"}, {"a:read", "b:write"}),
    ],
    ids=range(4),
)
async def test_only_requested_scopes_are_granted(
    make_settings: SettingsFactory, asked: dict[str, str], granted: set[str]
) -> None:
    async with client(create_app(make_settings(scopes=SCOPES))) as api:
        alice = await api.create_user("alice@example.com")
        body = (await api.post("/token", data={**GRANT, **asked})).json()
        assert body["scope"] == " ".join(sorted(granted))
        assert claims_of(body["access_token"])["scope"] == body["scope"]
        headers = {"authorization": f"Bearer {body['access_token']}"}
        identity = (await api.get("/me/identity", headers=headers)).json()
        assert set(identity["scopes"]) == granted
        # It cannot create a token with more scopes.
        made = await api.post("/me/tokens", json={"name": "x"}, headers=headers)
        assert set(made.json()["scopes"]) == granted
        [session] = await api.services.sessions.list_for_user(alice.id)
        # No scope was requested: the login has all scopes that its user has at the time of use.
        assert session.scopes == (granted if asked.get("scope") else None)


@pytest.mark.parametrize(
    "scope",
    ["A:READ", "a:read x", "admin", " ", "a:read ", " a:read", "a:read  b:write", "a:read a:read"],
)
async def test_unknown_scopes_are_refused_before_the_password(
    make_settings: SettingsFactory, scope: str
) -> None:
    async with client(create_app(make_settings(scopes=SCOPES))) as api:
        alice = await api.create_user("alice@example.com")
        for password in (PASSWORD, "wrong"):
            form = {**GRANT, "password": password, "scope": scope}
            answer = await api.post("/token", data=form)
            problem(answer, 400, "invalid_scope")
            assert answer.json()["error"] == "invalid_scope"
        assert await api.services.sessions.list_for_user(alice.id) == []


async def test_empty_scopes_and_unknown_parameters_are_ignored(api: Client) -> None:
    # RFC 6749, section 3.2: unrecognized parameters must be ignored.
    await api.create_user("alice@example.com")
    more = {"scope": "", "client_id": "swagger", "client_secret": "x", "audience": "y"}
    assert (await api.post("/token", data={**GRANT, **more})).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"password": "wrong"},
        {"password": PASSWORD + " "},
        {"username": "bob@example.com"},
        {"username": "not an address"},
        {"username": "alice@example.com "},
    ],
)
async def test_wrong_credentials_are_refused_alike(api: Client, change: dict[str, str]) -> None:
    await api.create_user("alice@example.com")
    reference = await api.post("/token", data={**GRANT, "password": "wrong password"})
    response = await api.post("/token", data={**GRANT, **change})
    problem(response, 400, "invalid_grant")
    assert unnamed(response) == unnamed(reference)


async def test_a_deactivated_account_is_refused_alike(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    reference = await api.post("/token", data={**GRANT, "password": "wrong password"})
    await api.services.accounts.administration.change(alice.id, {"is_active": False})
    assert unnamed(await api.post("/token", data=GRANT)) == unnamed(reference)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ("", "invalid_request"),
        ("grant_type=password", "invalid_request"),
        ("grant_type=password&username=a%40example.com", "invalid_request"),
        ("grant_type=password&username=a%40example.com&password=", "invalid_request"),
        ("grant_type=password&username=&password=x", "invalid_request"),
        ("username=a%40example.com&password=x", "invalid_request"),
        ("grant_type=password&username=a&password=" + "x" * 1025, "invalid_request"),
        ("grant_type=password&grant_type=password&username=a&password=x", "invalid_request"),
        ("grant_type=password&username=a&username=b&password=x", "invalid_request"),
        ("grant_type=password&username=a&password=x&x=1&x=1", "invalid_request"),
        ("grant_type=password&username=a%00&password=x", "invalid_request"),
        ("grant_type=password&username=a&password=x%00", "invalid_request"),
        ("grant_type=password&username=a&password=%ff", "invalid_request"),
        ("grant_type=password&username=a&password=%ed%a0%80", "invalid_request"),
        ("grant_type=password&username=a&password=ü", "invalid_request"),
        ("grant_type=password&username=a&password=x&scope=%22", "invalid_scope"),
        ("grant_type=password&username=a&password=x&scope=a%09b", "invalid_scope"),
        ("grant_type=password&username=a&password=x&scope=%C3%BC", "invalid_scope"),
        ("grant_type=password&username=a&password=x&scope=" + "x" * 8193, "invalid_scope"),
        ("grant_type", "invalid_request"),
        ("&".join(f"f{n}=x" for n in range(51)), "invalid_request"),
        ("grant_type=password;username=a;password=x", "unsupported_grant_type"),
        ("grant_type=", "invalid_request"),
        ("grant_type=PASSWORD&username=a&password=x", "unsupported_grant_type"),
        ("grant_type=refresh_token&refresh_token=x", "invalid_grant"),
        ("grant_type=refresh_token&refresh_token=", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=x&scope=a+a", "invalid_scope"),
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("grant_type=implicit", "unsupported_grant_type"),
        ("grant_type=authorization_code&code=x", "unsupported_grant_type"),
    ],
)
async def test_invalid_grants_are_refused(api: Client, form: str, code: str) -> None:
    problem(await api.post("/token", content=form.encode(), headers=FORM), 400, code)


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "text/plain", "multipart/form-data; boundary=x", "*/*", "form"],
)
async def test_other_content_types_are_refused(api: Client, content_type: str | None) -> None:
    await api.create_user("alice@example.com")
    headers = {} if content_type is None else {"content-type": content_type}
    for content in (httpx.QueryParams(GRANT), json.dumps(GRANT)):
        response = await api.post("/token", content=str(content).encode(), headers=headers)
        problem(response, 415, "unsupported_media_type")


async def test_the_content_type_may_have_a_charset(api: Client) -> None:
    await api.create_user("alice@example.com")
    headers = {"content-type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"}
    body = str(httpx.QueryParams(GRANT)).encode()
    assert (await api.post("/token", content=body, headers=headers)).status_code == 200


async def test_the_password_grant_requires_the_docs_page(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(docs=False))) as api:
        await api.create_user("alice@example.com")
        problem(await api.post("/token", data=GRANT), 400, "unsupported_grant_type")


@pytest.mark.parametrize(
    ("password_grant", "docs", "is_allowed"),
    [
        *(("docs", True, True), ("docs", False, False), ("on", False, True), ("on", True, True)),
        *(("off", True, False), ("off", False, False)),
    ],
)
async def test_the_setting_of_the_password_grant(
    make_settings: SettingsFactory, password_grant: str, docs: bool, is_allowed: bool
) -> None:
    app = create_app(make_settings(docs=docs, password_grant=password_grant))
    async with client(app) as api:
        await api.create_user("alice@example.com")
        answer = await api.post("/token", data=GRANT)
        if is_allowed:
            assert answer.status_code == 200
        else:
            problem(answer, 400, "unsupported_grant_type")
        metadata = (await api.get("/.well-known/oauth-authorization-server")).json()
        assert ("password" in metadata["grant_types_supported"]) == is_allowed
        document = app.openapi()
        body = document["paths"]["/token"]["post"]["requestBody"]["content"][FORM["content-type"]]
        assert ("password" in body["schema"]["properties"]["grant_type"]["enum"]) == is_allowed
        assert ({"username", "password"} <= body["schema"]["properties"].keys()) == is_allowed
        assert ("alice@example.com" in json.dumps(body)) == is_allowed
        flows = document["components"]["securitySchemes"]["jwt"].get("flows", {})
        assert ("password" in flows) == is_allowed
        assert "x-authapi-limit" not in json.dumps(document)


async def test_without_jwts_there_are_no_grants(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies=("session", "token"))
    async with client(create_app(settings)) as api:
        await api.create_user("alice@example.com")
        problem(await api.post("/token", data=GRANT), 400, "unsupported_grant_type")
