"""docs/hooks.md: its application does what the page says."""

import re
from typing import Any

import pytest
import sqlalchemy as sa
from jose import jwt

from authapi.testing import PASSWORD, client
from authapi.web.hooks import HookDecorators
from tests.test_readme import ROOT, blocks

PATH = ROOT / "docs" / "hooks.md"
PAGE = PATH.read_text(encoding="utf-8")


@pytest.fixture
def application(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the blocks of the page define."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", sqlite_url)
    names: dict[str, Any] = {"__name__": "documented"}
    exec("\n".join(blocks("python", PAGE)), names)  # the code of this repository
    return names


async def test_the_documented_application_works(application: dict[str, Any]) -> None:
    profiles = application["profiles"]
    async with client(application["app"]) as api:
        database = api.services.database
        async with database.transaction() as store:
            await store.transaction.execute(sa.schema.CreateTable(profiles))
        body = {"email": "ada@example.org", "password": PASSWORD}
        assert (await api.post("/register", json=body)).status_code == 403
        body["email"] = "ada@example.com"
        refused = await api.post("/register", json={**body, "password": "of the ACME company"})
        assert refused.json()["errors"][0]["code"] == "product_name"
        assert (await api.post("/register", json=body)).status_code == 201
        login = (await api.post("/login", json={**body, "strategy": "jwt"})).json()
        assert jwt.get_unverified_claims(login["access_token"])["tenant"] == "example.com"
        api.headers["Authorization"] = f"Bearer {login['access_token']}"
        assert (await api.get("/me/identity")).json()["scopes"] == ["exports:create"]
        async with database.transaction() as store:
            await store.transaction.execute(sa.update(profiles).values(plan="paid"))
        refused = await api.delete("/me")
        assert (refused.status_code, refused.json()["detail"]) == (409, "cancel the plan first")
        async with database.transaction() as store:
            await store.transaction.execute(sa.update(profiles).values(plan="free"))
        assert (await api.delete("/me")).status_code == 204
        async with database.read() as store:
            assert (await store.connection.execute(sa.select(profiles))).all() == []


def test_every_decorator_is_documented() -> None:
    names = {name for name in vars(HookDecorators) if not name.startswith("_")}
    assert {f"auth.{name}" for name in names} <= set(re.findall(r"\bauth\.\w+", PAGE))


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (PATH.parent / target).exists(), target
