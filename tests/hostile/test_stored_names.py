"""Names that people and devices have chosen are texts on every page that shows them."""

from collections.abc import Mapping

import pytest

from authapi import Settings, create_app
from authapi.crypto.secrets import hash_secret
from authapi.domain.client import Client as Caller
from authapi.domain.client import on_behalf_of
from authapi.domain.events import EventType
from authapi.domain.session import SessionKind
from tests.hostile.checked_app import raw
from tests.hostile.page_inputs import TEXTS, Pages
from tests.second_factors import insert_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.mailbox import client_with_mailbox
from tests.web.pages.anatomy import page_of
from tests.web.pages.page_routes import page_paths
from tests.web.pages.scenes import SCOPES

NAMES: Mapping[str, str] = {
    name: text[:60].strip()
    for name, text in TEXTS.items()
    if name in {"markup", "closing tags", "attribute", "template", "placeholders", "emoji"}
} | {"combining marks": "a" + "\u0301" * 59, "right to left": "\u202emoc.live\u2066x"}


@pytest.mark.parametrize("name", NAMES)
async def test_stored_names_are_texts(database_url: str, name: str) -> None:
    text, settings = NAMES[name], Settings(database_url=database_url, scopes=SCOPES)  # type: ignore[arg-type]  # pydantic parses it
    async with client_with_mailbox(settings, create_app(settings)) as api:
        site, agent = Pages(api), f"Mozilla/5.0 {text}"
        alice = await api.create_user(name=text)
        with on_behalf_of(lambda: Caller(ip="127.0.0.1", user_agent=agent)):
            cookie = await sign_in(api.services, alice)
            await api.services.audit.record_separately(EventType.LOGIN_REFUSED, user_id=alice.id)
        owner = await api.services.sessions.identify_by_secret(
            hash_secret(cookie["cookie"].split("=")[1]), SessionKind.SESSION, strategy="session"
        )
        assert owner is not None
        await api.services.tokens.personal.create(owner, name=text, scopes=None, lifetime=None)
        await insert_passkey(api.services, alice, SoftAuthenticator(), name=text)
        shown = set()
        for path in page_paths(site.app):
            if path == "/account/data/export":
                continue
            answer = await site.send("GET", path, headers=[*raw(cookie)])
            if answer.status_code == 200:
                found = page_of(answer, limit=1_000_000)
                if " ".join(text.split()) in " ".join(found.text.split()):
                    shown.add(path)
        # The name of the account is in the header of every page.
        assert shown >= {f"/account{page}" for page in ("", "/devices", "/security", "/tokens")}
        devices = await site.send("GET", "/account/devices", headers=raw(cookie))
        assert [it.text for it in page_of(devices).all("h2")] == ["Unknown device"]
        tokens = await site.send("GET", "/account/tokens", headers=raw(cookie))
        assert [it.text for it in page_of(tokens).all("h2")] == [" ".join(text.split())]
