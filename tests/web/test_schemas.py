"""Schemas of requests and responses, and their completeness in the OpenAPI document."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError

from authapi import create_app
from authapi.testing import client
from authapi.web import schemas
from authapi.web.schemas.fields import Input, Output
from authapi.web.schemas.health import HealthOut
from authapi.web.schemas.login import LoginOut
from authapi.web.schemas.monitoring.statistics import SessionCountsOut
from authapi.web.schemas.problem import Problem
from authapi.web.schemas.registration import Registration
from authapi.web.schemas.token import NewToken
from authapi.web.schemas.user import UserOut
from tests.conftest import SettingsFactory

EMAIL = {"email": "a@example.com", "password": "correct horse battery staple"}


def subclasses(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def strings(schema: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every string schema inside `schema`."""
    if isinstance(schema, dict):
        if schema.get("type") == "string":
            yield where, schema
        for name, inner in schema.items():
            yield from strings(inner, f"{where}.{name}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from strings(inner, where)


def request_bodies(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                name = media["schema"].get("$ref", "").rpartition("/")[2]
                schema = document["components"]["schemas"].get(name, media["schema"])
                yield f"{method.upper()} {path}", schema


def test_inputs_are_strict_and_forbid_extra_members() -> None:
    found = [kind for kind in subclasses(Input) if kind.__module__.startswith(schemas.__name__)]
    assert len(found) >= 5
    for kind in found:
        assert kind.model_config["strict"] is True
        assert kind.model_config["extra"] == "forbid"


def test_outputs_forbid_extra_members() -> None:
    open_ones = (LoginOut, Problem)
    for kind in subclasses(Output):
        if kind.__module__.startswith(schemas.__name__) and not issubclass(kind, open_ones):
            assert kind.model_config["extra"] == "forbid"
    with pytest.raises(ValidationError):
        HealthOut(status="ok", version="1")  # type: ignore[call-arg]  # which is the point


def test_no_output_has_a_secret_member() -> None:
    secret = {"password", "password_hash", "secret", "secret_hash", "hash", "token", "cookie"}
    kinds = [kind for kind in subclasses(Output) if kind.__module__.startswith(schemas.__name__)]
    # The secret of a new authenticator app is shown once. The other one counts logins by token.
    assert {kind.__name__ for kind in kinds if secret & kind.model_fields.keys()} == {
        *("EnrolmentOut", "SessionCountsOut"),
    }
    assert SessionCountsOut.model_fields["token"].annotation is int
    assert {kind.__name__ for kind in kinds if "access_token" in kind.model_fields} == {
        "EnrolledLoginOut",
        "LoginOut",
        "NewJWTOut",
        "NewTokenOut",
        "TokenOut",
    }


def test_times_are_utc_to_the_microsecond() -> None:
    names = {"email": "a@example.com", "username": None, "name": None}
    ids = {"id": "01a206a0-003a-773f-bb91-a1591df407d1", **names}
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=9)))
    times = {"created_at": at, "updated_at": at, "email_confirmed_at": at.astimezone(UTC)}
    more: dict[str, object] = {
        "is_active": True,
        "is_superuser": False,
        "locale": None,
        "roles": [],
    }
    user = UserOut.model_validate({**ids, **times, **more})
    written = json.loads(user.model_dump_json())
    assert {written[name] for name in times} == {"2026-01-01T18:04:05.000000Z"}


@pytest.mark.parametrize(
    "name",
    ["a\x00", "a\x1f", "a\x7f", "a\x85", "a\u2028", "a\u2029", "a\n", "\n", "a\r\nb"],
)
def test_name_with_a_line_break_is_refused(name: str) -> None:
    for kind, more in ((Registration, EMAIL), (NewToken, {})):
        with pytest.raises(ValidationError):
            kind.model_validate({**more, "name": name})


@pytest.mark.parametrize("name", ["O'Brien", "李", "🦉", " a ", "<b>", "'; DROP TABLE users; --"])
def test_name_accepts_any_script(name: str) -> None:
    assert Registration.model_validate({**EMAIL, "name": name}).name == name


# The document


@pytest.fixture
def app(make_settings: SettingsFactory) -> FastAPI:
    scopes = {"reports:read": "Read reports", "reports:write": "Write reports"}
    return create_app(make_settings(scopes=scopes, password_min_length=20))


def test_every_input_string_has_a_maximum_length(app: FastAPI) -> None:
    count = 0
    for where, schema in request_bodies(app.openapi()):
        for place, string in strings(schema, where):
            count += 1
            if "enum" not in string and "const" not in string:
                assert "maxLength" in string, place
                assert "pattern" in string or "format" in string, place
    assert count > 10


def test_passwords_have_the_password_format(app: FastAPI) -> None:
    for where, schema in request_bodies(app.openapi()):
        for name, field in schema.get("properties", {}).items():
            if "password" in name:
                assert field["format"] == "password", where
                assert field.get("writeOnly") or where == "POST /token"


def test_document_has_limits_from_the_settings(app: FastAPI) -> None:
    found = app.openapi()["components"]["schemas"]
    assert "x-authapi-limit" not in json.dumps(found)
    for schema, field in (("Registration", "password"), ("PasswordChange", "new_password")):
        assert found[schema]["properties"][field]["minLength"] == 20
        assert found[schema]["properties"][field]["maxLength"] == 1024
    assert found["LoginRequest"]["properties"]["password"]["minLength"] == 1
    strategy = found["LoginRequest"]["properties"]["strategy"]
    assert strategy["anyOf"][0]["enum"] == ["session", "token", "jwt"]
    assert strategy["examples"] == ["session"]
    token = found["NewToken"]["properties"]
    assert token["expires_in"]["anyOf"][0]["maximum"] == 366 * 86400
    scopes = token["scopes"]["anyOf"][0]
    assert scopes["items"]["enum"] == ["reports:read", "reports:write"]
    assert scopes["items"]["examples"] == ["reports:read"]
    assert scopes["maxItems"] == 2


def test_without_scopes_a_token_can_have_none(make_settings: SettingsFactory) -> None:
    document = create_app(make_settings()).openapi()
    scopes = document["components"]["schemas"]["NewToken"]["properties"]["scopes"]["anyOf"][0]
    assert scopes["maxItems"] == 0
    assert "enum" not in scopes["items"]


def test_every_response_has_a_schema(app: FastAPI) -> None:
    document = app.openapi()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            responses = operation["responses"]
            assert {"400", "431"} <= responses.keys()
            is_login = path.startswith("/login") and path not in {
                "/login/disown",
                "/login/passkey/options",
            }
            assert ("401" in responses) == bool(operation.get("security")) or is_login
            for status, response in responses.items():
                where = f"{method} {path} {status}"
                assert "X-Request-ID" in response["headers"], where
                assert ("WWW-Authenticate" in response["headers"]) == (status == "401"), where
                assert ("Retry-After" in response["headers"]) == (status in ("429", "503")), where
                is_oauth = path.split("/")[1] == "token"
                name = "OAuthError" if is_oauth else "Problem"
                kind = "application/json" if is_oauth else "application/problem+json"
                problem = {kind: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
                if status >= "400":
                    assert response["content"] == problem, where
                else:
                    # RFC 7009, section 2.2: the response to a revocation is 200 without a body.
                    # The result of a request for mail is sent by mail.
                    is_empty = status in ("202", "204", "304") or path == "/token/revoke"
                    assert ("content" in response) == (not is_empty), where


def test_every_schema_reference_resolves(app: FastAPI) -> None:
    document = app.openapi()
    text = json.dumps(document)
    for part in ("schemas", "headers"):
        for name in document["components"][part]:
            assert f'"#/components/{part}/{name}"' in text, f"{name} is used nowhere"
    assert "ValidationError" not in document["components"]["schemas"]
    for reference in text.split('"$ref": "#/components/')[1:]:
        part, name = reference.partition('"')[0].split("/")
        assert name in document["components"][part]


def test_error_responses_of_the_importing_application_are_kept(app: FastAPI) -> None:
    class Mine(BaseModel):
        reason: str

    @app.get("/own/{number}", responses={404: {"model": Mine}})
    def own(number: int) -> int:
        return number

    responses = app.openapi()["paths"]["/own/{number}"]["get"]["responses"]
    assert "Mine" in json.dumps(responses["404"]["content"])
    assert list(responses["422"]["content"]) == ["application/problem+json"]


async def test_served_document_equals_the_generated_one(app: FastAPI) -> None:
    async with client(app) as api:
        assert (await api.get("/openapi.json")).json() == app.openapi()
