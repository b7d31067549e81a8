"""Error responses: complete, documented, and without input of the client."""

import ast
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI, HTTPException
from starlette.responses import Response

import authapi
from authapi import AuthAPI, create_app, errors
from authapi.errors import AuthAPIError, Refusal, Unavailable
from authapi.testing import Client, client
from authapi.web.problems import STATUS, status_of
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.responses import BEARER, DOCUMENTED, DOCUMENTED_INPUT_ERRORS, check_headers, problem

SOURCE = Path(authapi.__file__).parent


def subclasses(kind: type[AuthAPIError]) -> Iterator[type[AuthAPIError]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


OWN = sorted(
    {
        kind
        for kind in (*subclasses(Refusal), Unavailable, *subclasses(Unavailable))
        if kind.__module__.startswith("authapi.errors")
    },
    key=lambda kind: kind.__name__,
)
EXTRA = {"method_not_allowed": 405, "internal_error": 500}
WAITS = {"ticket": "x", "methods": ("totp",), "expires_at": datetime(2030, 1, 1, tzinfo=UTC)}
ARGUMENTS: dict[type[AuthAPIError], dict[str, object]] = {
    errors.EmailNeeded: {"ticket": "x", "expires_at": datetime(2030, 1, 1, tzinfo=UTC)},
    errors.EnrolmentRequired: WAITS,
    errors.InsufficientAuthentication: {"acr": "phr", "max_age": 1},
    errors.LinkRequired: {"methods": ("password",)},
    errors.SecondFactorRefused: {"attempts_left": 1},
    errors.SecondFactorRequired: WAITS,
    errors.StaleAuthentication: {"max_age": 1},
    errors.TooManyAttempts: {"retry_after": 1},
    errors.InsufficientScope: {"required": ("a", "b")},
}


def instance(kind: type[AuthAPIError]) -> AuthAPIError:
    return kind(**ARGUMENTS.get(kind, {}))


def code_of(kind: type[AuthAPIError]) -> str:
    code = getattr(kind, "code", None)
    assert isinstance(code, str)
    return code


def test_docs_list_exactly_the_existing_codes() -> None:
    assert {code_of(kind): status_of(instance(kind)) for kind in OWN} | EXTRA == dict(DOCUMENTED)


def test_docs_list_exactly_the_own_input_rules() -> None:
    own = set[str]()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            position = {"InputError": 1, "PydanticCustomError": 0}.get(node.func.id)
            argument = None if position is None else node.args[position]
            if isinstance(argument, ast.Constant):
                own.add(str(argument.value))
    assert len(own) > 5
    assert own <= DOCUMENTED_INPUT_ERRORS
    documented = (SOURCE.parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
    listed = documented.partition("## Codes in `errors`")[2]
    for code in own:
        assert listed.count(f"`{code}`") == 1


def test_every_code_has_one_title_and_one_status() -> None:
    codes = [code_of(kind) for kind in OWN if errors.InvalidCredential not in kind.__mro__]
    assert len(set(codes)) == len(codes)
    for kind in OWN:
        assert any(parent in STATUS for parent in kind.__mro__)
        assert code_of(kind).replace("_", "").islower()


def test_internal_errors_have_status_500() -> None:
    for kind in (errors.ConfigurationError, errors.TokenError, errors.PasswordMismatch, Refusal):
        assert status_of(kind()) == 500


@pytest.fixture
def app(make_settings: SettingsFactory) -> FastAPI:
    """An application with routes that raise each kind of error."""
    auth = AuthAPI(make_settings())
    found = FastAPI(lifespan=auth.lifespan)
    auth.install(found, governs_app=True)

    @found.get("/refuse/{name}")
    async def refuse(name: str) -> None:
        raise instance(getattr(errors, name))

    @found.get("/fail/{message}")
    def fail(message: str) -> None:
        raise LookupError(f"SELECT {message}")

    @found.get("/http/{status}")
    async def http(status: int) -> None:
        raise HTTPException(status, headers={"x-more": "1"})

    @found.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    return found


async def test_every_error_is_a_problem_document(app: FastAPI) -> None:
    async with client(app) as api:
        for kind in OWN:
            response = await api.get(f"/refuse/{kind.__name__}")
            problem(response, status_of(instance(kind)), code_of(kind))


async def test_missing_scope_is_named_in_the_bearer_challenge_only(app: FastAPI) -> None:
    async with client(app) as api:
        response = await api.get("/refuse/InsufficientScope")
        assert response.headers.get_list("www-authenticate") == [
            f'{BEARER}, error="insufficient_scope", scope="a b"'
        ]


@pytest.mark.parametrize("name", ["ConfigurationError", "TokenError", "PasswordMismatch"])
async def test_internal_error_is_answered_without_details(app: FastAPI, name: str) -> None:
    async with client(app) as api:
        problem(await api.get(f"/refuse/{name}"), 500, "internal_error")


async def test_unhandled_exception_is_logged_and_not_disclosed(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with client(app) as api:
        alice = await api.create_user()
        headers = await sign_in(api.services, alice)
        headers |= {"x-request-id": "CANARY-1"}
        response = await api.get("/fail/CANARY-2", headers=headers)
        body = problem(response, 500, "internal_error")
        assert body["detail"] == body["title"] == "Internal server error"
        for text in ("CANARY", "SELECT", "LookupError", "Traceback", ".py", "fastapi"):
            assert text not in response.text
            assert text not in str(response.headers)
        [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert (record.name, record.levelname) == ("authapi", "ERROR")
        assert getattr(record, "request_id", None) == body["request_id"]
        assert record.exc_info
        assert record.exc_info[0] is LookupError
        # The log contains neither the credential nor a header of the client.
        text = logging.Formatter().format(record)
        assert "CANARY-1" not in text
        assert headers["cookie"].partition("=")[2] not in text
        # The next request succeeds.
        assert (await api.get("/me", headers=headers)).status_code == 200


async def test_errors_of_the_framework_are_problem_documents_too(app: FastAPI) -> None:
    async with client(app) as api:
        for status, code in [
            (400, "bad_request"),
            (429, "too_many_requests"),
            (502, "bad_gateway"),
        ]:
            response = await api.get(f"/http/{status}")
            assert response.status_code == status
            check_headers(response)
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["x-more"] == "1"
            assert response.json()["code"] == code
        assert (await api.get("/teapot")).json()["detail"] == "short and stout"
        assert (await api.get("/http/304")).content == b""
        problem(await api.get("/http/404"), 404, "not_found")


async def test_exception_handlers_of_the_application_are_kept(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    @app.exception_handler(HTTPException)
    async def own(*_: object) -> Response:
        return Response("mine", 400)

    auth.install(app)

    @app.get("/own")
    async def fail() -> None:
        raise HTTPException(400)

    async with client(app) as api:
        assert (await api.get("/own")).text == "mine"
        problem(await api.get("/me"), 401, "unauthenticated")


async def test_number_of_input_errors_is_limited(
    api: Client,
) -> None:
    body = {f"{n}": 0 for n in range(5000)}
    response = await api.post("/register", json=body)
    errors_told = problem(response, 422, "validation_failed")["errors"]
    assert isinstance(errors_told, list)
    assert len(errors_told) == 100
    assert len(response.content) < 20_000


async def test_name_of_an_unknown_member_is_not_disclosed(api: Client) -> None:
    names = ("is_superuser", "canary", "c4", "x" * 41, "\u00e9", "?")
    response = await api.post("/register", json=dict.fromkeys(names, 0))
    found = problem(response, 422, "validation_failed")["errors"]
    assert isinstance(found, list)
    locations = [e["loc"] for e in found if e["code"] == "extra_forbidden"]
    assert locations == [["body", "?"]] * len(names)
    assert "canary" not in response.text


@pytest.mark.parametrize(
    "given", ["x", "Q", "0190c0de-0000-7000-8000-00000000000\u00e9", "{", "z" * 36]
)
async def test_invalid_id_is_not_repeated(api: Client, given: str) -> None:
    headers = await sign_in(api.services, await api.create_user(), "jwt")
    path = f"/me/tokens/{quote(given)}"
    body = problem(await api.delete(path, headers=headers), 422, "validation_failed")
    message = "must be a UUID"
    assert body["errors"] == [
        {"loc": ["path", "token_id"], "code": "uuid_parsing", "message": message}
    ]


async def test_refusals_of_all_credentials_have_one_body(api: Client) -> None:
    bodies = set()
    for headers in (
        {},
        {"authorization": "Bearer x"},
        {"authorization": "Bearer a.b.c"},
        {"authorization": "Bearer aat_x"},
        {"authorization": "Bearer"},
        {"cookie": "authapi=x"},
        {"cookie": "authapi=" + "A" * 43},
    ):
        body = problem(await api.get("/me", headers=headers), 401, "unauthenticated")
        bodies.add(str({**body, "request_id": None}))
    assert len(bodies) == 1


async def test_inactive_account_has_its_own_code(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        alice = await api.create_user()
        headers = await sign_in(api.services, alice, "jwt")
        async with api.services.database.transaction() as store:
            # Directly in the database: the service would end the session too.
            await store.users.set_active(alice.id, False, at=alice.updated_at)
        problem(await api.get("/me", headers=headers), 401, "inactive_account")
