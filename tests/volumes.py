"""Large databases, which the database itself fills from a series of numbers, within seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi.routing import iter_route_contexts

from authapi import Settings, create_app
from authapi.clock import now
from tests.storage.rows import sql

ACCOUNTS = 100_000
EVENTS = 1_000_000
CONSOLE_QUERIES: Mapping[str, Sequence[str]] = {
    "/console/people": ("", "?email=user5", "?active=false", "?superuser=true&sort=email"),
    "/console/events": ("", "?type=login_refused", "?ip=203.0.113.7", "?since=2020-01-01"),
}
"""Filters of pages that search."""
_DAYS = 90
"""How far back the events go, evenly."""
_DAY = 24 * 60 * 60 * 1000
"""In milliseconds, as all times here."""


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Expressions over `i`, the number of a row, and times in milliseconds."""

    series: str
    """Rows with the numbers `i` from 0 to below `{count}`."""
    id: str
    """A UUIDv7 of the time `{ms}` with the number `{i}`."""
    time: str
    null_json: str
    bytes: str
    """A digest of 32 bytes that is unique by `i`."""
    percent: str
    """A per cent sign, for the driver."""


_SQLITE = _Dialect(
    series="WITH RECURSIVE numbers (i) AS"
    " (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {count})"
    " SELECT {columns} FROM numbers",
    id="printf('%012x70008000%012x', {ms}, {i})",
    time="strftime('%Y-%m-%d %H:%M:%f000', ({ms}) / 1000.0, 'unixepoch')",
    null_json="'{}'",
    bytes="CAST(printf('%032d', i) AS BLOB)",
    percent="%",
)
_POSTGRES = _Dialect(
    series="SELECT {columns} FROM generate_series(0::bigint, {count} - 1) AS numbers (i)",
    id="(lpad(to_hex(({ms})::bigint), 12, '0') || '70008000'"
    " || lpad(to_hex(({i})::bigint), 12, '0'))::uuid",
    time="to_timestamp(({ms}) / 1000.0)",
    null_json="'{}'::json",
    bytes="convert_to(lpad(i::text, 32, '0'), 'UTF8')",
    percent="%%",
)


def fill(url: str, *, accounts: int = ACCOUNTS, events: int = EVENTS) -> None:
    """Adds accounts with a login each, events of the last 90 days, and mail that was given up."""
    it = _SQLITE if url.startswith("sqlite") else _POSTGRES
    end = int(now().timestamp() * 1000)

    def insert(table: str, count: int, **columns: str) -> None:
        rows = it.series.format(count=count, columns=", ".join(columns.values()))
        statement = f"INSERT INTO authapi_{table} ({', '.join(columns)}) {rows}"
        sql(url, statement.replace("%", it.percent))

    def owner(number: str) -> str:
        return it.id.format(ms=f"{begin} + ({number}) * {step}", i=number)

    begin, step = end - 730 * _DAY, 730 * _DAY // accounts
    made = it.time.format(ms=f"{begin} + i * {step}")
    insert(
        "users",
        accounts,
        id=owner("i"),
        email="'user' || i || '@example.com'",
        email_given="'User' || i || '@example.com'",
        name="'User ' || i",
        is_active="i % 50 <> 0",
        is_superuser="i % 10000 = 0",
        email_confirmed_at=f"CASE WHEN i % 4 <> 0 THEN {made} END",
        created_at=made,
        updated_at=made,
        mfa_since=f"CASE WHEN i % 20 = 1 THEN {made} END",
    )
    later = it.time.format(ms=str(end + 7 * _DAY))
    insert(
        "sessions",
        accounts,
        id=it.id.format(ms=f"{end - 7 * _DAY} + i", i="i"),
        user_id=owner("i"),
        kind="CASE WHEN i % 3 = 0 THEN 'session' WHEN i % 3 = 1 THEN 'token' ELSE 'jwt' END",
        name="CASE WHEN i % 30 = 1 THEN 'script' END",
        secret_hash=it.bytes,
        scopes=it.null_json,
        created_at=it.time.format(ms=f"{end - 7 * _DAY} + i"),
        last_seen_at=it.time.format(ms=str(end - _DAY)),
        expires_at=later,
        auth_time=it.time.format(ms=f"{end - 7 * _DAY} + i"),
        amr=it.null_json,
        ip="'203.0.113.' || (i % 250)",
        user_agent="'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'",
        data=it.null_json,
    )
    first, apart = end - _DAYS * _DAY, _DAYS * _DAY // events
    kind = "CASE WHEN i % 20 < 11 THEN 'login' WHEN i % 20 < 15 THEN 'login_refused' ELSE 'logout'"
    actor = f"CASE WHEN i % 1000 = 999 THEN {owner('0')} END"
    insert(
        "events",
        events,
        id=it.id.format(ms=f"{first} + i * {apart}", i="i"),
        at=it.time.format(ms=f"{first} + i * {apart}"),
        type=f"{kind} END",
        outcome="CASE WHEN i % 20 BETWEEN 11 AND 14 THEN 'refused' ELSE 'success' END",
        user_id=owner(f"i % {accounts}"),
        strategy="'session'",
        request_id="'0123456789abcdef0123456789abcdef'",
        ip="'203.0.113.' || (i % 250)",
        user_agent="'Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0'",
        detail=it.null_json,
        network="'203.0.113.0/24'",
        actor_id=actor,
    )
    insert(
        "outbox",
        2_000,
        id=it.id.format(ms=f"{end - _DAY} + i", i="i"),
        kind="CASE WHEN i % 2 = 0 THEN 'mail' ELSE 'webhook' END",
        purpose="CASE WHEN i % 2 = 0 THEN 'confirm' ELSE 'login' END",
        payload=it.bytes,
        created_at=it.time.format(ms=f"{end - _DAY} + i"),
        due_at=later,
        expires_at=later,
        attempts="3",
        error="'550 mailbox unavailable'",
        failed_at=it.time.format(ms=str(end - _DAY // 2)),
    )
    sql(url, "ANALYZE")


def console_pages() -> Sequence[str]:
    """Returns the paths of the pages of the console, with parameters; without its files."""
    routes = iter_route_contexts(create_app(Settings.isolated()).routes)
    found = {
        str(route.path)
        for route in routes
        if str(route.path).startswith("/console/") and "GET" in (route.methods or ())
    }
    return sorted(found - {"/console/events/export"})
