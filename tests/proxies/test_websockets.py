"""WebSockets through each proxy and directly, and handshakes with a hidden request."""

import asyncio
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.proxies.testbed.backends import Backends
from tests.proxies.testbed.places import PLACES, place
from tests.proxies.testbed.proxies import Proxies
from tests.proxies.testbed.wire import TIMEOUT, Address, Connection, NoAnswer

pytestmark = pytest.mark.slow

KINDS = ("imported", "surrounded", "protocol")
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def opened(address: Address, headers: dict[str, str]) -> connect:
    scheme = "ws" if address.trust is None else "wss"
    return connect(
        f"{scheme}://localhost:{address.port}/live",
        # Not `localhost`: it may resolve to ::1, where another process may use this port.
        host="127.0.0.1",
        port=address.port,
        ssl=address.trust,
        server_hostname=None if address.trust is None else "localhost",
        additional_headers=headers,
        open_timeout=30,
        proxy=None,
    )


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize(
    ("kind", "credential"),
    [
        *((kind, credential) for kind in KINDS for credential in ("cookie", "token", "jwt")),
        ("verifying", "jwt"),
    ],
)
async def test_websocket_opens_with_each_credential(
    kind: str, credential: str, where: str, backends: Backends, proxies: Proxies
) -> None:
    address = place(where, kind, backends, proxies)
    account = backends[kind].accounts[0]
    async with opened(address, getattr(account, credential)) as found, asyncio.timeout(30):
        assert await found.recv() == account.id
        await found.send("and back" * 10_000)
        assert await found.recv() == "and back" * 10_000


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", [*KINDS, "verifying"])
async def test_websocket_without_a_valid_credential_is_refused(
    kind: str, where: str, backends: Backends, proxies: Proxies
) -> None:
    address = place(where, kind, backends, proxies)
    with pytest.raises(InvalidStatus) as refused:
        await opened(address, {"Authorization": "Bearer aat_unknown"})
    assert refused.value.response.status_code in {401, 403}


@pytest.mark.parametrize("packets", [1, 2])
@pytest.mark.parametrize(
    "framing", ["Content-Length: {length}", "Transfer-Encoding: chunked"], ids=["length", "chunks"]
)
@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("kind", [*KINDS, "verifying"])
def test_handshake_with_a_body_is_refused(
    kind: str, where: str, framing: str, packets: int, backends: Backends, proxies: Proxies
) -> None:
    backend, address = backends[kind], place(where, kind, backends, proxies)
    backend.seen()
    hidden = b"DELETE /me?stolen=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lines = [
        "GET /live HTTP/1.1",
        "Host: localhost",
        *(f"{name}: {value}" for name, value in backend.accounts[0].jwt.items()),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {_KEY}",
        framing.format(length=len(hidden)),
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    body = hidden if "Length" in framing else b"%x\r\n%s\r\n0\r\n\r\n" % (len(hidden), hidden)
    # Plain uvicorn neither answers nor closes, and calls no application (docs/proxies.md).
    is_ours = kind == "protocol"
    with Connection(address, TIMEOUT if is_ours else 0.5) as connection:
        connection.send(head + body if packets == 1 else head)
        if packets == 2:
            connection.wait_until_read()
            connection.send(body)
        with suppress(*(() if is_ours else (NoAnswer,))):
            answer = connection.answer()
            assert answer is None or 400 <= answer.status < 600, answer
            assert where != "direct" or connection.is_closed()
    assert not [line for line in backend.seen() if "stolen" in line]
