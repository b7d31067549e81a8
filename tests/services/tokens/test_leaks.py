"""Leaked tokens: each of ours is found by its text, and ended with its session."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.refresh import RefreshToken, new_refresh_token
from authapi.crypto.secrets import hash_secret, new_opaque_token, new_secret
from authapi.errors import ConfigurationError, ReportNotSigned, StorageUnavailable
from authapi.identity import EventType, Session, SessionKind, User
from authapi.services import Lifetime, Login, Services
from authapi.services.tokens import Leak, Leaks, PresentedTokens, Verdict
from authapi.settings import Settings
from authapi.storage import Store
from tests.storage.rows import HASH, a_user, sql, store_user
from tests.web.scanners import Scanner, publish

REAL, NOT_OURS = Verdict.TRUE_POSITIVE, Verdict.FALSE_POSITIVE


@pytest.fixture
async def services(database_url: str) -> AsyncIterator[Services]:
    found = Services.build(
        Settings(
            database_url=database_url,  # type: ignore[arg-type]  # pydantic converts
            jwt_audiences=("billing",),
        )
    )
    await found.keys.open()
    yield found
    await found.database.close()


@pytest.fixture
async def alice(services: Services) -> User:
    return await store_user(services.database, a_user())


@dataclass(frozen=True)
class Begun:
    session: Session
    token: str


async def opaque(services: Services, user: User) -> Begun:
    token = new_opaque_token()
    return Begun(await begin(services, user, SessionKind.TOKEN, secret=token), token)


async def refreshed(services: Services, user: User) -> tuple[Session, RefreshToken]:
    first = new_refresh_token()
    return await begin(services, user, SessionKind.JWT, refresh=first), first


async def begin(
    services: Services,
    user: User,
    kind: SessionKind,
    *,
    secret: str | None = None,
    refresh: RefreshToken | None = None,
) -> Session:
    return await services.sessions.begin(
        Login(user, HASH, now()),
        kind,
        lifetime=Lifetime(timedelta(days=1)),
        secret=None if secret is None else hash_secret(secret),
        refresh=refresh,
    )


async def sign(services: Services, user: User, session: Session, **more: str) -> str:
    issued = now().replace(microsecond=0)
    return await services.keys.sign_access_token(
        user, session, issued=issued, expires=issued + timedelta(minutes=5), **more
    )


async def living(services: Services, user: User) -> set[UUID]:
    return {session.id for session in await services.sessions.list_of(user.id)}


async def leaked(services: Services, user: User) -> list[UUID | None]:
    events = await services.audit.page(user.id, before=None, limit=100)
    return [event.session_id for event in events if event.type is EventType.TOKEN_LEAKED]


async def test_each_kind_is_found(services: Services, alice: User) -> None:
    kept, ended = await opaque(services, alice), await opaque(services, alice)
    family, first = await refreshed(services, alice)
    signed = await begin(services, alice, SessionKind.JWT)
    browser = await begin(services, alice, SessionKind.SESSION, secret=new_secret())
    texts = {
        ended.session.id: ended.token,
        family.id: first.text,
        signed.id: await sign(services, alice, signed),
        browser.id: await sign(services, alice, browser, audience="billing"),
    }
    assert await services.leaks.end([Leak(text) for text in texts.values()]) == [REAL] * 4
    # One for another service ends alone: the cookie that it was exchanged for has not leaked.
    assert await living(services, alice) == {kept.session.id, browser.id}
    for text in texts.values():
        assert await services.token_states.introspect(text) is None
    assert set(await leaked(services, alice)) == texts.keys()
    assert len(await leaked(services, alice)) == 4


async def test_any_token_of_a_family_is_one(services: Services, alice: User) -> None:
    for generation in range(4):
        session, first = await refreshed(services, alice)
        texts = [first.text]
        for _ in range(3):
            renewed = await services.refresh_tokens.exchange(texts[-1])
            texts.append(renewed.refresh_token)
        assert await services.leaks.end([Leak(texts[generation])]) == [REAL]
        assert session.id not in await living(services, alice)


async def test_what_is_not_ours_changes_nothing(services: Services, alice: User) -> None:
    mine = await opaque(services, alice)
    signed = await begin(services, alice, SessionKind.JWT)
    bob = await store_user(services.database, a_user(), email="bob@example.com")
    crossed = await sign(services, bob, signed)
    foreign = await sign(services, alice, signed, audience="somebody else")
    texts = [new_opaque_token(), new_refresh_token().text, crossed, foreign]
    texts += [mine.token[:-1], f"{mine.token} ", mine.token.upper(), "a.b.c"]
    assert await services.leaks.end([Leak(text) for text in texts]) == [NOT_OURS] * len(texts)
    assert await living(services, alice) == {mine.session.id, signed.id}
    assert await leaked(services, alice) == []


async def test_one_event_a_session_of_the_first_place(services: Services, alice: User) -> None:
    session, first = await refreshed(services, alice)
    text = await sign(services, alice, session)
    leaks = [
        Leak(text, "https://example.com/1", "commit"),
        Leak(first.text, "https://example.com/2", "npm"),
        Leak(text),
    ]
    assert await services.leaks.end(leaks) == [REAL] * 3
    assert await leaked(services, alice) == [session.id]
    events = await services.audit.page(alice.id, before=None, limit=1)
    assert events[0].detail == {"url": "https://example.com/1", "source": "commit"}
    assert events[0].strategy == "jwt"


async def test_ended_and_told_or_neither(
    services: Services, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await opaque(services, alice)

    async def away(store: Store, *_: object, **__: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(services.audit, "record", away)
        with pytest.raises(StorageUnavailable):
            await services.leaks.end([Leak(mine.token)])
    assert await living(services, alice) == {mine.session.id}
    assert await services.leaks.end([Leak(mine.token)]) == [REAL]


async def test_nothing_of_the_token_is_kept(
    services: Services, alice: User, database_url: str
) -> None:
    mine = await opaque(services, alice)
    url = f"https://example.com/{mine.token}"
    assert await services.leaks.end([Leak(mine.token, url, mine.token)]) == [REAL]
    assert mine.token[4:20] not in str(sql(database_url, "SELECT * FROM events"))
    assert mine.token not in repr(Leak(mine.token))


async def test_nobody_is_believed_without_a_file(services: Services, tmp_path: Path) -> None:
    scanner, body = Scanner(), b"[]"
    signed = {"identifier": scanner.identifier, "signature": scanner.sign(body)}
    services.leaks.open()
    with pytest.raises(ReportNotSigned):
        services.leaks.require_signed(body, **signed)
    path = publish(tmp_path / "keys.json", scanner)
    settings = services.settings.model_copy(update={"leak_report_keys": path})
    presented = PresentedTokens(services.database, services.keys, services.activity, settings)
    leaks = Leaks(services.database, presented, services.audit, settings)
    with pytest.raises(ReportNotSigned):
        leaks.require_signed(body, **signed)
    leaks.open()
    leaks.require_signed(body, **signed)
    path.unlink()
    with pytest.raises(ConfigurationError):
        leaks.open()
