"""The examples of bodies: all are valid, and none is left out."""

import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI

from authapi import AuthAPI, create_app
from authapi.testing import client
from tests.conftest import SettingsFactory

Document = dict[str, Any]

SETTINGS: dict[str, dict[str, object]] = {
    "default": {},
    "all": {
        "strategies": ("session", "token", "jwt", "basic"),
        "scopes": {"reports:read": "Read reports"},
        "roles": {"editor": ("reports:read",)},
        "jwt_audiences": ("billing",),
        "locales": ("en", "ko"),
        "mfa": "required",
    },
    "user names": {"login_identifier": "username"},
    "both": {"login_identifier": "both", "password_min_length": 40},
    "tokens": {"strategies": ("token",), "default_strategy": "token"},
}


def bodies(document: Document) -> Iterator[tuple[str, Document]]:
    """Yields the bodies of requests and of successful responses."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            contents = {"body": operation.get("requestBody", {}), **operation["responses"]}
            for name, content in contents.items():
                if name[0] in "b2":
                    for media in content.get("content", {}).values():
                        yield f"{where} {name}", media


def examples(media: Document) -> list[Any]:
    if "example" in media:
        return [media["example"]]
    return [item["value"] for item in media["examples"].values()]


@pytest.mark.parametrize("name", SETTINGS)
def test_each_body_has_valid_examples(make_settings: SettingsFactory, name: str) -> None:
    document = create_app(make_settings(docs=True, **SETTINGS[name])).openapi()
    count = 0
    for where, media in bodies(document):
        for example in examples(media):
            count += 1
            if "schema" in media:
                schema = {**media["schema"], "components": document["components"]}
                validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
                assert [str(error) for error in validator.iter_errors(example)] == [], where
            text = str(example)
            # Swagger UI would make such values up.
            assert not re.search(r"'(text|string)'|additionalProp", text), where
            # Nothing that a scanner of secrets reports.
            assert not re.search(r"a[ar]t_[A-Za-z0-9_-]{20}|eyJ\S{60}", text), where
    assert count > 50 if name != "tokens" else count > 20


def test_a_body_has_an_example_of_each_form(make_settings: SettingsFactory) -> None:
    document = create_app(make_settings(docs=True, login_identifier="both")).openapi()
    found = dict(bodies(document))
    assert found["post /login body"]["examples"].keys() == {"email", "username"}
    assert found["post /login 200"]["examples"].keys() == {"session", "token", "jwt"}
    assert list(found["post /login/second-factor body"]["examples"]) == [
        *("code", "recovery_code", "passkey"),
    ]
    for name, form in found["post /login/second-factor body"]["examples"].items():
        assert form["value"].keys() == {name}, "the browser has a cookie instead of the ticket"


async def test_the_examples_work_as_they_are(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(docs=True))
    found = dict(bodies(app.openapi()))
    async with client(app) as api:
        for path, status in (("/register", 201), ("/login", 200)):
            example = found[f"post {path} body"]["example"]
            assert (await api.post(path, json=example)).status_code == status
        for path in ("/me", "/me/session"):
            example = found[f"patch {path} body"]["example"]
            assert (await api.patch(path, json=example)).status_code == 200
        for name in ("password",):
            example = found["post /me/reauthenticate body"]["examples"][name]["value"]
            assert (await api.post("/me/reauthenticate", json=example)).status_code == 204
        example = found["post /me/tokens body"]["example"]
        assert (await api.post("/me/tokens", json=example)).status_code == 201


def test_routes_of_the_application_get_none(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)

    async def order(body: dict[str, int]) -> dict[str, int]:
        return body

    app.post("/orders")(order)
    auth.install(app)
    operation = app.openapi()["paths"]["/orders"]["post"]
    for content in (operation["requestBody"], operation["responses"]["200"]):
        assert content["content"]["application/json"].keys() == {"schema"}
