"""A provider that answers as a test wants, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.outbound.upstreams.visits import upstreams_of
from tests.servers.openid import OpenIDServer


@pytest.fixture
def server() -> Iterator[OpenIDServer]:
    with OpenIDServer() as found:
        yield found


@pytest.fixture
async def acme(server: OpenIDServer) -> AsyncIterator[RemoteUpstream]:
    upstreams = upstreams_of(acme=server.options())
    yield upstreams.find("acme")
    await upstreams.aclose()
