"""/admin/events: filters, pages and files."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.crypto.ids import first_id_at, new_id
from authapi.domain.client import Client as Place
from authapi.domain.events import Event, EventFilter, EventType
from authapi.errors import StorageUnavailable
from authapi.services.audit import trail as audit_module
from authapi.storage.tables.events import EventTable
from authapi.testing import Client
from tests.storage.cancelling import until
from tests.web.logins import sign_in
from tests.web.responses import check_headers, input_errors, problem

DAY = timedelta(days=1)


@pytest.fixture
async def api(api_on_each: Client) -> Client:
    root = await api_on_each.create_user("root@example.com", is_superuser=True)
    api_on_each.headers.update(await sign_in(api_on_each.services, root))
    return api_on_each


async def write(api: Client, *events: Event) -> None:
    async with api.services.database.transaction() as store:
        for event in events:
            await store.events.add(event)


def an_event(at: datetime, **changes: Any) -> Event:
    number = new_id().int & (1 << 62) - 1
    values: dict[str, Any] = {
        "id": UUID(int=first_id_at(at).int | number),
        "at": at,
        "type": EventType.ACCOUNT_RENAMED,
        "user_id": None,
        "session_id": None,
        "strategy": None,
        "client": Place(),
        "detail": {},
    }
    return Event(**values | changes)


async def found(api: Client, **parameters: object) -> list[dict[str, Any]]:
    answer = await api.get("/admin/events", params={k: str(v) for k, v in parameters.items()})
    assert answer.status_code == 200, answer.text
    check_headers(answer)
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_filters_are_combined(api: Client) -> None:
    alice, bob = await api.create_user("alice@example.com"), await api.create_user("b@example.com")
    at = datetime(2026, 1, 10, tzinfo=UTC)
    mine = an_event(at, user_id=alice.id, client=Place(ip="192.0.2.1"))
    ended = an_event(at + DAY, user_id=alice.id, type=EventType.SESSION_ENDED, actor_id=bob.id)
    others = an_event(at + 2 * DAY, user_id=bob.id, client=Place(ip="192.0.2.1"))
    await write(api, mine, ended, others)

    async def ids(**parameters: object) -> list[str]:
        parameters = {"until": "2026-02-01T00:00:00Z", **parameters}
        return [item["id"] for item in await found(api, **parameters)]

    first, second, third = (str(event.id) for event in (mine, ended, others))
    assert await ids() == [third, second, first]
    assert await ids(user=alice.id) == [second, first]
    assert await ids(user=alice.id, ip="192.0.2.1") == [first]
    assert await ids(actor=bob.id) == await ids(type="session_ended") == [second]
    assert await ids(ip="192.0.2.1") == [third, first]
    assert await ids(ip="192.0.2.9") == await ids(user=new_id()) == []
    # `since` is inclusive, `until` exclusive; offsets are converted.
    assert await ids(since="2026-01-11T00:00:00Z") == [third, second]
    assert await ids(until="2026-01-11T00:00:00Z") == [first]
    assert await ids(since="2026-01-11T09:00:00+09:00", until="2026-01-11T00:00:00.001Z") == [
        second
    ]


async def test_ip_filter_accepts_every_notation(api: Client) -> None:
    at = datetime(2026, 1, 10, tzinfo=UTC)
    six = an_event(at, client=Place(ip="2001:db8::1"))
    four = an_event(at, client=Place(ip="192.0.2.1"))
    await write(api, six, four)
    for event, spellings in (
        (six, ("2001:db8::1", "2001:DB8::1", "2001:0DB8:0:0:0:0:0:0001", "2001:db8::1%eth0")),
        (four, ("192.0.2.1", "::ffff:192.0.2.1", "::FFFF:C000:201", "0:0:0:0:0:ffff:192.0.2.1")),
    ):
        for ip in spellings:
            items = await found(api, ip=ip)
            assert [item["id"] for item in items] == [str(event.id)], ip
            assert items[0]["ip"] == event.client.ip
            answer = await api.get("/admin/events/export", params={"ip": ip})
            assert [json.loads(line)["id"] for line in answer.text.splitlines()] == [str(event.id)]


async def test_pages_contain_each_event_once(api: Client) -> None:
    at = datetime(2026, 1, 10, tzinfo=UTC)
    made = [an_event(at + timedelta(seconds=number // 2)) for number in range(25)]
    await write(api, *made)
    seen, before = list[str](), dict[str, str]()
    while True:
        parameters = {"until": "2026-02-01T00:00:00Z", "limit": "4", **before}
        page = (await api.get("/admin/events", params=parameters)).json()
        seen += [item["id"] for item in page["items"]]
        await write(api, an_event(at + DAY))  # newer than the next page
        if page["next"] is None:
            break
        before = {"before": page["next"]}
    assert seen == sorted((str(event.id) for event in made), reverse=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("user", "x"), ("actor", "1"), ("type", "nope"), ("ip", "a'--"), ("before", "x")),
        *(("since", "yesterday"), ("since", "0"), ("since", "2026-02-31T00:00:00Z")),
        *(("since", "2026-01-01 00:00:00Z"), ("since", "2026-01-01T00:00:00 02:00")),
        *(("until", "2026-01-01T24:00:00Z"), ("until", "2026-01-01T00:00:00+0200")),
        *(("until", "2026-01-01"), ("until", "2026-01-01T00:00:00"), ("limit", "0")),
        *(("ip", ip) for ip in ("", "unknown", "192.0.2", "2001:db8::/32", "1:2", "192.0.2.1:80")),
    ],
)
async def test_invalid_parameters_are_refused(api: Client, name: str, value: str) -> None:
    for path in ("/admin/events", "/admin/events/export"):
        if name in ("before", "limit") and path.endswith("export"):
            continue
        answer = await api.get(path, params={name: value})
        assert [where for where, _ in input_errors(answer)] == [("query", name)], path


async def test_extreme_times_are_accepted(api: Client) -> None:
    assert await found(api, since="9999-12-31T23:59:59.999999Z") == []
    assert await found(api, until="0001-01-01T00:00:00+14:00") == []
    assert len(await found(api, since="0001-01-01T00:00:00-12:00")) > 0


async def test_all_rfc_3339_forms_are_accepted(api: Client) -> None:
    for text in (
        *("2026-01-01T00:00:00z", "2026-01-01t00:00:00Z", "2026-01-01t00:00:00-00:00"),
        *("2026-01-01T00:00:00." + "9" * 60 + "Z", "2016-12-31T23:59:60Z"),
    ):
        for path in ("/admin/events", "/admin/events/export"):
            for name in ("since", "until"):
                assert (await api.get(path, params={name: text})).status_code == 200, text


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=HYPERLINK("https://x")']


async def test_csv_cells_are_not_formulas(api: Client) -> None:
    agents = [*FORMULAS, 'a "quoted", one', "plain"]
    events = [
        an_event(now() - timedelta(minutes=number + 1), client=Place(user_agent=agent))
        for number, agent in enumerate(agents)
    ]
    await write(api, *events)
    answer = await api.get("/admin/events/export", params={"format": "csv"})
    check_headers(answer)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="events.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    exported = {row["id"]: row for row in rows}
    for event, agent in zip(events, agents, strict=True):
        expected = f"'{agent}" if agent in FORMULAS else agent
        assert exported[str(event.id)]["user_agent"] == expected
    for row in rows:
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row.values())
    # JSON lines contain the unchanged values.
    answer = await api.get("/admin/events/export")
    assert answer.headers["content-type"] == "application/jsonl"
    lines = {row["id"]: row for row in map(json.loads, answer.text.splitlines())}
    assert [lines[str(event.id)]["user_agent"] for event in events] == agents
    assert lines.keys() == exported.keys()


async def test_files_and_pages_contain_the_same_events(api: Client) -> None:
    alice = await api.create_user("alice@example.com")
    await write(api, *(an_event(now(), user_id=alice.id) for _ in range(3)))
    answer = await api.get("/admin/events/export", params={"user": str(alice.id)})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines == await found(api, user=alice.id)
    assert len(lines) == 4
    answer = await api.get("/admin/events/export", params={"user": str(new_id())})
    assert (answer.status_code, answer.text) == (200, "")
    parameters = {"user": str(new_id()), "format": "csv"}
    answer = await api.get("/admin/events/export", params=parameters)
    assert len(list(csv.reader(io.StringIO(answer.text)))) == 1  # the header row


async def test_long_files_are_read_in_pages(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "_EXPORT_PAGE_SIZE", 10)
    await write(api, *(an_event(now() - DAY) for _ in range(95)))
    limits, search = list[int](), EventTable.search

    async def counted(
        self: EventTable, wanted: EventFilter, *, before: UUID | None, limit: int
    ) -> Any:
        limits.append(limit)
        return await search(self, wanted, before=before, limit=limit)

    monkeypatch.setattr(EventTable, "search", counted)
    answer = await api.get("/admin/events/export")
    ids = [json.loads(line)["id"] for line in answer.text.splitlines()]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) >= 95
    assert set(limits) == {10}
    assert len(limits) == -(-len(ids) // 10) + 1  # the last query is empty
    # No connection is held between two pages or after the last.
    # A worker in the background may use a connection at this moment.
    await until(lambda: api.services.database.connections_in_use == 0)


async def test_an_unavailable_database_is_a_503(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(EventTable, "search", away)
    problem(await api.get("/admin/events/export"), 503, "database_unavailable")


async def test_events_without_an_account_are_listed(api: Client) -> None:
    body = {"email": "unknown@example.com", "password": "x"}
    assert (await api.post("/login", json=body, headers={"cookie": ""})).status_code == 401
    newest = (await found(api, type="login_refused"))[0]
    assert (newest["user_id"], newest["actor_id"]) == (None, None)
