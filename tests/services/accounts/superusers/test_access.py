"""What lets a person in to an account, told to superusers and ended by them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from authapi import Settings, create_app
from authapi.crypto.secrets import hash_secret
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.domain.user import User
from authapi.errors import InvalidCredential, NotFound, SuperuserRequired
from authapi.testing import Client, client
from tests.web.logins import sign_in
from tests.web.pages.statements import counting


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        yield found


async def signed_in(api: Client, user: User) -> Identity:
    [_, secret] = (await sign_in(api.services, user))["cookie"].split("=", 1)
    found = await api.services.sessions.identify_by_secret(
        hash_secret(secret), SessionKind.SESSION, strategy="session"
    )
    assert found is not None
    return found


async def test_one_login_and_one_token_end(api: Client) -> None:
    access, sessions = api.services.accounts.access, api.services.sessions
    root = await signed_in(api, await api.create_user("root@example.com", is_superuser=True))
    alice = await signed_in(api, await api.create_user("alice@example.com"))
    token, _ = await api.services.tokens.personal.create(
        alice, name="x", scopes=None, lifetime=None
    )
    [login] = await sessions.list_for_user(alice.user.id)
    for end, wrong in ((access.end_login, token.id), (access.end_token, login.id)):
        for other in (wrong, uuid4()):
            with pytest.raises(NotFound):
                await end(alice.user.id, other, actor=root)
        with pytest.raises(NotFound):  # that of another account
            await end(root.user.id, login.id, actor=root)
    await access.end_login(alice.user.id, login.id, actor=root)
    await access.end_token(alice.user.id, token.id)
    assert await sessions.list_for_user(alice.user.id) == []
    assert await api.services.tokens.personal.list_of(alice.user.id) == []
    events = await api.services.audit.page(alice.user.id, before=None, limit=2)
    assert [(event.type, event.session_id, event.actor_id) for event in events] == [
        (EventType.TOKEN_ENDED, token.id, None),
        (EventType.SESSION_ENDED, login.id, root.user.id),
    ]


async def test_the_actor_must_still_be_a_superuser(api: Client) -> None:
    access = api.services.accounts.access
    alice = await signed_in(api, await api.create_user("alice@example.com"))
    root = await signed_in(api, await api.create_user("root@example.com"))
    was = replace(root, user=replace(root.user, is_superuser=True))
    [login] = await api.services.sessions.list_for_user(alice.user.id)
    with pytest.raises(SuperuserRequired):
        await access.end_login(alice.user.id, login.id, actor=was)
    await api.services.sessions.end_all(root.user.id)
    with pytest.raises(InvalidCredential):
        await access.end_login(alice.user.id, login.id, actor=was)
    assert len(await api.services.sessions.list_for_user(alice.user.id)) == 1


async def test_accounts_that_can_be_invited_again(api: Client) -> None:
    administration, access = api.services.accounts.administration, api.services.accounts.access
    invited = await administration.invite(parse_email("invited@example.com"))
    off = await administration.invite(parse_email("off@example.com"))
    off = await administration.change(off.id, {"is_active": False})
    own = await api.create_user("own@example.com")
    assert await access.invited_among([invited, off, own]) == {invited.id}
    with counting(api.services.database) as statements:
        assert await access.invited_among([off]) == frozenset()
        assert await access.emails_of([]) == {}
    assert statements == []
    assert await access.emails_of([own.id, uuid4()]) == {own.id: "own@example.com"}
