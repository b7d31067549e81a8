"""Files of events: exports as JSON lines and CSV, and bodies of webhooks."""

import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from authapi.crypto.ids import id_at
from authapi.domain.client import Client
from authapi.domain.events import Event, EventType
from authapi.errors import ConfigurationError
from authapi.services.restores import RecordedEvent, merge_events, read_events
from authapi.services.webhooks import TEST, _body, _data
from authapi.web.answers.event_files import EVENT_FILE_FORMATS

AT = datetime(2026, 11, 30, 8, tzinfo=UTC)
USER = UUID("01939e5e-0000-7000-8000-000000000001")
SESSION = UUID("01939e5e-0000-7000-8000-000000000002")


def an_event(minutes: int, kind: EventType = EventType.LOGOUT) -> Event:
    at = AT + timedelta(minutes=minutes)
    agent = '=HYPERLINK("x"),\r\n"quoted"'
    client = Client(ip="192.0.2.1", user_agent=agent, request_id="r")
    return Event(id_at(at), at, kind, USER, SESSION, "session", client, {"deep": {"a": [1]}})


def recorded(event: Event) -> RecordedEvent:
    return RecordedEvent(event.id, event.at, event.type, event.user_id, event.session_id)


EVENTS = [an_event(1), an_event(2, EventType.ACCOUNT_DELETED), an_event(3, EventType.LOGIN)]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_an_export_is_read(tmp_path: Path, form: str) -> None:
    path, chosen = tmp_path / "events", EVENT_FILE_FORMATS[form]
    newest_first = EVENTS[::-1]
    path.write_text(chosen.head + chosen.write(newest_first), encoding="utf-8", newline="")
    assert read_events(path, since=AT) == ([recorded(event) for event in EVENTS], [])
    later = AT + timedelta(minutes=2)
    assert read_events(path, since=later) == ([recorded(event) for event in EVENTS[1:]], [])


def test_a_journal_of_webhooks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    bodies = [_body(event.type.value, event.at, _data(event)) for event in EVENTS]
    bodies.append(_body(TEST, AT, {"event_id": str(USER)}))
    path.write_text("\n".join([*bodies, "", bodies[0]]))
    assert read_events(path, since=AT) == ([recorded(event) for event in EVENTS], [])


@pytest.mark.parametrize("form", ["jsonl", "csv", "webhook"])
def test_an_unlinked_identity_is_named(tmp_path: Path, form: str) -> None:
    path = tmp_path / "events"
    named = an_event(1, EventType.IDENTITY_UNLINKED)
    named = replace(named, detail={"provider": "acme", "identity_id": str(SESSION)})
    unnamed = replace(an_event(2, EventType.IDENTITY_UNLINKED), detail={"identity_id": "1"})
    if form == "webhook":
        bodies = [_body(it.type.value, it.at, _data(it)) for it in (named, unnamed)]
        path.write_text("\n".join(bodies))
    else:
        chosen = EVENT_FILE_FORMATS[form]
        text = chosen.head + chosen.write([named, unnamed])
        path.write_text(text, encoding="utf-8", newline="")
    found, bad = read_events(path, since=AT)
    # The body of a webhook has no detail.
    expected = None if form == "webhook" else SESSION
    assert [event.identity_id for event in found] == [expected, None]
    assert bad == []


GOOD = json.loads(EVENT_FILE_FORMATS["jsonl"].write(EVENTS[:1]))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("7", "not a JSON object"),
        ('"text"', "text"),
        (json.dumps(GOOD | {"id": "1"}), "id: not an id"),
        (json.dumps(GOOD | {"id": None}), "id: not an id"),
        (json.dumps(GOOD | {"at": "yesterday"}), "at: not a time"),
        (json.dumps(GOOD | {"at": 7}), "at: not a time"),
        (json.dumps(GOOD | {"type": "renamed"}), "type: not an event type of this release"),
        (json.dumps(GOOD | {"type": ["logout"]}), "type: not an event type of this release"),
        (json.dumps(GOOD | {"user_id": "alice"}), "user_id: not an id"),
        (json.dumps(GOOD | {"session_id": 3}), "session_id: not an id"),
        (json.dumps(GOOD)[:-20], "not JSON"),
    ],
)
def test_a_bad_line_has_its_number_and_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "events"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    events, [bad] = read_events(path, since=AT)
    assert len(events) == 1
    assert (bad.number, bad.reason) == (3, reason)


def test_a_bad_row_has_its_number(tmp_path: Path) -> None:
    path, chosen = tmp_path / "events.csv", EVENT_FILE_FORMATS["csv"]
    rows = chosen.write(EVENTS[:1])
    path.write_text(chosen.head + rows + '"x","y"\r\n' + rows.replace(str(USER), "alice"))
    events, bad = read_events(path, since=AT)
    assert len(events) == 1
    assert [line.reason for line in bad] == ["a row of another length", "user_id: not an id"]
    assert bad[0].number < bad[1].number


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"id,at\r\n", "no column session_id"),
        (b"id,at,type,user_id,session_id\r\n\xff,1,2,3,4\r\n", "not a CSV file in UTF-8"),
        (b'id,at,type,user_id,session_id\r\n"1', "cut off"),
    ],
)
def test_another_csv_file_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "events.csv"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=words):
        read_events(path, since=AT)


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_events(tmp_path / "none", since=AT)


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("is_slow", [False, True])
def test_a_pipe_is_read_whole(tmp_path: Path, form: str, is_slow: bool) -> None:
    path, chosen = tmp_path / "pipe", EVENT_FILE_FORMATS[form]
    os.mkfifo(path)
    data = (chosen.head + chosen.write(EVENTS)).encode()

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for part in [data[:1], data[1:]] if is_slow else [data]:
                file.write(part)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    assert read_events(path, since=AT) == ([recorded(event) for event in EVENTS], [])
    writer.join(10)


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/"])
def test_a_device_or_a_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot read {name}: neither a file nor a pipe"):
        read_events(Path(name), since=AT)


def test_a_line_without_end_is_a_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    good = json.dumps(GOOD)
    lines = [good, " " * 5_000_000 + good, "x" * 2**21, good, " " * 2**21]
    path.write_text("\n".join(lines))
    events, bad = read_events(path, since=AT)
    assert len(events) == 1
    expected = [(number, "longer than 1 MiB") for number in (2, 3, 5)]
    assert [(line.number, line.reason) for line in bad] == expected


def test_a_row_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(EVENT_FILE_FORMATS["csv"].head + "x" * 2**21)
    with pytest.raises(ConfigurationError, match="longer than 1 MiB"):
        read_events(path, since=AT)


def test_events_of_several_files_are_merged() -> None:
    first, second, third = map(recorded, EVENTS)
    assert merge_events([second, third], [first, second]) == [first, second, third]
