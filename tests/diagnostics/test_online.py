"""`authapi doctor --online`: the service at its public URL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from threading import Thread

import pytest

from authapi.diagnostics.online import check_public_url
from authapi.domain.monitoring.findings import Finding
from authapi.settings import Settings
from tests.servers.process import free_port
from tests.servers.web_server import WebServer


@contextmanager
def answering(status: int, issuer: str | None) -> Iterator[str]:
    """Runs a server that answers each request; yields its address. None is that of the server."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"issuer": issuer or url}).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is named
            return None

    with WebServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield url
        finally:
            server.shutdown()
            thread.join()
    assert asked == ["/.well-known/oauth-authorization-server"]


def finding(url: str) -> Finding:
    [found] = check_public_url(Settings.isolated(public_url=url))
    return found


def test_the_service_answers() -> None:
    with answering(200, None) as url:
        assert finding(url) == Finding("public url", "ok", f"{url} answers")


@pytest.mark.parametrize(
    ("status", "issuer", "part"),
    [(200, "https://other.example", "another service"), (502, None, "status 502")],
)
def test_another_answer_is_an_error(status: int, issuer: str | None, part: str) -> None:
    with answering(status, issuer) as url:
        found = finding(url)
    assert found.verdict == "error"
    assert part in found.message
    assert "AUTHAPI_PUBLIC_URL" in str(found.remedy)


def test_no_answer_is_an_error() -> None:
    found = finding(f"http://127.0.0.1:{free_port()}")
    assert found.verdict == "error"
    assert "does not answer" in found.message
