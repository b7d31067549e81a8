"""docs/own-columns.md: its application does what the page says."""

import re
from typing import Any

import pytest
import sqlalchemy as sa

from authapi.errors import AccountInUse, ProfileTaken
from authapi.testing import PASSWORD, client
from tests.test_readme import ROOT, blocks

PATH = ROOT / "docs" / "own-columns.md"
PAGE = PATH.read_text(encoding="utf-8")


@pytest.fixture
def application(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the block of the page defines."""
    monkeypatch.setenv("AUTHAPI_DATABASE_URL", database_url)
    names: dict[str, Any] = {"__name__": "documented"}
    exec("\n".join(blocks("python", PAGE)), names)  # the code of this repository
    return names


async def test_the_documented_application_works(application: dict[str, Any]) -> None:
    profiles = application["profiles"]
    async with client(application["app"]) as api:
        database = api.services.database
        async with database.transaction() as store:
            await store.transaction.execute(sa.schema.CreateTable(profiles))
        body: dict[str, Any] = {"email": "ada@example.com", "password": PASSWORD}
        refused = await api.post("/register", json=body)
        assert refused.json()["errors"][0]["loc"] == ["body", "profile", "handle"]
        body["profile"] = {"handle": "ada"}
        account = (await api.post("/register", json=body)).json()
        since = account["profile"].pop("since")
        assert account["profile"] == {"handle": "ada", "city": None, "plan": "free"}
        taken = await api.post("/register", json={**body, "email": "bob@example.com"})
        assert (taken.status_code, taken.json()["code"]) == (409, ProfileTaken.code)
        del body["profile"]
        await api.post("/login", json=body)
        changed = await api.patch("/me", json={"profile": {"city": "Bern"}})
        assert changed.json()["profile"] == {**account["profile"], "city": "Bern", "since": since}
        for members in ({"plan": "paid"}, {"handle": ""}, {"city": 7}):
            assert (await api.patch("/me", json={"profile": members})).status_code == 422
        assert (await api.delete("/me")).status_code == 204
        async with database.read() as store:
            assert (await store.connection.execute(sa.select(profiles))).all() == []
        async with database.transaction() as store:  # on PostgreSQL, tests share a database
            await store.transaction.execute(sa.schema.DropTable(profiles))


def test_codes_and_links_are_valid() -> None:
    for code in (AccountInUse.code, ProfileTaken.code, "validation_failed", "profile_changed"):
        assert f"`{code}`" in PAGE
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (PATH.parent / target).exists(), target
