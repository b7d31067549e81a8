"""The databases on which the contract of the strategies runs here."""

import pytest


class OnEachDatabase:
    """The fixtures of `StrategyContract`: migrated databases, also on PostgreSQL."""

    @pytest.fixture
    def sqlite_url(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture(params=["sqlite", "postgres"])
    def database_url(self, request: pytest.FixtureRequest) -> str:
        url: str = request.getfixturevalue(f"{request.param}_url")
        return url
