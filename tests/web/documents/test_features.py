"""What the settings switch off is not described."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from authapi import create_app
from authapi.testing import client
from tests.conftest import SettingsFactory

Document = dict[str, Any]

APPS = {
    *("POST /me/factors/totp", "POST /me/factors/totp/confirm"),
    *("POST /login/enrolment/totp", "POST /login/enrolment/totp/confirm"),
}
NEW_PASSKEYS = {
    *("POST /me/factors/passkeys", "POST /me/factors/passkeys/options"),
    *("POST /login/enrolment/passkey", "POST /login/enrolment/passkey/options"),
}
PASSKEY_LOGIN = {"POST /login/passkey", "POST /login/passkey/options"}
PASSKEYS = {
    *NEW_PASSKEYS,
    *PASSKEY_LOGIN,
    *("POST /login/second-factor/options", "POST /me/reauthenticate/options"),
    "GET /.well-known/passkey-endpoints",
}
MAIL = {
    *("POST /email/confirm", "POST /email/confirm/request", "POST /email/undo"),
    *("POST /password/forgot", "POST /password/reset", "POST /invitation/accept"),
    *("POST /me/email", "POST /login/disown"),
    *("POST /admin/users", "POST /admin/users/{user_id}/invitation"),
    "POST /admin/users/{user_id}/reset-link",
}
SWITCHED_OFF: Mapping[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "registration": ({"registration": "closed"}, {"POST /register"}, {"Registration"}),
    "invite": ({"registration": "invite", "mail_url": "console:"}, {"POST /register"}, set()),
    "mfa": (
        {"mfa": "off"},
        APPS | NEW_PASSKEYS | {"GET /.well-known/passkey-endpoints"},
        {"NewPasskey", "EnrolledLoginOut", "JWTEnrolledLoginOut", "CreationOptionsOut"},
    ),
    "passkeys": (
        {"passkeys": "off"},
        PASSKEYS,
        {"PasskeyLogin", "RequestOptionsOut", "CreationOptionsOut"},
    ),
    "passkey logins": ({"passkeys": "second_factor"}, PASSKEY_LOGIN, {"PasskeyLogin"}),
    "an address": ({"host": "192.0.2.1"}, PASSKEYS, {"PasskeyLogin"}),
    "mail": ({"mail_url": "none:"}, MAIL, {"PasswordReset", "Invitation"}),
    "jwt": ({"strategies": ("session", "token")}, {"POST /token"}, {"TokenOut", "JWTLoginOut"}),
}
"""Settings, and the operations and some of the schemas that are missing."""


def operations(document: Document) -> Iterator[tuple[str, Document]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield f"{method.upper()} {path}", operation


@pytest.mark.parametrize("feature", SWITCHED_OFF)
def test_what_is_switched_off_is_not_described(
    make_settings: SettingsFactory, feature: str
) -> None:
    changes, operations_of_it, schemas_of_it = SWITCHED_OFF[feature]
    everything = create_app(make_settings(docs=True)).openapi()
    document = create_app(make_settings(docs=True, **changes)).openapi()
    missing = {name for name, _ in operations(everything)} - {
        name for name, _ in operations(document)
    }
    assert missing == operations_of_it
    schemas = document["components"]["schemas"]
    assert schemas_of_it <= everything["components"]["schemas"].keys()
    assert schemas_of_it & schemas.keys() == set()
    text = str(document)
    for name in schemas:
        assert f"#/components/schemas/{name}'" in text, f"{name} is used by no operation"
    assert all(document["paths"].values()), "no path without an operation"


@pytest.mark.parametrize("feature", SWITCHED_OFF)
async def test_what_is_not_described_refuses_each_request(
    make_settings: SettingsFactory, feature: str
) -> None:
    changes, operations_of_it, _ = SWITCHED_OFF[feature]
    everything = dict(operations(create_app(make_settings(docs=True)).openapi()))
    async with client(create_app(make_settings(docs=True, **changes))) as api:
        user = await api.create_user()
        await api.login(await api.create_user(is_superuser=True))
        for name in sorted(operations_of_it):
            method, path = name.split()
            contents = everything[name].get("requestBody", {}).get("content", {})
            arguments = [
                {"json" if "json" in kind else "data": example}
                for kind, media in contents.items()
                for example in examples(media)
            ]
            for body in arguments or [{}]:
                url = path.replace("{user_id}", str(user.id))
                answer = await api.request(method, url, **body)
                assert 400 <= answer.status_code < 500, name
                assert answer.status_code not in {405, 422, 429}, name


def examples(media: Document) -> list[Any]:
    found = [example["value"] for example in media.get("examples", {}).values()]
    return [media["example"]] if "example" in media else found


@pytest.mark.parametrize("strategies", [("jwt",), ("token",), ("session",), ("basic",)])
def test_schemas_of_operations_without_a_strategy_are_not_described(
    make_settings: SettingsFactory, strategies: tuple[str, ...]
) -> None:
    settings = make_settings(docs=True, strategies=strategies, default_strategy=strategies[0])
    document = create_app(settings).openapi()
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}'" in text, f"{name} is used by no operation"
    assert ("SessionDataOut" in document["components"]["schemas"]) == (strategies == ("session",))
