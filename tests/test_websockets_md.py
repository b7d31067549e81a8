"""docs/websockets.md: its application runs, and its tables and links are true."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from starlette.websockets import WebSocketDisconnect

from authapi.services.sessions.watch import Ending
from authapi.testing import PASSWORD
from authapi.web.sockets.live import _CODES
from tests.test_readme import ROOT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Starlette prefers a successor of httpx
    from starlette.testclient import TestClient

PAGE = (ROOT / "docs" / "websockets.md").read_text("utf-8")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the code of the page defines."""
    monkeypatch.setenv("AUTHAPI_DATA_DIR", str(tmp_path / "data"))
    namespace: dict[str, Any] = {"__name__": "page"}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        exec(compile(code, "websockets.md", "exec"), namespace)  # the page is part of this project
    return namespace


@pytest.mark.parametrize("path", ["/chat", "/ticks"])
def test_logout_closes_the_socket_of_the_page(page: dict[str, Any], path: str) -> None:
    with TestClient(page["app"], base_url="http://127.0.0.1") as client:
        body = {"email": "a@example.com", "password": PASSWORD}
        client.post("/register", json=body)
        token = client.post("/login", json={**body, "strategy": "token"}).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        with client.websocket_connect(path, headers=headers) as websocket:
            websocket.send_text("hello")
            expected = "a@example.com: hello" if path == "/chat" else "tick"
            assert websocket.receive_text() == expected
            assert client.post("/logout", headers=headers).status_code == 204
            with pytest.raises(WebSocketDisconnect) as caught:  # noqa: PT012  # ticks may come before
                while True:
                    websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4401, "session_ended")


def test_the_page_has_every_code_and_reason() -> None:
    for ending in Ending:
        assert f"| {_CODES[ending]} | `{ending.value}` |" in PAGE


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
