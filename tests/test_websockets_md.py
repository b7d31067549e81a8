"""docs/websockets.md: its application runs under uvicorn, and its tables and links are true."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from authapi.services.sessions.watch import Ending
from authapi.web.sockets.live import _CODES
from tests.servers.forked import Forking
from tests.test_readme import ROOT
from tests.web.websockets import WebSocketService, websocket_service

PAGE = (ROOT / "docs" / "websockets.md").read_text("utf-8")


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, forking: Forking
) -> Iterator[WebSocketService]:
    """The code of the page as one program."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    with websocket_service("\n".join(blocks), tmp_path_factory.mktemp("page"), forking) as running:
        yield running
        assert "Traceback" not in running.process.output()


@pytest.mark.parametrize("path", ["/chat", "/ticks"])
async def test_logout_closes_the_socket_of_the_page(service: WebSocketService, path: str) -> None:
    headers = service.login("token")
    async with service.open(path, headers) as websocket, asyncio.timeout(30):
        await websocket.send("hello")
        expected = f"{service.email}: hello" if path == "/chat" else "tick"
        assert await websocket.recv() == expected
        assert service.request("POST", "/logout", headers=headers).status_code == 204
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012  # ticks may come before
            while True:
                await websocket.recv()
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4401, "session_ended")


def test_the_page_has_every_code_and_reason() -> None:
    for ending in Ending:
        assert f"| {_CODES[ending]} | `{ending.value}` |" in PAGE


def test_links_are_valid() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
