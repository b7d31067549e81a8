"""`acting_as` with any client, in any order with the start of the application."""

import asyncio
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import Depends, FastAPI, WebSocket

from authapi import AuthAPI, Settings, User, current_user
from authapi.testing import acting_as, client, sync_client
from tests.conftest import SettingsFactory

with pytest.warns(match="httpx2") if False else ExitStack():  # see `starlette_client`
    pass

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ADA = User(UUID(int=1), "ada@shop.test", None, True, False, NOW, NOW, NOW)
BOB = User(UUID(int=2), "bob@shop.test", None, True, False, NOW, NOW, NOW)
