"""A superuser whose rank or login ends after the gate of a form: the transaction refuses it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.domain.email_address import parse_email
from authapi.domain.identity import Identity
from authapi.domain.signing_key import KeyState
from authapi.domain.user import User
from authapi.services import Services
from authapi.web.routes.pages.account import sudo
from authapi.web.routes.pages.console import invite, keys, mail, person, webhooks
from tests.second_factors import add_second_factors
from tests.storage.rows import sync_url
from tests.web.logins import sign_in
from tests.web.pages.anatomy import alerts_of, page_of
from tests.web.pages.page_routes import ID, console_paths
from tests.web.pages.scenes import create_person, furnish
from tests.web.routes.pages.console.queues import GOOD, HOOKS, Desk, open_desk
from tests.web.routes.pages.people import ALICE

TABLES = ("users", "sessions", "email_tokens", "totp_factors", "signing_keys", "outbox", "events")
FORMS: Mapping[str, Sequence[str]] = {
    f"/console/people/{ID}": tuple(person._ACTIONS),
    "/console/people/new": ("",),
    "/console/mail": ("test", "retry", "entry"),
    "/console/webhooks": ("test", "retry", "entry"),
    "/console/keys": ("rotate", "retire"),
}
"""What the forms of each page do."""
Rows = Callable[[], Mapping[str, Sequence[Any]]]
Change = Callable[[Services, User], Awaitable[object]]
ENDINGS: Mapping[str, Change] = {
    "demoted": lambda services, user: services.accounts.administration.change(
        user.id, {"is_superuser": False}
    ),
    "deactivated": lambda services, user: services.accounts.administration.change(
        user.id, {"is_active": False}
    ),
    "signed out": lambda services, user: services.sessions.end_all(user.id),
}

RESTORED: Mapping[str, bool] = {"is_active": True, "is_superuser": True}


@pytest.fixture
async def desk(sqlite_url: str) -> AsyncIterator[Desk]:
    """One database is enough: tests/services refuse each change on both."""
    settings = {"webhook_events": ("account_renamed",), **HOOKS}
    async with open_desk(sqlite_url, **settings) as found:
        await found.queue_mail(2)
        await found.rename()
        await found.give_up("mail", "away")
        for url in HOOKS["webhook_urls"]:
            await found.give_up("webhook", "away", receiver=found.receiver_of(url))
        yield found


async def fields_of(desk: Desk, target: User, path: str, action: str) -> dict[str, str]:
    """What the form sends. It would succeed if the superuser still were one."""
    services = desk.api.services
    kind = path.rpartition("/")[2].removesuffix("s")
    if action == "entry":
        [entry, *_] = await services.queues.page(kind, limit=1)
        return {"entry": str(entry.id)}
    if path == "/console/webhooks":
        return {action: desk.receiver_of(GOOD)}
    found = {"action": action, "emails": "carol@example.com", "email": target.email}
    if action == "retire":
        stored = await services.keys.list_stored()
        [found["kid"]] = [key.kid for key in stored if key.state is KeyState.ACTIVE]
    elif action == "save":
        found |= {"name": "New", "superuser": "yes", "version": person._version(target)}
    elif action == "end-token":
        [token, *_] = await services.tokens.personal.list_of(target.id)
        found["id"] = str(token.id)
    elif action == "end-login":
        [login, *_] = await services.sessions.list_for_user(target.id)
        found["id"] = str(login.id)
    return found


@pytest.fixture
def rows(desk: Desk) -> Iterator[Rows]:
    """Reads what the database has, on a connection beside those of the service."""
    engine = sa.create_engine(sync_url(desk.api.services.settings.resolved_database_url))
    with closing(engine.connect().execution_options(isolation_level="AUTOCOMMIT")) as connection:
        yield lambda: {
            name: sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM authapi_{name}")))
            for name in TABLES
        }
    engine.dispose()


def test_all_forms_are_listed() -> None:
    assert sorted(FORMS) == sorted(console_paths(create_app(Settings()), "POST"))


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_form_that_is_overtaken_changes_nothing(
    desk: Desk, rows: Rows, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = desk.api.services
    alice = await create_person(desk.api, ALICE)
    await furnish(desk.api, alice, rows=2)
    await add_second_factors(services, alice)
    alice = await services.accounts.profiles.find(alice.id)
    dan = await services.accounts.administration.invite(parse_email("dan@example.com"))
    before: dict[str, Sequence[Any]] = {}

    async def overtaken(*arguments: Any) -> Identity:
        identity = await sudo.prove(*arguments)
        await ENDINGS[ending](services, identity.user)
        before.update(rows())
        return identity

    for module in (invite, keys, mail, person, webhooks):
        monkeypatch.setattr(module, "prove", overtaken)
    desk.api.cookies.clear()
    actor = await create_person(desk.api, "second@example.com", is_superuser=True)
    for path, actions in FORMS.items():
        for action in actions:
            await services.accounts.administration.change(actor.id, RESTORED)  # type: ignore[arg-type]  # two changes
            cookie = dict(await sign_in(services, actor))
            target = dan if action == "invite" else alice
            fields = await fields_of(desk, target, path, action)
            before.clear()
            there = path.replace(ID, str(target.id))
            answer = await desk.browser.request("POST", there, fields, cookie)
            assert before, (path, action)
            assert rows() == before, (path, action)
            assert answer.status_code == 404, (path, action)
            assert "set-cookie" not in answer.headers
    assert desk.post.sent == []


async def test_a_login_that_became_too_weak_invites_no_person(
    desk: Desk, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The superuser adds a second factor in another browser while the form is on its way."""

    async def overtaken(*arguments: Any) -> Identity:
        identity = await sudo.prove(*arguments)
        await add_second_factors(desk.api.services, identity.user)
        return identity

    monkeypatch.setattr(invite, "prove", overtaken)
    users = rows()["users"]
    fields = {"emails": "one@example.com two@example.com"}
    answer = await desk.browser.request("POST", "/console/people/new", fields)
    assert answer.status_code == 401
    assert len(alerts_of(page_of(answer))) == 1
    assert len(rows()["users"]) == len(users)
