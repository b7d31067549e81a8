"""GET /me/export, and the streaming that it shares with GET /admin/events/export."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.types import Message

from authapi import Settings, create_app
from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import Client as Place
from authapi.domain.events import Event, EventFilter, EventType
from authapi.domain.user import User
from authapi.errors import StorageUnavailable
from authapi.storage.tables.events import EventTable
from authapi.testing import Client, client
from tests.storage.cancelling import until
from tests.storage.rows import sql
from tests.web.asgi import scope_of
from tests.web.logins import Headers, sign_in
from tests.web.responses import check_headers, problem


async def test_the_export_contains_all_own_data_only(
    api_on_each: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.web.routes.export._PAGE", 2)  # so that there are several pages
    api = api_on_each
    alice, bob = await api.create_user("alice@example.com", name="Alice"), await api.create_user()
    headers = await sign_in(api.services, alice)
    await sign_in(api.services, alice, "jwt")
    await sign_in(api.services, bob)
    made = (await api.post("/me/tokens", json={"name": "script"}, headers=headers)).json()
    answer = await api.get("/me/export", headers=headers)
    assert answer.status_code == 200
    check_headers(answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == 'attachment; filename="account.json"'
    found = answer.json()
    assert found.keys() == {
        *("exported_at", "account", "sessions", "tokens", "factors", "identities", "events")
    }
    assert found["identities"] == []
    assert found["account"] == (await api.get("/me", headers=headers)).json()
    assert found["sessions"] == (await api.get("/me/sessions", headers=headers)).json()
    assert [token["name"] for token in found["tokens"]] == ["script"]
    kinds = [event["type"] for event in found["events"]]
    assert kinds == ["token_created", "login", "login", "account_registered"]
    text = json.dumps(found)
    assert str(bob.id) not in text
    assert bob.email not in text
    secrets = (made["access_token"], headers["cookie"].partition("=")[2], "argon2", "hash")
    assert not any(secret in text for secret in secrets)


async def test_a_personal_token_is_refused(api: Client) -> None:
    headers = await sign_in(api.services, await api.create_user(), "token")
    problem(await api.get("/me/export", headers=headers), 401, "unauthenticated")


async def fill(api: Client, user: User, count: int) -> None:
    """Write events of the account."""
    events = [
        Event(
            id=new_id(),
            at=now(),
            type=EventType.ACCOUNT_RENAMED,
            user_id=user.id,
            session_id=None,
            strategy="session",
            client=Place(ip="192.0.2.1", user_agent='a "browser"'),
            detail={},
        )
        for _ in range(count)
    ]
    async with api.services.database.transaction() as store:
        await store.events.add_all(events)


PATHS = (b"/me/export", b"/admin/events/export", b"/admin/events/export?format=csv")


class Download:
    """A download over ASGI. The test decides when the client receives the next part."""

    def __init__(self, app: FastAPI, path: bytes, headers: Headers) -> None:
        path, _, query = path.partition(b"?")
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._app, self._scope = app, scope_of("GET", path, query=query, headers=raw)
        self.messages: list[Message] = []
        self.takes = asyncio.Semaphore(0)
        self.offered = asyncio.Event()
        self.gone = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.offered.set()
        await self.takes.acquire()
        self.offered.clear()
        self.messages.append(message)

    def take(self, count: int) -> None:
        """Receive `count` parts."""
        for _ in range(count):
            self.takes.release()

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages)

    @property
    def is_complete(self) -> bool:
        return self.messages[-1].get("more_body") is False


Prepared = tuple[FastAPI, Client, Headers]


@pytest.fixture
async def pages_of_ten(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Prepared]:
    """A superuser with a hundred events; the export reads ten in each query."""
    monkeypatch.setattr("authapi.web.routes.export._PAGE", 10)
    monkeypatch.setattr("authapi.services.audit.trail._EXPORT_PAGE_SIZE", 10)
    app = create_app(Settings(database_url=database_url))  # type: ignore[arg-type]
    async with client(app) as api:
        root = await api.create_user("root@example.com", is_superuser=True)
        headers = await sign_in(api.services, root)
        await fill(api, root, 100)
        yield app, api, headers


@pytest.mark.parametrize("path", PATHS)
async def test_a_slow_client_holds_no_connection(pages_of_ten: Prepared, path: bytes) -> None:
    app, api, headers = pages_of_ten
    slow = Download(app, path, headers)
    slow.take(3)  # the head of the response, and two pages
    with anyio.fail_after(20):
        while len(slow.messages) < 3 or not slow.offered.is_set():  # noqa: ASYNC110  # in ASGI
            await asyncio.sleep(0.001)
        # A worker in the background may use a connection at this moment.
        await until(lambda: api.services.database.connections_in_use == 0)
        fast = await api.get(path.decode(), headers=headers)
        slow.take(1000)
        await slow.task
    assert slow.is_complete
    if path == b"/me/export":
        events = [json.loads(text)["events"] for text in (slow.body, fast.content)]
        assert events[0] == events[1]
        assert len(events[0]) == 102
    else:
        assert slow.body == fast.content
        assert slow.body.count(b"account_renamed") == 100
    # A worker in the background may use a connection at this moment.
    await until(lambda: api.services.database.connections_in_use == 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("how", ["goes", "stalls"])
async def test_a_disconnected_or_stalled_client_ends_the_export(
    pages_of_ten: Prepared, path: bytes, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, api, headers = pages_of_ten
    if how == "stalls":
        monkeypatch.setattr("authapi.web.answers.event_files._SEND_TIMEOUT", 0.05)
    searches = count_searches(monkeypatch)
    slow = Download(app, path, headers)
    slow.take(3)
    with anyio.fail_after(20):
        while len(slow.messages) < 3 or not slow.offered.is_set():  # in ASGI
            if slow.task.done():
                break
            await asyncio.sleep(0.001)
        if how == "goes":
            slow.gone.set()
        await slow.task
    assert not slow.is_complete
    assert len(searches) <= 4, "nothing more is read for this client"
    # A worker in the background may use a connection at this moment.
    await until(lambda: api.services.database.connections_in_use == 0)
    assert (await api.get(path.decode(), headers=headers)).status_code == 200


def count_searches(monkeypatch: pytest.MonkeyPatch, fails_at: int | None = None) -> list[int]:
    """Record the limit of each search for events. The search number `fails_at` fails."""
    made, search = list[int](), EventTable.search

    async def counted(self: EventTable, wanted: EventFilter, **kwargs: Any) -> Any:
        made.append(kwargs["limit"])
        if len(made) == fails_at:
            raise StorageUnavailable
        return await search(self, wanted, **kwargs)

    monkeypatch.setattr(EventTable, "search", counted)
    return made


@pytest.mark.parametrize("path", PATHS)
async def test_an_error_while_streaming_leaves_the_file_incomplete(
    pages_of_ten: Prepared,
    path: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app, api, headers = pages_of_ten
    with monkeypatch.context() as patch:
        count_searches(patch, fails_at=4)
        cut = Download(app, path, headers)
        cut.take(1000)
        with anyio.fail_after(20), pytest.raises(RuntimeError, match="already started"):
            await cut.task
    assert cut.messages[0]["status"] == 200
    assert not cut.is_complete
    assert cut.body.count(b"account_renamed") == 30
    assert [record.message for record in caplog.records].count("export ended early") == 1
    assert (await api.get(path.decode(), headers=headers)).status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_an_unavailable_database_is_a_503(
    pages_of_ten: Prepared, path: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, api, headers = pages_of_ten
    count_searches(monkeypatch, fails_at=1)
    answer = await api.get(path.decode(), headers=headers)
    problem(answer, 503, "database_unavailable")


async def _end_session(api: Client, headers: Headers) -> None:
    assert (await api.post("/logout", headers=headers)).status_code == 204


async def _delete_account(api: Client, headers: Headers) -> None:
    await api.create_user(
        "other@example.com", is_superuser=True
    )  # the last superuser cannot be deleted
    assert (await api.delete("/me", headers=headers)).status_code == 204


async def _deactivate(api: Client, headers: Headers) -> None:
    other = await api.create_user("other@example.com", is_superuser=True)
    me = (await api.get("/me", headers=headers)).json()["id"]
    answer = await api.patch(
        f"/admin/users/{me}",
        json={"is_active": False},
        headers=await sign_in(api.services, other),
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("end", [_end_session, _delete_account, _deactivate])
async def test_an_export_ends_with_its_session_or_account(
    pages_of_ten: Prepared, path: bytes, end: Callable[[Client, Headers], Awaitable[None]]
) -> None:
    app, api, headers = pages_of_ten
    cut = Download(app, path, headers)
    cut.take(3)
    with anyio.fail_after(20):
        while len(cut.messages) < 3 or not cut.offered.is_set():  # noqa: ASYNC110  # in ASGI
            await asyncio.sleep(0.001)
        await end(api, headers)
        cut.take(1000)
        await cut.task
    assert not cut.is_complete
    assert cut.body.count(b"account_renamed") <= 40, "the parts that were read before"


async def test_concurrent_exports_of_an_account_are_limited(pages_of_ten: Prepared) -> None:
    app, api, headers = pages_of_ten
    under_way = [Download(app, path, headers) for path in PATHS]
    with anyio.fail_after(20):
        for each in under_way:
            each.take(2)
            while len(each.messages) < 2 or not each.offered.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for path in PATHS:
            refused = await api.get(path.decode(), headers=headers)
            problem(refused, 429, "too_many_requests")
            assert refused.headers["retry-after"] == "10"
        other = await api.create_user("other@example.com", is_superuser=True)
        theirs = await sign_in(api.services, other)
        assert (await api.get("/me/export", headers=theirs)).status_code == 200
        for each in under_way:
            each.take(1000)
            await each.task
    assert all(each.is_complete for each in under_way)
    assert (await api.get("/me/export", headers=headers)).status_code == 200


async def test_exports_query_one_page_at_a_time(
    pages_of_ten: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, api, headers = pages_of_ten
    callers = [headers]
    for name in ("second", "third"):
        user = await api.create_user(f"{name}@example.com", is_superuser=True)
        callers.append(await sign_in(api.services, user))
    at_once, most, search = 0, 0, EventTable.search

    async def counted(self: EventTable, wanted: EventFilter, **kwargs: Any) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            return await search(self, wanted, **kwargs)
        finally:
            at_once -= 1

    monkeypatch.setattr(EventTable, "search", counted)
    answers = await asyncio.gather(
        *(api.get(path.decode(), headers=caller) for path in PATHS for caller in callers)
    )
    assert {answer.status_code for answer in answers} == {200}
    assert most == 1


async def test_exports_without_events_and_with_a_full_page(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.web.routes.export._PAGE", 2)
    user = await api.create_user()
    headers = await sign_in(api.services, user)
    for kwargs in (0, 1, 1, 1):
        await fill(api, user, kwargs)
        found = (await api.get("/me/export", headers=headers)).json()
        listed = (await api.get("/me/events", headers=headers)).json()["items"]
        assert found["events"] == listed
    sql(api.services.settings.resolved_database_url, "DELETE FROM authapi_events")
    assert (await api.get("/me/export", headers=headers)).json()["events"] == []
