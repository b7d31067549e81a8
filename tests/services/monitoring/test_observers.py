"""What observes the services."""

import logging

import pytest

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.services.monitoring.observers import create_metrics, on_commit
from authapi.settings import Settings


def test_a_committed_event_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = create_metrics(Settings(metrics_path="/metrics"), {})
    assert metrics is not None
    event = Event(new_id(), now(), EventType.LOGOUT, None, None, None, Client(), {})
    with caplog.at_level(logging.INFO, "authapi.events"):
        on_commit(metrics)(event)
        on_commit(None)(event)
    assert [record.getMessage() for record in caplog.records] == ["logout", "logout"]
    assert 'authapi_events_total{type="logout"} 1.0' in metrics.render().decode()


def test_metrics_are_off_by_default() -> None:
    assert create_metrics(Settings(), {}) is None
