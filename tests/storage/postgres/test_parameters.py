"""The start-up parameter `options`, as PostgreSQL reads it and as we write it."""

from collections.abc import Sequence

import psycopg
import pytest
import sqlalchemy as sa

from authapi.storage.postgres.parameters import (
    as_options,
    for_command,
    for_service,
    named,
    options_of,
)
from tests.servers.postgres import PostgresServer


@pytest.fixture
def url(postgres: PostgresServer) -> sa.URL:
    return sa.make_url(postgres.admin_url)


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "with space",
        "a\\b",
        "a\\ b",
        "it's",
        'say "x"',
        "-c x=y",
        "tab\tend",
        "no\u00a0break",
        "김",
    ],
)
def test_any_value_is_written_so_that_the_server_reads_it(
    postgres: PostgresServer, value: str
) -> None:
    options = as_options({"authapi.first": "1", "authapi.value": value, "authapi.last": "2"})
    with psycopg.connect(postgres.admin_url, options=options, client_encoding="utf8") as it:
        names = ("authapi.first", "authapi.value", "authapi.last")
        found = [it.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    assert found == [("1",), (value,), ("2",)]
    assert dict(named(options))["authapi.value"] == value


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", []),
        ("-c a=b", [("a", "b")]),
        ("-ca=b", [("a", "b")]),
        ("--a=b", [("a", "b")]),
        ("  -c   a=b\n--c=d ", [("a", "b"), ("c", "d")]),
        ("--Work-Mem=8MB", [("work_mem", "8MB")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c a=", [("a", "")]),
        ("-c a=x\\ y", [("a", "x y")]),
        ("-c a=x\\\\y", [("a", "x\\y")]),
        ("-c a=x\\", [("a", "x")]),
        ("-d 5 -e -c a=b", [("a", "b")]),
        ("-c", []),
        ("-c nonsense -c a=b", [("a", "b")]),
    ],
)
def test_names_and_values_are_found(options: str, expected: Sequence[tuple[str, str]]) -> None:
    assert named(options) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ""),
        (("-c a=b",), "-c a=b"),
        (("-c a=b", "-c c=d"), "-c a=b -c c=d"),
        (("-c a=b\\", "-c c=d"), "-c a=b -c c=d"),
        (("-c a=b\\\\", "-c c=d"), "-c a=b\\\\ -c c=d"),
        (("", "-c c=d"), "-c c=d"),
    ],
)
def test_options_may_be_there_several_times(
    url: sa.URL, given: Sequence[str], expected: str
) -> None:
    assert options_of(url.update_query_dict({"options": given}) if given else url) == expected


def test_options_of_the_environment_count_where_the_url_has_none(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c a=b")
    assert options_of(url) == "-c a=b"
    assert options_of(url.update_query_dict({"options": "-c c=d"})) == "-c c=d"


def test_ours_come_last(url: sa.URL) -> None:
    url = url.update_query_dict({"options": "-c timezone=CET -c work_mem=8MB"})
    for parameters in (for_service(url, timeout=5, longest=20), for_command(url)):
        found = dict(named(parameters.options))
        assert (found["timezone"], found["work_mem"]) == ("UTC", "8MB")
        assert found["default_transaction_isolation"] == "read committed"
    assert for_command(url).arguments(with_ours=False)["options"] == url.query["options"]


def test_what_an_older_server_does_not_know_is_not_set(url: sa.URL) -> None:
    parameters = for_command(url)
    assert "transaction_timeout" in parameters.statement(170000)
    assert "transaction_timeout" not in parameters.statement(160009)
    assert "transaction_timeout" not in parameters.options
