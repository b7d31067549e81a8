"""The ids and summaries of our operations."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.testing import client
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer
from authapi.web.documents.operations import names
from tests.conftest import SettingsFactory
from tests.web.federation.visits import PROVIDERS
from tests.web.scanners import Scanner, publish

# Clients are generated with these names: a change of one breaks programs of users.
IDS = [
    "acceptInvitation", "addPasskey", "addPasskeyAtLogin", "beginLink", "beginProviderLogin",
    "beginProviderReauthentication", "changeEmail", "changePassword", "checkLiveness",
    "checkReadiness", "confirmEmail", "confirmLoginAddress", "confirmTotp", "confirmTotpAtLogin",
    "createRecoveryCodes", "createToken", "deleteAccount", "deleteUser", "disownLogin",
    "endOtherSessions", "endSession", "endToken", "endUserSession", "endUserSessions",
    "endUserToken", "enrolTotp", "enrolTotpAtLogin", "exchangeLoginCode", "exportAccount",
    "exportEvents", "followProviderLogin", "forgotPassword", "getAccount", "getFactors",
    "getIdentity", "getKeys", "getPasskeyEndpoints", "getPasskeyEnrolmentOptions",
    "getPasskeyLoginOptions", "getPasskeyOptions", "getReauthenticationOptions",
    "getRelatedOrigins", "getResourceMetadata", "getSecondFactorOptions", "getServerMetadata",
    "getSessionData", "getStats", "getUser", "getUserFactors", "giveLoginAddress",
    "introspectToken", "inviteUser", "listEvents", "listIdentities", "listProviders",
    "listSessions", "listTokens", "listUserIdentities", "listUserSessions", "listUserTokens",
    "listUsers", "login", "loginWithPasskey", "logout", "proveSecondFactor", "reauthenticate",
    "refreshToken", "register", "removePasskey", "removeTotp", "renamePasskey",
    "reportLeakedTokens", "requestConfirmation", "resendInvitation", "resetPassword",
    "resetUserFactors", "revokeToken", "searchEvents", "sendResetLink", "undoEmailChange",
    "unlinkIdentity", "unlinkUserIdentity", "updateAccount", "updateSessionData", "updateUser",
]  # fmt: skip


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield f"{method.upper()} {path}", operation


def every_feature(make_settings: SettingsFactory, folder: Path) -> Settings:
    """The settings of a service with every feature."""
    return make_settings(
        docs=True,
        jwt_audiences=("billing",),
        leak_report_keys=publish(folder / "scanners.json", Scanner()),
        public_url="https://auth.example.com",
        passkey_origins=("https://auth.example.com", "https://shop.example"),
        providers=PROVIDERS,
    )


@pytest.fixture
def app(make_settings: SettingsFactory, tmp_path: Path) -> FastAPI:
    return create_app(every_feature(make_settings, tmp_path))


def test_ids_are_those_that_clients_were_generated_with(app: FastAPI) -> None:
    found = {where: operation["operationId"] for where, operation in operations(app.openapi())}
    assert sorted(found.values()) == sorted(IDS)
    assert found == {where: name.id for where, name in names().items()}


def test_no_path_differs_from_another_by_the_names_of_its_parameters(app: FastAPI) -> None:
    # OpenAPI 3.1, section "Paths Object": such paths are identical, and invalid.
    paths = [re.sub(r"{[^}]*}", "{}", path) for path in app.openapi()["paths"]]
    assert len(set(paths)) == len(paths)


def test_ids_and_summaries_have_one_form(app: FastAPI) -> None:
    for where, operation in operations(app.openapi()):
        assert re.fullmatch(r"[a-z]+([A-Z][a-z]+)*", operation["operationId"]), where
        summary = operation["summary"]
        assert re.fullmatch(r"[A-Z][^.:]{4,59}", summary), where
        assert operation["description"], where


def test_ids_do_not_depend_on_the_prefix(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/api/v1/auth")
    document = app.openapi()
    assert document["paths"]["/api/v1/auth/me/sessions"]["get"]["operationId"] == "listSessions"
    assert set(IDS) >= {operation["operationId"] for _, operation in operations(document)}


async def test_operations_of_the_application_keep_their_names(
    make_settings: SettingsFactory,
) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    app.get("/orders", operation_id="login", summary="My orders")(lambda: None)
    app.get("/items", name="me")(lambda: None)
    auth.install(app)
    async with client(app) as api:
        document = (await api.get("/openapi.json")).json()
    assert document["paths"]["/orders"]["get"]["operationId"] == "login"
    assert document["paths"]["/orders"]["get"]["summary"] == "My orders"
    assert document["paths"]["/items"]["get"]["operationId"] == "me_items_get"
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert document["paths"]["/me/sessions"]["get"]["operationId"] == "listSessions"


def test_a_document_without_ids_gets_ours(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    generate = app.openapi

    def without_ids() -> dict[str, Any]:
        document = generate()
        for _, operation in operations(document):
            operation.pop("operationId", None)
        return document

    app.openapi = without_ids  # type: ignore[method-assign]  # FastAPI's documented way
    auth.install(app)
    document = app.openapi()
    assert document["paths"]["/me/sessions"]["get"]["operationId"] == "listSessions"


def test_a_resource_server_has_the_same_names() -> None:
    verifier = RemoteJWT(issuer="https://auth.example.com", audience="orders")
    auth = ResourceServer(verifier, settings=EdgeSettings(docs=True))
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app)
    found = {operation["operationId"] for _, operation in operations(app.openapi())}
    assert found == {"checkLiveness", "getResourceMetadata"}


def test_public_operations_say_so(app: FastAPI) -> None:
    document = app.openapi()
    security = {where: operation["security"] for where, operation in operations(document)}
    for where in ("POST /login", "POST /register", "GET /health/live", "POST /token"):
        assert security[where] == []
    assert {"session": []} in security["GET /me"]


def test_answers_may_get_more_members(app: FastAPI) -> None:
    document = app.openapi()
    schemas = document["components"]["schemas"]
    requests = re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"'))
    assert requests
    for name, schema in schemas.items():
        if name.endswith("Out"):
            assert schema.get("additionalProperties") is not False, name
    assert schemas["LoginRequest"]["additionalProperties"] is False
