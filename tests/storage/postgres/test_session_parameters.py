"""The start-up parameter `options`: parsing and formatting."""

from collections.abc import Sequence

import psycopg
import pytest
import sqlalchemy as sa

from authapi.storage.postgres.session_parameters import (
    command_parameters,
    format_options,
    parse_options,
    service_parameters,
    startup_options,
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
def test_formatted_options_are_read_by_the_server(postgres: PostgresServer, value: str) -> None:
    options = format_options({"authapi.first": "1", "authapi.value": value, "authapi.last": "2"})
    with psycopg.connect(postgres.admin_url, options=options, client_encoding="utf8") as it:
        names = ("authapi.first", "authapi.value", "authapi.last")
        found = [it.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    assert found == [("1",), (value,), ("2",)]
    assert dict(parse_options(options))["authapi.value"] == value


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
def test_parse_options_returns_names_and_values(
    options: str, expected: Sequence[tuple[str, str]]
) -> None:
    assert parse_options(options) == expected


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
def test_repeated_options_are_joined(url: sa.URL, given: Sequence[str], expected: str) -> None:
    assert startup_options(url.update_query_dict({"options": given}) if given else url) == expected


def test_environment_options_apply_if_the_url_has_none(
    url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c a=b")
    assert startup_options(url) == "-c a=b"
    assert startup_options(url.update_query_dict({"options": "-c c=d"})) == "-c c=d"


def test_own_parameters_come_last(url: sa.URL) -> None:
    url = url.update_query_dict({"options": "-c timezone=CET -c work_mem=8MB"})
    for parameters in (service_parameters(url, timeout=5, max_idle=20), command_parameters(url)):
        found = dict(parse_options(parameters.options))
        assert (found["timezone"], found["work_mem"]) == ("UTC", "8MB")
        assert found["default_transaction_isolation"] == "read committed"
    assert command_parameters(url).arguments(with_own=False)["options"] == url.query["options"]


def test_parameter_of_a_newer_server_is_not_set_on_an_older_one(url: sa.URL) -> None:
    parameters = command_parameters(url)
    assert "transaction_timeout" in parameters.statement(170000)
    assert "transaction_timeout" not in parameters.statement(160009)
    assert "transaction_timeout" not in parameters.options
