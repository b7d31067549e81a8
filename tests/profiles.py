"""An application with own columns of accounts: its table, its models and its client."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from authapi import AuthAPI, Profile, Settings
from authapi.orm import user_fk
from authapi.testing import Client, client

metadata = sa.MetaData()
teams = sa.Table("test_teams", metadata, sa.Column("id", sa.Integer, primary_key=True))
profiles = sa.Table(
    "test_profiles",
    metadata,
    sa.Column("user_id", sa.Uuid, user_fk(ondelete="CASCADE"), primary_key=True),
    sa.Column("city", sa.String(20), nullable=False),
    sa.Column("handle", sa.String(20), unique=True),
    sa.Column("age", sa.Integer, sa.CheckConstraint("age >= 18", name="ck_test_profiles_age")),
    sa.Column("team_id", sa.ForeignKey("test_teams.id")),
    sa.Column("tags", sa.JSON, nullable=False),
    sa.Column("plan", sa.String(10), nullable=False, server_default="free"),
)
Tags = dict[str, int | bool | str]


class ProfileIn(BaseModel):
    """The profile of a new account."""

    model_config = ConfigDict(extra="ignore")

    city: Annotated[str, Field(min_length=1, max_length=30, examples=["Bern"])]
    handle: str | None = None
    age: int | None = None
    team_id: int | None = None
    tags: Tags = {}


class DefaultsIn(ProfileIn):
    """The profile of a new account, which may be left out."""

    city: str = "unknown"


class ProfilePatch(BaseModel):
    """Changes of a profile."""

    city: str = ""
    handle: str | None = None
    age: int | None = None
    tags: Tags = {}


class ProfileOut(BaseModel):
    """A profile."""

    city: str
    handle: str | None
    tags: Tags
    plan: Literal["free", "paid"]


def profile(*, create: type[BaseModel] = ProfileIn, **changes: Any) -> Profile:
    declared: dict[str, Any] = {"table": profiles, "update": ProfilePatch, "read": ProfileOut}
    return Profile(create=create, **(declared | changes))


def application(url: str, declared: Profile | None = None, **changes: object) -> AuthAPI:
    settings = Settings(database_url=url, **changes)  # type: ignore[arg-type]  # texts
    return AuthAPI(settings, profile=declared or profile())


@asynccontextmanager
async def running(auth: AuthAPI) -> AsyncIterator[Client]:
    """A client of an application with these tables."""
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with client(app) as api:
        await execute(api, *(sa.schema.CreateTable(table) for table in metadata.sorted_tables))
        try:
            yield api
        finally:  # on PostgreSQL, the tests of a worker share one database
            tables = reversed(metadata.sorted_tables)
            await execute(api, *(sa.schema.DropTable(table) for table in tables))


async def execute(api: Client, *statements: Any) -> None:
    async with api.services.database.transaction() as store:
        for statement in statements:
            await store.transaction.execute(statement)


async def stored(api: Client) -> list[Mapping[str, Any]]:
    """The profiles, by city."""
    async with api.services.database.read() as store:
        rows = await store.connection.execute(sa.select(profiles).order_by(profiles.c.city))
        return [dict(row) for row in rows.mappings()]
