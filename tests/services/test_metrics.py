"""Metrics: what is counted, and which values labels never have."""

import contextlib
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authapi import create_app
from authapi.app import AuthAPI
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.outbox import OutboxEntry
from authapi.errors import (
    DeliveryFailed,
    InvalidCredentials,
    InvalidInput,
    TooManyAttempts,
)
from authapi.services import Services
from authapi.services.metrics import Metrics
from authapi.settings import Settings
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    settings = make_settings(metrics_path="/internal/metrics", strategies=("session", "token"))
    async with client(create_app(settings)) as found:
        yield found


async def scraped(api: Client) -> dict[str, float]:
    answer = await api.get("/internal/metrics", headers={"Cookie": ""})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_requests_are_counted_by_pattern(api: Client) -> None:
    alice = await api.create_user()
    await api.login(alice, strategy="token")
    for path in ("/me", "/me", "/nothing/of/ours"):
        await api.get(path)
    await api.delete("/me/tokens/01a20698-e353-7f96-9181-5ccc2ce09c9c")
    found = await scraped(api)
    assert found['authapi_requests_total{method="GET",route="/me",status="200"}'] == 2
    assert found['authapi_requests_total{method="GET",route="none",status="404"}'] == 1
    refused = 'authapi_requests_total{method="DELETE",route="/me/tokens/{token_id}",status="401"}'
    assert found[refused] == 1
    assert found['authapi_request_duration_seconds_count{method="GET",route="/me"}'] == 2


async def test_an_unknown_method_is_no_label(api: Client) -> None:
    await api.request("BREW", "/me")
    found = await scraped(api)
    assert found['authapi_requests_total{method="other",route="/me",status="405"}'] == 1
    assert not any("BREW" in name for name in found)


async def test_authentications_are_counted_by_strategy_and_outcome(api: Client) -> None:
    alice = await api.create_user()
    await api.login(alice, strategy="token")
    for _ in range(3):
        assert (await api.get("/me")).status_code == 200
    wrong = {"Authorization": "Bearer aat_" + "x" * 49}
    assert (await api.get("/me", headers=wrong)).status_code == 401
    await api.get("/me", headers={"Authorization": ""})
    found = await scraped(api)
    counted = {
        name: value
        for name, value in found.items()
        if name.startswith("authapi_authentications_total")
    }
    assert counted == {
        'authapi_authentications_total{outcome="authenticated",strategy="token"}': 1,
        'authapi_authentications_total{outcome="cached",strategy="token"}': 2,
        'authapi_authentications_total{outcome="refused",strategy="token"}': 1,
    }
    assert found["authapi_identity_cache_entries"] == 1


async def test_events_and_levels(api: Client) -> None:
    alice = await api.create_user()
    answer = await api.post("/login", json={"email": alice.email, "password": "wrong" + PASSWORD})
    assert answer.status_code == 401
    found = await scraped(api)
    assert found['authapi_events_total{type="account_registered"}'] == 1
    assert found['authapi_events_total{type="login_refused"}'] == 1
    assert found["authapi_hashes_running"] == found["authapi_hashes_waiting"] == 0
    assert found["authapi_database_connections"] == 0


async def test_no_label_contains_personal_data(api: Client) -> None:
    alice = await api.create_user("alice.canary@example.com")
    await api.login(alice)
    await api.get(f"/me?email={alice.email}")
    text = (await api.get("/internal/metrics")).text
    assert "canary" not in text
    assert str(alice.id) not in text
    assert re.findall(r"(\w+)=", " ".join(re.findall(r"\{(.*?)\}", text))) != []


async def test_metrics_are_off_by_default(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings())) as api:
        assert api.services.metrics is None
        assert (await api.get("/metrics")).status_code == 404


async def test_the_span_of_a_request_names_strategy_and_outcome_only(
    make_settings: SettingsFactory,
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan, telemetry={"tracer_provider": provider})
    auth.install(app)
    async with client(app) as api:
        alice = await api.create_user("alice.canary@example.com")
        await api.login(alice, strategy="jwt")
        token = api.headers["Authorization"]
        exporter.clear()
        for _ in range(2):
            assert (await api.get("/me")).status_code == 200
        api.headers["Authorization"] = token + "x"
        assert (await api.get("/me")).status_code == 401
        spans = [span for span in exporter.get_finished_spans() if span.parent is None]
    attributes = [dict(span.attributes or {}) for span in spans]
    outcomes = [(item["authapi.strategy"], item["authapi.outcome"]) for item in attributes]
    assert outcomes == [("jwt", "authenticated"), ("jwt", "cached"), ("jwt", "refused")]
    everything = " ".join(span.to_json() for span in exporter.get_finished_spans())
    assert "canary" not in everything
    assert token.removeprefix("Bearer ") not in everything


_SCRAPES = """
import os, subprocess, sys
from pathlib import Path
from threading import Barrier, Thread

folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
from authapi.services import metrics as metrics_module

killed = subprocess.Popen([sys.executable, "-c", "pass"])
killed.wait()
errors, registry, rounds = [], metrics_module.registry_of_workers(), 20
together, removing = Barrier(4, timeout=30), Barrier(4, timeout=30)
kill, remove = os.kill, os.unlink

def wait_for_all_checks(pid, number):
    # Each scrape lists the files of the worker before the first one removes them.
    try:
        kill(pid, number)
    finally:
        together.wait()

def wait_for_all_lists(path, **options):
    removing.wait()
    remove(path, **options)

os.kill, os.unlink, os.remove = wait_for_all_checks, wait_for_all_lists, wait_for_all_lists

def scrape():
    try:
        metrics_module.generate_latest(registry)
    except BaseException as error:
        errors.append(repr(error))
        together.abort()
        removing.abort()

for _ in range(rounds):
    for name in ("gauge_livesum", "gauge_liveall"):
        Path(folder, f"{name}_{killed.pid}.db").write_bytes(b"")
    scrapes = [Thread(target=scrape) for _ in range(4)]
    for one in scrapes: one.start()
    for one in scrapes: one.join()
print(errors, sorted(os.listdir(folder)))
"""


def test_concurrent_scrapes_after_a_worker_was_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _SCRAPES],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "[] []\n"


async def test_what_services_report(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        metrics_path="/internal/metrics", limit_account_and_network="1/minute;1/hour"
    )

    async def breached(password: str) -> bool:
        if "offline" in password:
            raise OSError
        return "known" in password

    services = Services.build(settings, breached=Lookup(breached))
    await services.start()
    try:
        for password in ("a known long password", "an unheard long one", "an offline long one"):
            with contextlib.suppress(InvalidInput):
                await services.passwords.check_policy(password, email="a@example.com")
        await services.passwords.hash(PASSWORD)
        with contextlib.suppress(TooManyAttempts):
            for _ in range(2):
                with contextlib.suppress(InvalidCredentials):
                    await services.accounts.authentication.authenticate(
                        parse_email("nobody@example.com"), PASSWORD
                    )
        services.outbox.register("mail", fail_or_deliver)
        async with services.database.transaction() as store:
            for outcome in ("delivered", "failed", "given_up"):
                await services.outbox.enqueue(store, "mail", "test", {"outcome": outcome})
        await services.outbox.run_due("mail")
        await services.cleanup.run_once()
        assert services.metrics is not None
        found = values(services.metrics)
    finally:
        await services.stop()
    for outcome in ("breached", "unknown", "failed"):
        assert found[f'authapi_breaches_asked_total{{outcome="{outcome}"}}'] == 1
    for outcome in ("delivered", "failed", "given_up"):
        name = f'authapi_outbox_attempts_total{{kind="mail",outcome="{outcome}"}}'
        assert found[name] == 1
    assert found["authapi_hash_seconds_count"] == 2  # one for the unknown account
    assert found['authapi_throttled_total{limit="login"}'] == 1
    assert found['authapi_pruned_total{chore="sessions"}'] == 0
    name = 'authapi_housekeeping_last_success_timestamp_seconds{chore="sessions"}'
    assert found[name] == pytest.approx(time.time(), abs=60)
    assert found["authapi_database_pool_size"] == settings.database_pool_size
    assert found["authapi_coherence_lag_seconds"] == 0
    assert found['authapi_events_total{type="refresh_reuse"}'] == 0
    assert found["process_resident_memory_bytes"] > 0


class Lookup:
    """A breach check that asks a function."""

    def __init__(self, ask: Callable[[str], Awaitable[bool]]) -> None:
        self._ask = ask

    async def __call__(self, password: str) -> bool:
        return await self._ask(password)

    async def close(self) -> None:
        return None


async def fail_or_deliver(entry: OutboxEntry, payload: Mapping[str, Any]) -> None:
    if payload["outcome"] != "delivered":
        raise DeliveryFailed("no", permanent=payload["outcome"] == "given_up")


def values(metrics: Metrics) -> dict[str, float]:
    lines = [line for line in metrics.render().decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_no_delay_is_infinite_without_the_identity_cache(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    settings = Settings(
        database_url=postgres_url,  # type: ignore[arg-type]  # pydantic converts
        metrics_path="/internal/metrics",
        secret="x" * 40,  # type: ignore[arg-type]
        identity_cache_size=0,
    )
    services = Services.build(settings)
    assert services.metrics is not None
    await services.start()
    try:
        found = values(services.metrics)
        assert found["authapi_coherence_lag_seconds"] == 0
        assert found["authapi_identity_cache_off"] == 1
        assert "identity cache off: AUTHAPI_IDENTITY_CACHE_SIZE is 0" in caplog.text
    finally:
        await services.stop()


async def test_a_cleanup_that_never_succeeds_has_the_time_of_the_start(sqlite_url: str) -> None:
    settings = Settings(database_url=sqlite_url, metrics_path="/internal/metrics")  # type: ignore[arg-type]
    services = Services.build(settings)
    assert services.metrics is not None
    before = now().timestamp()
    await services.start()
    try:
        found = values(services.metrics)
        for chore in services.cleanup.names:
            name = f'authapi_housekeeping_last_success_timestamp_seconds{{chore="{chore}"}}'
            assert before <= found[name] <= now().timestamp()
    finally:
        await services.stop()


async def test_the_delay_of_notifications(postgres_url: str) -> None:
    settings = Settings(
        database_url=postgres_url,  # type: ignore[arg-type]  # pydantic converts
        metrics_path="/internal/metrics",
        secret="x" * 40,  # type: ignore[arg-type]
    )
    services = Services.build(settings)
    assert services.metrics is not None
    assert services.invalidation.lag == math.inf
    await services.start()
    try:
        found = values(services.metrics)
        assert 0 < found["authapi_coherence_lag_seconds"] < 2
        assert found["authapi_identity_cache_off"] == 0
        await services.invalidation.stop()
        found = values(services.metrics)
        assert found["authapi_coherence_lag_seconds"] == math.inf
        assert found["authapi_identity_cache_off"] == 1
    finally:
        await services.stop()
