"""The storefront answers beside authapi as it answers alone."""

import httpx
import pytest

from authapi.testing import Client

PREFLIGHT = {"origin": "https://store.example", "access-control-request-method": "PUT"}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/items", {}),
        ("GET", "/items", {"origin": "https://store.example", "cookie": "a=" + "x" * 9000}),
        ("GET", "/items?city=", {}),
        ("GET", "/items/", {}),
        ("HEAD", "/items", {}),
        ("GET", "/me", {}),
        ("PUT", "/wishes/tea", {"authorization": "Bearer unknown"}),
        ("PUT", "/login", {"content-type": "application/json"}),
        ("OPTIONS", "/wishes/tea", PREFLIGHT),
        ("GET", "/openapi.json", {}),
    ],
)
async def test_responses_are_those_of_the_storefront_alone(
    api: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    from async_app import storefront

    transport = httpx.ASGITransport(storefront.app, root_path="/store")
    async with httpx.AsyncClient(transport=transport, base_url=api.base_url) as alone:
        expected = await alone.request(method, f"/store{path}", headers=headers)
    found = await api.request(method, f"/store{path}", headers=headers)
    assert (found.status_code, found.content) == (expected.status_code, expected.content)
    assert found.headers.multi_items() == expected.headers.multi_items()
