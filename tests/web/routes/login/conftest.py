"""Settings for tests with many requests at once."""

import pytest

from authapi import Settings
from tests.conftest import SettingsFactory


@pytest.fixture
def patient_settings(database_url: str) -> SettingsFactory:
    """Settings on each database whose time-outs a busy machine does not reach."""

    def make(**changes: object) -> Settings:
        waits = {"database_timeout": 60, "database_pool_timeout": 60}
        return Settings(**{"database_url": database_url, **waits, **changes})  # type: ignore[arg-type]

    return make
