"""Secret scanning: reported tokens are found, and end with their sessions."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.refresh_tokens import RefreshToken, new_refresh_token
from authapi.crypto.secrets import hash_secret, new_opaque_token, new_secret
from authapi.domain.events import EventType
from authapi.domain.session import Session, SessionKind
from authapi.domain.user import User
from authapi.errors import ConfigurationError, ReportNotSigned, StorageUnavailable
from authapi.services import Lifetime, Login, Services
from authapi.services.tokens import ReportedToken, SecretScanning, TokenLookup, Verdict
from authapi.settings import Settings
from authapi.storage import Store
from tests.storage.rows import a_user, sql, store_user
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
class CreatedSession:
    session: Session
    token: str


async def create_opaque(services: Services, user: User) -> CreatedSession:
    token = new_opaque_token()
    return CreatedSession(
        await create_session(services, user, SessionKind.TOKEN, secret=token), token
    )


async def create_refreshable(services: Services, user: User) -> tuple[Session, RefreshToken]:
    first = new_refresh_token()
    return await create_session(services, user, SessionKind.JWT, refresh=first), first


async def create_session(
    services: Services,
    user: User,
    kind: SessionKind,
    *,
    secret: str | None = None,
    refresh: RefreshToken | None = None,
) -> Session:
    return await services.sessions.create(
        Login(user, 0, now(), ("pwd",)),
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
    return {session.id for session in await services.sessions.list_for_user(user.id)}


async def leaked(services: Services, user: User) -> list[UUID | None]:
    events = await services.audit.page(user.id, before=None, limit=100)
    return [event.session_id for event in events if event.type is EventType.TOKEN_LEAKED]


async def test_tokens_of_every_kind_are_found(services: Services, alice: User) -> None:
    kept, ended = await create_opaque(services, alice), await create_opaque(services, alice)
    family, first = await create_refreshable(services, alice)
    signed = await create_session(services, alice, SessionKind.JWT)
    browser = await create_session(services, alice, SessionKind.SESSION, secret=new_secret())
    texts = {
        ended.session.id: ended.token,
        family.id: first.text,
        signed.id: await sign(services, alice, signed),
        browser.id: await sign(services, alice, browser, audience="billing"),
    }
    assert (
        await services.tokens.secret_scanning.revoke_leaked(
            [ReportedToken(text) for text in texts.values()]
        )
        == [REAL] * 4
    )
    # A JWT for another service ends alone: the cookie that was exchanged for it has not leaked.
    assert await living(services, alice) == {kept.session.id, browser.id}
    for text in texts.values():
        assert await services.tokens.introspection.introspect(text) is None
    assert set(await leaked(services, alice)) == texts.keys()
    assert len(await leaked(services, alice)) == 4


async def test_any_token_of_a_family_is_a_true_positive(services: Services, alice: User) -> None:
    for generation in range(4):
        session, first = await create_refreshable(services, alice)
        texts = [first.text]
        for _ in range(3):
            renewed = await services.tokens.refresh.refresh(texts[-1])
            texts.append(renewed.refresh_token)
        assert await services.tokens.secret_scanning.revoke_leaked(
            [ReportedToken(texts[generation])]
        ) == [REAL]
        assert session.id not in await living(services, alice)


async def test_unknown_tokens_change_nothing(services: Services, alice: User) -> None:
    mine = await create_opaque(services, alice)
    signed = await create_session(services, alice, SessionKind.JWT)
    bob = await store_user(services.database, a_user(), email="bob@example.com")
    crossed = await sign(services, bob, signed)
    foreign = await sign(services, alice, signed, audience="unknown")
    texts = [new_opaque_token(), new_refresh_token().text, crossed, foreign]
    texts += [mine.token[:-1], f"{mine.token} ", mine.token.upper(), "a.b.c"]
    assert await services.tokens.secret_scanning.revoke_leaked(
        [ReportedToken(text) for text in texts]
    ) == [NOT_OURS] * len(texts)
    assert await living(services, alice) == {mine.session.id, signed.id}
    assert await leaked(services, alice) == []


async def test_one_event_per_session_with_the_first_location(
    services: Services, alice: User
) -> None:
    session, first = await create_refreshable(services, alice)
    text = await sign(services, alice, session)
    leaks = [
        ReportedToken(text, "https://example.com/1", "commit"),
        ReportedToken(first.text, "https://example.com/2", "npm"),
        ReportedToken(text),
    ]
    assert await services.tokens.secret_scanning.revoke_leaked(leaks) == [REAL] * 3
    assert await leaked(services, alice) == [session.id]
    events = await services.audit.page(alice.id, before=None, limit=1)
    assert events[0].detail == {"url": "https://example.com/1", "source": "commit"}
    assert events[0].strategy == "jwt"


async def test_the_session_and_the_event_are_committed_together(
    services: Services, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await create_opaque(services, alice)

    async def away(store: Store, *_: object, **__: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(services.audit, "record", away)
        with pytest.raises(StorageUnavailable):
            await services.tokens.secret_scanning.revoke_leaked([ReportedToken(mine.token)])
    assert await living(services, alice) == {mine.session.id}
    assert await services.tokens.secret_scanning.revoke_leaked([ReportedToken(mine.token)]) == [
        REAL
    ]


async def test_no_part_of_the_token_is_stored(
    services: Services, alice: User, database_url: str
) -> None:
    mine = await create_opaque(services, alice)
    url = f"https://example.com/{mine.token}"
    assert await services.tokens.secret_scanning.revoke_leaked(
        [ReportedToken(mine.token, url, mine.token)]
    ) == [REAL]
    assert mine.token[4:20] not in str(sql(database_url, "SELECT * FROM authapi_events"))
    assert mine.token not in repr(ReportedToken(mine.token))


async def test_reports_are_refused_without_a_key_file(services: Services, tmp_path: Path) -> None:
    scanner, body = Scanner(), b"[]"
    signed = {"identifier": scanner.identifier, "signature": scanner.sign(body)}
    services.tokens.secret_scanning.open()
    with pytest.raises(ReportNotSigned):
        services.tokens.secret_scanning.verify_signature(body, **signed)
    path = publish(tmp_path / "keys.json", scanner)
    settings = services.settings.model_copy(update={"leak_report_keys": path})
    lookup = TokenLookup(
        services.database, services.keys, services.last_used, services.hooks, settings
    )
    scanning = SecretScanning(
        services.database, lookup, services.tokens.revocation, services.audit, settings
    )
    with pytest.raises(ReportNotSigned):
        scanning.verify_signature(body, **signed)
    scanning.open()
    scanning.verify_signature(body, **signed)
    path.unlink()
    with pytest.raises(ConfigurationError):
        scanning.open()
