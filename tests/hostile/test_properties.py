"""Property tests: no input causes a server error, and only valid input is accepted.

All values are drawn before the test runs, because drawing can end an example with an exception,
which would also end the event loop. So operations and members are drawn as numbers.
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authapi.domain.email_address import parse_email
from authapi.domain.user import User
from authapi.errors import NotFound
from tests.hostile.checked_app import JSON, CheckedApp
from tests.hostile.nasty_json import CANARY
from tests.web.operations import Operation

pytestmark = pytest.mark.slow

# Deterministic examples, so that a build fails only because of its own changes.
fixed = settings(
    max_examples=200,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=40)
    | st.sampled_from([CANARY, "alice@example.com", "session", "x" * 300, "\x00", "\ud800"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value, and some values outside JSON: NaN and unpaired surrogates."""
names = st.sampled_from(
    [
        "name",
        "email",
        "password",
        "scopes",
        "expires_in",
        "id",
        "is_superuser",
        CANARY,
        "\ud800",
        "",
    ]
)
header_names = st.sampled_from(
    [
        *(b"authorization", b"cookie", b"content-type", b"content-length", b"transfer-encoding"),
        *(b"host", b"origin", b"if-match", b"if-none-match", b"user-agent", b"accept"),
        *(b"x-forwarded-for", b"x-request-id", b"range", b"te", b"connection", b"\xff", b""),
    ]
)
header_values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"Bearer ", b"Basic ", b"authapi=", b"aat_", b"application/json", b"0", b'"']),
    st.builds(
        bytes.__add__,
        st.sampled_from(
            [b"Bearer ", b"Bearer aat_", b"Basic ", b"authapi=", b'W/"', b"application/"]
        ),
        st.binary(max_size=60),
    ),
)
raw_headers = st.lists(st.tuples(header_names, header_values), max_size=5)


numbers = st.integers(0, 999)
edits = st.lists(st.tuples(numbers, st.booleans(), names, values), min_size=1, max_size=3)
"""The number of a member; whether it is removed; otherwise its new name, if new, and its value."""
splices = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4
)
"""The position, the number of removed bytes, and the inserted bytes."""


def grants(operation: Operation, body: object) -> bool:
    """Whether `body` has all required members of this operation, and no unknown member."""
    schema: Mapping[str, Any] = next(iter(operation.body.values()), {})
    if not isinstance(body, dict):
        return not schema
    known = schema.get("properties", {}).keys()
    closed = schema.get("additionalProperties") is False
    return set(schema.get("required", ())) <= body.keys() and (not closed or body.keys() <= known)


@fixed
@given(number=numbers, body=values)
async def test_any_json_body_is_handled(app: CheckedApp, number: int, body: object) -> None:
    operation = app.json_readers[number % len(app.json_readers)]
    text = json.dumps(body).encode()
    headers = [*JSON, *await app.headers(operation, await shared_user(app))]
    response = await app.ask(operation.method, operation.path, headers=headers, body=text)
    assert response.status_code in operation.statuses
    assert response.status_code >= 400 or grants(operation, body)
    anonymous = await app.ask(operation.method, operation.path, headers=JSON, body=text)
    assert anonymous.status_code >= 400 or operation.is_open


@fixed
@given(number=numbers, edits=edits)
async def test_a_body_with_changed_members_is_handled(
    app: CheckedApp, number: int, edits: list[tuple[int, bool, str, object]]
) -> None:
    operation = app.json_readers[number % len(app.json_readers)]
    body = dict(operation.example)
    known = list(body)
    for which, goes, name, value in edits:
        member = [*known, name][which % (len(known) + 1)]
        if goes:
            body.pop(member, None)
        else:
            body[member] = value
    headers = [*JSON, *await app.headers(operation, await shared_user(app))]
    text = json.dumps(body).encode()
    response = await app.ask(operation.method, operation.path, headers=headers, body=text)
    assert response.status_code in operation.statuses
    assert response.status_code >= 400 or grants(operation, body)


@fixed
@given(number=numbers, splices=splices)
async def test_a_body_with_changed_bytes_is_handled(
    app: CheckedApp, number: int, splices: list[tuple[float, int, bytes]]
) -> None:
    operation = app.readers[number % len(app.readers)]
    text = bytearray(json.dumps(operation.example).encode())
    if not operation.reads_json:
        text = bytearray(urlencode(operation.example).encode())
    for where, goes, comes in splices:
        at = int(where * len(text))
        text[at : at + goes] = comes
    content_type = str(operation.content_type).encode()
    known = await app.headers(operation, await shared_user(app))
    headers = [(b"content-type", content_type), *known]
    response = await app.ask(operation.method, operation.path, headers=headers, body=bytes(text))
    assert response.status_code in operation.statuses


@fixed
@given(number=numbers, body=st.binary(max_size=200), headers=raw_headers)
async def test_any_bytes_without_a_credential_are_handled(
    app: CheckedApp, number: int, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    operation = app.operations[number % len(app.operations)]
    response = await app.ask(operation.method, operation.path, headers=headers, body=body)
    assert response.status_code in operation.statuses
    if not operation.is_open:
        assert response.status_code >= 400


@fixed
@given(
    method=st.sampled_from(
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "\xff", ""]
    ),
    path=st.binary(max_size=30)
    | st.builds(
        bytes.__add__,
        st.sampled_from([b"/me/", b"/me/sessions/", b"/docs/", b"/.well-known/", b"/health/"]),
        st.binary(max_size=20),
    ),
    query=st.binary(max_size=30),
    headers=raw_headers,
)
async def test_any_path_without_a_credential_is_handled(
    app: CheckedApp, method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    response = await app.ask(method, path, query=query, headers=headers)
    assert "location" not in response.headers
    assert response.status_code >= 400 or method in ("GET", "HEAD")


async def shared_user(app: CheckedApp) -> User:
    """The account of this test, which all its examples share."""
    address = parse_email("user@example.com")
    try:
        return await app.api.services.accounts.profiles.find_by_email(address)
    except NotFound:
        return await app.api.create_user(address.original)
