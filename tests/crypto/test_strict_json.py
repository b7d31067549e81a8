"""Strict JSON: unambiguous documents are parsed like Python does, others are rejected."""

import json
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authapi.crypto import strict_json

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
# Characters in strings and names that could mislead a parser that counts brackets.
TRICKY = st.text(st.sampled_from('[]{}"\\/:,é \n'), max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | TRICKY
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | TRICKY, inner, max_size=4),
    max_leaves=20,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def refused(data: bytes, **options: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its text is not specified
        strict_json.loads(data, **options)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_json_round_trip(value: object, ensure_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    assert strict_json.loads(text.encode(), max_depth=100) == value


@settings(max_examples=200, derandomize=True, deadline=None)
@given(VALUES.filter(lambda value: depth_of(value) > 0))
def test_depth_is_counted_exactly_outside_of_strings(value: object) -> None:
    data = json.dumps(value, ensure_ascii=False).encode()
    assert strict_json.loads(data, max_depth=depth_of(value)) == value
    refused(data, max_depth=depth_of(value) - 1)


@settings(max_examples=1000, derandomize=True, deadline=None)
@given(
    st.binary(max_size=40)
    | TRICKY.map(str.encode)
    | st.text('[]{}:,"\\0123456789eE+-.truefalsn\u00e9 ', max_size=40).map(str.encode)
)
def test_arbitrary_bytes_are_parsed_like_json_or_raise_value_error(data: bytes) -> None:
    try:
        value = strict_json.loads(data)
    except ValueError:
        return
    assert value == json.loads(data.decode())


@settings(max_examples=400, derandomize=True, deadline=None)
@given(VALUES, st.data())
def test_damaged_document_is_parsed_like_json_or_rejected(
    value: object, data: st.DataObject
) -> None:
    text = bytearray(json.dumps(value).encode())
    position = data.draw(st.integers(0, len(text) - 1))
    text[position] = data.draw(st.integers(0, 255))
    try:
        read = strict_json.loads(bytes(text))
    except ValueError:
        return
    assert read == json.loads(text.decode())


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"0", 0),
        (b"-0.0", -0.0),
        (b"1e3", 1000.0),
        (b' {"a" : [ ] }\r\n\t', {"a": []}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"\U0001f600\u2028"'.encode(), "\U0001f600\u2028"),
        (b'"\\\\u0000"', "\\u0000"),
        (b'{"a": {"a": {"a": 1}}, "A": 2}', {"a": {"a": {"a": 1}}, "A": 2}),
        (b"9" * 4000, int("9" * 4000)),
    ],
    ids=range(9),
)
def test_unusual_valid_documents_are_accepted(data: bytes, value: object) -> None:
    assert strict_json.loads(data) == value


@pytest.mark.parametrize(
    "data",
    [
        # Duplicate names: two parsers, two meanings.
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 1}',
        b'[{"x": {"b": 1, "c": 2, "b": 3}}]',
        # Numbers that are not finite.
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"[1e400]",
        b'{"a": -1e400}',
        b"9" * 5000,
        b"-" + b"9" * 5000,
        # Lone surrogates, and a NUL, at which C strings end.
        b'"\\ud800"',
        b'"\\udfff"',
        b'"\\ude00\\ud83d"',
        b'["\\uD83D", "\\uDE00"]',
        b'{"\\ud800": 1}',
        b'{"a": {"b": ["\\udc00"]}}',
        b'"\\u0000"',
        b'{"\\u0000": 1}',
        b'"\0"',
        b'"\x01"',
        b'"\n"',
        # Other encodings, and no encoding.
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\0}\0",
        '{"a": 1}'.encode("utf-16-be"),
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b'"\xff"',
        b'"\xc0\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xc3"',
        # Not JSON.
        b"",
        b" ",
        b"{",
        b"[1,]",
        b"{'a': 1}",
        b'{"a": 1} x',
        b"[] []",
        b"01",
        b"1_000",
        b"+1",
        b".5",
        b'"\\x"',
        b'"',
        b'"\\',
        b"// a",
        "\u0661".encode(),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_invalid_documents_are_rejected(data: bytes) -> None:
    refused(data)


@pytest.mark.parametrize("count", [21, 5_000, 100_000])
@pytest.mark.parametrize("text", ["[", '{"a":', "[{}", '{"a":[', "[[]", '["]]]]]",'])
def test_deep_nesting_is_rejected(text: str, count: int) -> None:
    refused(text.encode() * count)


def test_closed_deep_nesting_is_rejected() -> None:
    refused(b"[" * 5_000 + b"]" * 5_000)
    refused(b"]" * 5_000 + b"[" * 5_000)


def test_many_sibling_brackets_are_accepted() -> None:
    assert strict_json.loads(b"[" + b"[],{}," * 10_000 + b"0]", max_depth=2) == [
        [],
        {},
    ] * 10_000 + [0]


def test_brackets_in_strings_do_not_count() -> None:
    value = {"[[[{{{": ['\\"[[', '"', "\\", "[" * 100_000, "\\\\" + "{" * 30]}
    assert strict_json.loads(json.dumps(value).encode(), max_depth=2) == value


@pytest.mark.parametrize(
    "end",
    [
        b'"' + b'\\"' * 40_000,
        b'"' + b"\\" * 80_000,
        b'"' * 80_001,
        b'["a' * 20_000,
        b'"\\\n' * 20_000,
    ],
    ids=range(5),
)
def test_parsing_takes_linear_time(end: bytes) -> None:
    # With backtracking, unterminated strings took 20 seconds: every quote started another search.
    started = time.thread_time()
    refused(b"[" * 21 + end)
    assert time.thread_time() - started < 1


def test_maximum_depth_is_accepted() -> None:
    assert depth_of(strict_json.loads(b"[" * 20 + b"]" * 20)) == 20
    assert depth_of(strict_json.loads(b"[" * 200 + b"]" * 200, max_depth=200)) == 200


def test_numbers_keep_their_type() -> None:
    numbers = strict_json.loads(b"[1, 1.0, 1e0]")
    assert isinstance(numbers, list)
    assert [type(number) for number in numbers] == [int, float, float]
    assert all(math.isfinite(number) for number in numbers)
