"""Metrics on a separate port, of one process and of several workers."""

import os
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.servers.process import ServeProcess, free_port

PATIENCE = 15.0


def scraped(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_cover_all_workers(tmp_path: Path, workers: int) -> None:
    port, scrape_port = free_port(), free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "AUTHAPI_DATA_DIR": str(tmp_path / "data"),
        "AUTHAPI_METRICS_PORT": str(scrape_port),
        "AUTHAPI_WORKERS": str(workers),
    }
    command = [sys.executable, "-m", "authapi", "serve", "--port", str(port)]
    base = f"http://127.0.0.1:{port}"
    with ServeProcess(command, environment, tmp_path) as server:
        server.wait_ready(f"{base}/health/ready")
        for _ in range(12):  # a new connection each, so that every worker gets some
            assert httpx.get(f"{base}/health/live").status_code == 200
        wanted = 'authapi_requests_total{method="GET",route="/health/live",status="200"} 12.0'
        deadline = time.monotonic() + PATIENCE
        while wanted not in scraped(scrape_port):
            assert time.monotonic() < deadline, scraped(scrape_port)
            time.sleep(0.05)
        assert "authapi_identity_cache_entries 0.0" in scraped(scrape_port)
        assert httpx.get(f"{base}/metrics").status_code == 404
