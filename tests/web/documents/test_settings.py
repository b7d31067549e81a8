"""What settings decide in the document: only what the service accepts is described."""

import json
from typing import Any

import jsonschema_rs
import pytest

from authapi import create_app
from tests.conftest import SettingsFactory

Document = dict[str, Any]

FORM = "application/x-www-form-urlencoded"


def grants(document: Document) -> Document:
    found: Document = document["paths"]["/token"]["post"]["requestBody"]["content"][FORM]
    return found


@pytest.mark.parametrize("password_grant", ["on", "off"])
def test_the_form_of_the_token_endpoint_is_flat(
    make_settings: SettingsFactory, password_grant: str
) -> None:
    media = grants(create_app(make_settings(password_grant=password_grant)).openapi())
    schema, with_password = media["schema"], password_grant == "on"
    assert schema["type"] == "object"
    assert schema.keys().isdisjoint({"oneOf", "anyOf", "allOf", "$ref"})
    of_password = ["username", "password"] if with_password else []
    assert list(schema["properties"]) == ["grant_type", "refresh_token", *of_password, "scope"]
    values = ["refresh_token", "password"] if with_password else ["refresh_token"]
    assert schema["properties"]["grant_type"]["enum"] == values
    assert schema["required"] == ["grant_type", *([] if with_password else values)]
    assert "x-authapi-limit" not in json.dumps(media)


@pytest.mark.parametrize(
    ("form", "password_grant", "is_valid"),
    [
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "on", True),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "off", True),
        ({"grant_type": "refresh_token"}, "on", False),
        ({"grant_type": "refresh_token"}, "off", False),
        ({"grant_type": "refresh_token", "username": "a", "password": "x"}, "on", False),
        ({"grant_type": "password", "username": "a", "password": "x"}, "on", True),
        ({"grant_type": "password", "username": "a", "password": "x"}, "off", False),
        ({"grant_type": "password", "username": "a"}, "on", False),
        ({"grant_type": "password", "refresh_token": "x"}, "on", False),
        ({"refresh_token": "x"}, "on", False),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 256}, "on", False),
        ({"grant_type": "refresh_token", "refresh_token": "x" * 256}, "off", False),
    ],
)
def test_each_grant_requires_its_parameters(
    make_settings: SettingsFactory, form: dict[str, str], password_grant: str, is_valid: bool
) -> None:
    document = create_app(make_settings(password_grant=password_grant)).openapi()
    assert jsonschema_rs.is_valid(grants(document)["schema"], form) is is_valid


def test_a_setting_of_one_application_does_not_change_another(
    make_settings: SettingsFactory,
) -> None:
    first, second = (
        create_app(make_settings(password_grant=value)).openapi() for value in ("off", "on")
    )
    assert "password" not in grants(first)["schema"]["properties"]
    assert "password" in grants(second)["schema"]["properties"]
