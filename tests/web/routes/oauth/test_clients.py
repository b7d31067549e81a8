"""A resource server that introspects by client id and secret (RFC 6749, section 2.3.1)."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote, quote_plus

import httpx
import pytest

from authapi import Settings, create_app
from authapi.crypto.secrets import new_opaque_token
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import claims_of
from tests.web.logins import sign_in
from tests.web.responses import BEARER, problem
from tests.web.tokens import bearer, login

PATH = "/token/introspect"
BASIC = 'Basic realm="authapi", charset="UTF-8"'
DEAD = b'{"active":false}'
UNKNOWN_ID = "0190c0de-0000-7000-8000-000000000000"
Pair = tuple[str, str]


@pytest.fixture
async def api_on_both(database_url: str) -> AsyncIterator[Client]:
    """The service on each database."""
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # a text, as in the environment
    async with client(create_app(settings)) as api:
        yield api


async def create_client(api: Client, owner: User, scopes: list[str] | None = None) -> Pair:
    """Id and secret of a new personal access token; by default with all scopes of its owner."""
    headers = await sign_in(api.services, owner, "jwt")
    body = {"name": "gateway"} | ({} if scopes is None else {"scopes": scopes})
    answer = await api.post("/me/tokens", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["access_token"]


def basic(name: str, secret: str) -> dict[str, str]:
    """A header Authorization with these parts, without form encoding."""
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def requests(pair: Pair) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Headers and form parameters of each method, in each encoding."""
    name, secret = pair
    yield basic(name, secret), {}
    yield basic(quote_plus(name), quote_plus(secret)), {}
    # openid-client escapes more characters than necessary.
    escaped = [quote(part, safe="").replace("-", "%2D").replace("_", "%5F") for part in pair]
    yield basic(*escaped), {}
    yield basic(name.upper(), secret), {}
    lower = basic(name, secret)["authorization"].replace("Basic", "bAsIc")
    yield {"authorization": lower}, {}
    yield basic(name, secret), {"client_id": name}
    yield basic(name, secret), {"client_secret": ""}
    yield {}, {"client_id": name, "client_secret": secret}
    yield {"cookie": "authapi=x"}, {"client_id": name, "client_secret": secret}


async def ask(
    api: Client, token: str, headers: dict[str, str], fields: dict[str, str]
) -> httpx.Response:
    """The response of an introspection of `token`."""
    return await api.post(PATH, data={"token": token, **fields}, headers=headers)


def check_refusal(answer: httpx.Response) -> None:
    """Check that the response is `invalid_client` as in RFC 6749, section 5.2."""
    body = problem(answer, 401, "invalid_client")
    assert body["error"] == "invalid_client"
    challenges = answer.headers.get_list("www-authenticate")
    assert challenges[:2] == [BASIC, BEARER]
    assert challenges.count(BASIC) == 1


async def test_both_methods_are_accepted_in_every_encoding(api_on_both: Client) -> None:
    root = await api_on_both.create_user(is_superuser=True)
    alice = await login(api_on_both, await api_on_both.create_user(), "jwt")
    token = alice["access_token"]
    for scopes in (["introspect"], None):
        pair = await create_client(api_on_both, root, scopes)
        for headers, fields in requests(pair):
            for _ in range(2):  # the second time from the identity cache
                answer = await ask(api_on_both, token, headers, fields)
                assert answer.status_code == 200, (headers, fields, answer.text)
                assert answer.json()["sub"] == claims_of(token)["sub"]
            assert (await ask(api_on_both, "x", headers, fields)).content == DEAD


async def test_wrong_client_credentials_are_invalid_client(api_on_both: Client) -> None:
    root = await api_on_both.create_user(is_superuser=True)
    name, secret = await create_client(api_on_both, root, ["introspect"])
    other, _ = await create_client(api_on_both, root, ["introspect"])
    strangers = [
        (other, secret),  # another token of the same account
        (UNKNOWN_ID, secret),
        (name, new_opaque_token()),
        (name, "x"),
        (name, secret + "x"),
        (name, secret[:-1]),
        (name.replace("-", ""), secret),
        (f"{{{name}}}", secret),
        (str(root.id), secret),
        ("gateway", secret),
        ("", secret),
        (secret, secret),
        (secret, name),
    ]
    for pair in strangers:
        check_refusal(await ask(api_on_both, "x", basic(*pair), {}))
        check_refusal(
            await ask(api_on_both, "x", {}, {"client_id": pair[0], "client_secret": pair[1]})
        )
    check_refusal(await ask(api_on_both, "x", {}, {"client_secret": secret}))
    check_refusal(await ask(api_on_both, "x", basic(name, ""), {}))
    for value in ("Basic", "Basic !!", "Basic " + "x" * 51, "Basic " + "a" * 40):
        check_refusal(await ask(api_on_both, "x", {"authorization": value}, {}))
    not_utf8 = base64.b64encode(b"\xff:" + secret.encode()).decode()
    check_refusal(await ask(api_on_both, "x", {"authorization": f"Basic {not_utf8}"}, {}))
    percent = base64.b64encode(f"%ff:{secret}".encode()).decode()
    check_refusal(await ask(api_on_both, "x", {"authorization": f"Basic {percent}"}, {}))
    # The response of the identity cache is the same.
    assert (await ask(api_on_both, "x", basic(name, secret), {})).status_code == 200
    check_refusal(await ask(api_on_both, "x", basic(other, secret), {}))


async def test_two_methods_in_one_request_are_refused(api_on_both: Client) -> None:
    root = await api_on_both.create_user(is_superuser=True)
    name, secret = pair = await create_client(api_on_both, root, ["introspect"])
    other = await create_client(api_on_both, root, ["introspect"])
    posted = {"client_id": name, "client_secret": secret}
    for _ in range(2):
        for headers, fields in (
            (basic(*pair), posted),
            (basic(*other), posted),
            (basic(name, "wrong"), posted),
            (basic(*pair), {"client_id": other[0]}),
            (basic(*pair), {"client_secret": secret}),
            (bearer(secret), posted),
        ):
            answer = await ask(api_on_both, "x", headers, fields)
            assert problem(answer, 400, "invalid_request")["error"] == "invalid_request"
        assert (await ask(api_on_both, "x", basic(*pair), {})).status_code == 200
    # A `client_id` without a secret is ignored beside another credential.
    assert (await ask(api_on_both, "x", bearer(secret), {"client_id": "any"})).status_code == 200
    answer = await ask(api_on_both, "x", {}, {"client_id": name})
    assert problem(answer, 401, "unauthenticated")["error"] == "invalid_client"


async def test_a_client_without_the_scope_is_refused(api_on_both: Client) -> None:
    alice = await api_on_both.create_user()
    for headers, fields in requests(await create_client(api_on_both, alice)):
        answer = await ask(api_on_both, "x", headers, fields)
        assert problem(answer, 403, "insufficient_scope")["error"] == "insufficient_scope"


async def test_login_tokens_are_not_clients(api_on_both: Client) -> None:
    root = await api_on_both.create_user(is_superuser=True)
    issued = await login(api_on_both, root, "token")
    secret = issued["access_token"]
    assert (await ask(api_on_both, "x", bearer(secret), {})).status_code == 200
    identity = (await api_on_both.get("/me/identity", headers=bearer(secret))).json()
    for headers, fields in requests((identity["session_id"], secret)):
        check_refusal(await ask(api_on_both, "x", headers, fields))


async def test_a_client_is_revoked_with_its_token(api_on_both: Client) -> None:
    root = await api_on_both.create_user(is_superuser=True)
    pair = await create_client(api_on_both, root, ["introspect"])
    assert (await ask(api_on_both, "x", basic(*pair), {})).status_code == 200
    headers = await sign_in(api_on_both.services, root, "jwt")
    assert (await api_on_both.delete(f"/me/tokens/{pair[0]}", headers=headers)).status_code == 204
    for method, fields in requests(pair):
        check_refusal(await ask(api_on_both, "x", method, fields))
    other = await create_client(api_on_both, root, ["introspect"])
    assert (await ask(api_on_both, "x", basic(*other), {})).status_code == 200
    await api_on_both.create_user(is_superuser=True)
    await api_on_both.services.accounts.administration.change(root.id, {"is_active": False})
    for method, fields in requests(other):
        check_refusal(await ask(api_on_both, "x", method, fields))


async def test_client_credentials_are_refused_by_other_routes(api: Client) -> None:
    root = await api.create_user(is_superuser=True)
    name, secret = await create_client(api, root, ["introspect"])
    for path in ("/me", "/me/sessions"):
        answer = await api.get(path, headers=basic(name, secret))
        problem(answer, 401, "unauthenticated")


async def test_cross_origin_requests_are_refused(api: Client) -> None:
    root = await api.create_user(is_superuser=True)
    pair = await create_client(api, root, ["introspect"])
    for headers, fields in requests(pair):
        foreign = {**headers, "sec-fetch-site": "cross-site"}
        answer = await ask(api, "x", foreign, fields)
        problem(answer, 403, "foreign_origin")


async def test_clients_work_with_the_strategy_basic(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies=("session", "token", "jwt", "basic"))
    async with client(create_app(settings)) as api:
        root = await api.create_user("root@example.com", is_superuser=True)
        pair = await create_client(api, root, ["introspect"])
        for headers, fields in requests(pair):
            assert (await ask(api, "x", headers, fields)).status_code == 200
        good = basic("root@example.com", PASSWORD)
        assert (await ask(api, "x", good, {})).status_code == 200
        check_refusal(await ask(api, "x", basic("root@example.com", "wrong"), {}))
        check_refusal(await ask(api, "x", basic(UNKNOWN_ID, pair[1]), {}))


async def test_without_personal_tokens_there_are_no_clients(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        root = await api.create_user(is_superuser=True)
        pair = await create_client(api, root, ["introspect"])
    settings = make_settings(strategies=("session", "jwt"))
    async with client(create_app(settings)) as api:
        for headers, fields in requests(pair):
            answer = await ask(api, "x", headers, fields)
            assert answer.status_code == 401
            assert BASIC not in answer.headers.get_list("www-authenticate")
        server = (await api.get("/.well-known/oauth-authorization-server")).json()
        assert server["introspection_endpoint_auth_methods_supported"] == ["Bearer"]
        assert "client_secret" not in json.dumps(create_app(settings).openapi()["components"])


async def test_revocation_accepts_client_credentials(api: Client) -> None:
    # Confidential clients also send their credentials here, although the token is sufficient.
    root = await api.create_user(is_superuser=True)
    pair = await create_client(api, root, ["introspect"])
    for method, fields in [*requests(pair), (basic("any", "secret"), {})]:
        held = await login(api, await api.create_user(), "jwt")
        form = {"token": held["refresh_token"], **fields}
        answer = await api.post("/token/revoke", data=form, headers=method)
        assert (answer.status_code, answer.content) == (200, b"")
        answer = await api.get("/me", headers=bearer(held["access_token"]))
        assert answer.status_code == 401


async def test_responses_and_logs_contain_no_secret(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    root = await api.create_user(is_superuser=True)
    name, secret = await create_client(api, root, ["introspect"])
    for headers, fields in requests((UNKNOWN_ID, secret)):
        answer = await ask(api, "x", headers, fields)
        assert secret not in answer.text
    assert (await ask(api, "x", basic(name, secret), {})).status_code == 200
    assert secret not in caplog.text
    assert secret not in str([vars(record) for record in caplog.records])
