"""The results of logins in the document: what each strategy answers."""

from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from authapi import AuthAPI, create_app
from authapi.services.logins.proved import Login
from authapi.strategies.base import Issued
from authapi.strategies.token import TokenStrategy
from authapi.testing import PASSWORD, client
from tests.conftest import SettingsFactory

Document = dict[str, Any]

CREDENTIAL = {"access_token", "token_type", "expires_in"}
REFRESH = {"refresh_token", "refresh_expires_in"}
COMMON = {"user", "strategy", "expires_at"}


class Device(TokenStrategy):
    """A strategy of an operator, with a member of its own in the result of a login."""

    name = "device"

    async def issue(
        self, login: Login, connection: HTTPConnection, *, remember: bool = False
    ) -> Issued:
        issued = await super().issue(login, connection, remember=remember)
        return replace(issued, body={**issued.body, "device": "laptop"})


OWN = f"{Device.__module__}:{Device.__name__}"


def schema_of(document: Document, strategy: str, union: str = "LoginOut") -> Document:
    mapping = document["components"]["schemas"][union]["discriminator"]["mapping"]
    found: Document = document["components"]["schemas"][mapping[strategy].rpartition("/")[2]]
    return found


@pytest.mark.parametrize("union", ["LoginOut", "EnrolledLoginOut"])
def test_each_strategy_has_its_members(make_settings: SettingsFactory, union: str) -> None:
    document = create_app(make_settings()).openapi()
    schema = document["components"]["schemas"][union]
    mapping = schema["discriminator"]["mapping"]
    assert schema["discriminator"]["propertyName"] == "strategy"
    assert [choice["$ref"] for choice in schema["oneOf"]] == list(mapping.values())
    further = {"recovery_codes"} if union == "EnrolledLoginOut" else set[str]()
    expected = {"session": COMMON, "token": COMMON | CREDENTIAL}
    expected["jwt"] = expected["token"] | REFRESH
    assert mapping.keys() == expected.keys()
    for strategy, members in expected.items():
        found = schema_of(document, strategy, union)
        assert set(found["required"]) == found["properties"].keys() == members | further
        assert found["properties"]["strategy"]["const"] == strategy
        assert "null" not in str(found["properties"])


async def test_logins_answer_what_the_document_says(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(strategies=("session", "token", "jwt", OWN)))
    document = app.openapi()
    assert schema_of(document, "device")["additionalProperties"] is True
    assert "device" not in schema_of(document, "device")["required"]
    async with client(app) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD}
        for strategy in ("session", "token", "jwt", "device"):
            answer = (await api.post("/login", json={**body, "strategy": strategy})).json()
            assert ("device" in answer) is (strategy == "device")
            for name in ("session", "token", "jwt", "device"):
                of_one = schema_of(document, name) | {"components": document["components"]}
                assert jsonschema_rs.is_valid(of_one, answer) is (name == strategy), name
            reference = {"$ref": "#/components/schemas/LoginOut"}
            jsonschema_rs.validate({**reference, "components": document["components"]}, answer)


def test_one_strategy_is_a_union_too(make_settings: SettingsFactory) -> None:
    # Programs keep their names when the operator enables another one.
    settings = make_settings(strategies=("token",), default_strategy="token")
    schemas = create_app(settings).openapi()["components"]["schemas"]
    assert schemas["LoginOut"]["oneOf"] == [{"$ref": "#/components/schemas/TokenLoginOut"}]
    assert schemas.keys().isdisjoint({"SessionLoginOut", "JWTLoginOut"})


def test_a_schema_of_the_application_keeps_its_name(make_settings: SettingsFactory) -> None:
    class TokenLoginOut(BaseModel):
        device: str

    async def device() -> TokenLoginOut:
        return TokenLoginOut(device="laptop")

    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    app.get("/device")(device)
    auth.install(app)
    document = app.openapi()
    assert document["components"]["schemas"]["TokenLoginOut"]["required"] == ["device"]
    assert set(schema_of(document, "token")["required"]) == COMMON | CREDENTIAL
    assert schema_of(document, "token")["title"] == "AuthAPITokenLoginOut"
