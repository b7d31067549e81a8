"""Events of accounts, and the rows of a page that shows them."""

import html
import re
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import httpx

from authapi.crypto.ids import id_at
from authapi.domain.client import Client as Peer
from authapi.domain.events import Event, EventType
from authapi.testing import Client
from tests.web.pages.checks import main_of

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/142.0.0.0 Safari/537.36"
PEER = Peer("203.0.113.7", WINDOWS)
QUESTION = "Was this not you? Change your password."


async def add(
    api: Client,
    owner: UUID,
    kind: EventType,
    at: datetime,
    *,
    peer: Peer = PEER,
    actor: UUID | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    event = Event(id_at(at), at, kind, owner, None, None, peer, detail or {}, actor)
    async with api.services.database.transaction() as store:
        await store.events.add(event)


def items(page: httpx.Response) -> list[str]:
    """The events of a page as text, without the times."""
    listed = main_of(page).partition('<ul class="events">')[2]
    found = re.findall(r"<li>(.*?)</li>", listed, re.DOTALL)
    texts = (re.sub(r"<time.*?</time>", "", item, flags=re.DOTALL) for item in found)
    return [
        html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))).strip() for text in texts
    ]
