"""The descriptions of tags: those that are used, and no others."""

import re

from fastapi import FastAPI

from authapi import AuthAPI, create_app
from authapi.verify import EdgeSettings, RemoteJWT, ResourceServer
from authapi.web.documents.tags import TAGS
from tests.conftest import SettingsFactory
from tests.web.federation.visits import PROVIDERS


def used_tags(document: dict[str, dict[str, dict[str, dict[str, list[str]]]]]) -> set[str]:
    return {
        tag
        for path in document["paths"].values()
        for operation in path.values()
        for tag in operation.get("tags", [])
    }


def test_each_used_tag_is_described(make_settings: SettingsFactory) -> None:
    settings = make_settings(providers=PROVIDERS, public_url="https://auth.example.com")
    document = create_app(settings).openapi()
    declared = [tag["name"] for tag in document["tags"]]
    assert set(declared) == used_tags(document)
    assert declared == list(TAGS)
    for tag in document["tags"]:
        assert re.fullmatch(r"[A-Z][^/`]{20,90}\.", tag["description"]), "a sentence without paths"


def test_no_unused_tag_is_described(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, include=["me", "health"])
    assert [tag["name"] for tag in app.openapi()["tags"]] == ["account", "health"]


def test_a_resource_server_describes_its_own() -> None:
    verifier = RemoteJWT(issuer="https://auth.example.com", audience="orders")
    auth = ResourceServer(verifier, settings=EdgeSettings(docs=True))
    app = FastAPI(lifespan=auth.lifespan, docs_url=None)
    auth.install(app, governs_app=True)
    assert {tag["name"] for tag in app.openapi()["tags"]} == {"health", "metadata"}


def test_tags_of_an_application_stay_first(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    mine = [{"name": "health", "description": "Mine."}, {"name": "orders"}]
    app = FastAPI(lifespan=auth.lifespan, openapi_tags=mine)
    app.get("/orders", tags=["orders"])(lambda: None)
    app.get("/reports", tags=["reports"])(lambda: None)
    auth.install(app, include=["me", "health"])
    assert app.openapi()["tags"] == [
        *mine,
        {"name": "reports"},
        {"name": "account", "description": TAGS["account"]},
    ]


def test_routes_without_a_tag_are_not_moved_behind_ours(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    app.get("/orders")(lambda: None)
    auth.install(app)
    assert "tags" not in app.openapi()
