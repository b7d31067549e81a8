"""/openapi.json of the service."""

import gzip
import json

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, create_app
from authapi.testing import Client, client
from tests.conftest import SettingsFactory

PATH = "/openapi.json"


async def test_the_document_is_compressed_and_not_sent_again(api: Client) -> None:
    plain = await api.get(PATH, headers={"accept-encoding": "identity"})
    async with api.stream("GET", PATH, headers={"accept-encoding": "gzip"}) as answer:
        raw = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"] == "application/json"
    assert gzip.decompress(raw) == plain.content
    assert len(raw) * 5 < len(plain.content)
    assert answer.headers["cache-control"] == "no-cache"
    headers = {"accept-encoding": "gzip", "if-none-match": answer.headers["etag"]}
    assert (await api.get(PATH, headers=headers)).status_code == 304
    head = await api.head(PATH)
    assert (head.status_code, head.content) == (200, b"")


async def test_other_methods_are_refused(api: Client) -> None:
    assert (await api.post(PATH)).status_code == 405


@pytest.mark.parametrize("public_url", [None, "https://example.com/accounts"])
@pytest.mark.parametrize("root", ["", "/accounts"])
async def test_the_document_names_where_it_is_mounted(
    make_settings: SettingsFactory, root: str, public_url: str | None
) -> None:
    app = create_app(make_settings(docs=True, public_url=public_url))
    async with client(app) as api:
        outer = FastAPI(openapi_url=None)
        outer.mount(root or "/", app)
        api._transport.app = outer  # type: ignore[attr-defined]  # the lifespan is that of `app`
        document = (await api.get(f"{root}{PATH}")).json()
    url = public_url or root
    assert document.get("servers") == ([{"url": url}] if url else None)
    assert {**document, "servers": None} == {
        **json.loads(json.dumps(app.openapi())),
        "servers": None,
    }


@pytest.mark.parametrize("own", [None, [{"url": "https://shop.example", "description": "Shop"}]])
def test_the_servers_of_an_application_stay(
    make_settings: SettingsFactory, own: list[dict[str, str]] | None
) -> None:
    auth = AuthAPI(make_settings(public_url="https://auth.example.com"))
    app = FastAPI(lifespan=auth.lifespan, servers=own)
    auth.install(app, prefix="/auth")
    assert app.openapi().get("servers") == own


async def test_new_routes_are_in_the_document(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings(docs=True))
    async with client(app) as api:
        before = (await api.get(PATH)).headers["etag"]
        app.openapi_schema = None
        app.get("/later")(lambda: None)
        after = await api.get(PATH)
    assert "/later" in after.json()["paths"]
    assert after.headers["etag"] != before
