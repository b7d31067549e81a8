"""docs/installing.md: its application does what its table says."""

import re

import httpx
import pytest
from fastapi import FastAPI

from authapi import ConfigurationError
from tests.test_readme import ROOT

_PAGE = (ROOT / "docs" / "installing.md").read_text("utf-8")
_CODE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def app() -> FastAPI:
    """The application of the page, with an open route."""
    [code] = _CODE.findall(_PAGE)
    namespace: dict[str, object] = {"__name__": "page"}
    exec(compile(code, "installing.md", "exec"), namespace)  # the page is part of this project
    found = namespace["app"]
    assert isinstance(found, FastAPI)
    found.get("/open")(lambda: "open")
    return found


async def test_each_column_of_the_table(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as api,
    ):
        own, gated, other = [await api.get(path) for path in ("/me", "/reports", "/open")]
    common = {"content-length", "content-type"}
    refused = common | {"cache-control", "vary", "www-authenticate"}
    assert {*other.headers} == common
    assert {*gated.headers} == refused
    assert {*own.headers} > refused | {"x-request-id", "x-content-type-options"}
    assert own.headers["content-type"] == gated.headers["content-type"] != "application/json"


def test_the_page_names_every_mistake(app: FastAPI) -> None:
    mistakes = _PAGE.partition("## Mistakes")[2]
    assert mistakes.count("ConfigurationError") == 4
    assert mistakes.count("RuntimeError") == 2
    assert issubclass(ConfigurationError, Exception)
