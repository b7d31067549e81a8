"""Invalid bodies, for every operation that reads a body."""

import json

import pytest

from tests.hostile.checked_app import JSON, CheckedApp, raw
from tests.hostile.nasty_json import CANARY, MALFORMED, WELL_FORMED
from tests.storage.rows import stored_users
from tests.web.logins import sign_in
from tests.web.responses import problem

pytestmark = pytest.mark.slow

NO_BODY = {"nothing"}
"""An empty text is no body: the missing body is reported."""
NO_JSON = [
    None,
    b"",
    b"text/plain",
    b"text/json",
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=x",
    b"application/jsonp",
    b"application/json-patch+json",
    b"application/vnd.api+json",
    b"application/octet-stream",
    b"application/xml",
    b"application/*",
    b"*/*",
    b"json",
    b"application/json, text/plain",
    b"text/plain, application/json",
    b"application/json; charset=utf-7",
    b"application/json; charset=utf-16",
    b"application/json; charset=latin-1",
    b"application/json; charset=",
    b"application/json; charset=utf-8; charset=utf-7",
    b"application/json; charset=iso-8859-1; version=1",
    b"application/json; charset=us ascii",
    b'application/json; charset="utf-8',
    b"application/json, charset=utf-8",
    b"application/json\xff",
    b"application/json;" + CANARY.encode(),
    CANARY.encode(),
    b"x" * 8000,
]
JSON_AS_WELL = [
    b"application/json",
    b"Application/JSON",
    b" application/json ",
    b"application/json;",
    b"application/json; charset=utf-8",
    b"application/json;charset=UTF-8",
    b'application/json; charset="utf-8"',
    b"application/json ; CHARSET = Utf-8",
    b"application/json; charset=utf8",
    b'application/json; charset="UTF8"',
    b'application/json; charset="\\utf-8"',
    b"application/json; version=1",
    b"application/json; charset=utf-8; q=1",
    b'application/json; profile="a;charset=utf-7"; charset=utf-8',
    b"application/json;; charset=utf-8 ;",
]


async def test_malformed_json_is_refused(app: CheckedApp) -> None:
    user = await app.api.create_user(is_superuser=True)
    for operation in app.json_readers:
        known = await app.headers(operation, user)
        for name, text in MALFORMED.items():
            for headers in (known, ()):
                response = await app.ask(
                    operation.method, operation.path, headers=[*JSON, *headers], body=text
                )
                if name not in NO_BODY:
                    problem(response, 400, "malformed_json")
                elif not operation.is_open and not headers:
                    problem(response, 401, "unauthenticated")
                else:
                    problem(response, 422, "validation_failed")


async def test_nested_malformed_json_is_refused(app: CheckedApp) -> None:
    user = await app.api.create_user(is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        rest = json.dumps({**operation.example, "x": 1}).encode()
        for name, text in MALFORMED.items():
            if name in {"two lines", "behind the value", "closed only", "utf-16 le", "utf-16 be"}:
                continue  # inside an object, these texts have another meaning
            for body in (
                b'{"name":' + text + b"," + rest[1:],
                rest[:-1] + b',"y":[' + text + b"]}",
            ):
                if name in {"nothing", "space"} and body.endswith(b"]}"):
                    continue  # an empty array is valid
                response = await app.ask(
                    operation.method, operation.path, headers=headers, body=body
                )
                problem(response, 400, "malformed_json")


async def test_unexpected_json_changes_nothing(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        closed = operation.body["application/json"].get("additionalProperties") is False
        for name, text in WELL_FORMED.items():
            response = await app.ask(operation.method, operation.path, headers=headers, body=text)
            # `{}` is a valid change without effect; the data of a session accepts any object.
            members = json.loads(text)
            optional = not operation.body["application/json"].get("required")
            if not (isinstance(members, dict) and optional and (not closed or not members)):
                assert response.status_code == 422, (operation, name)
    [unchanged] = await stored_users(app.api.services.database)
    assert unchanged == user


async def test_unexpected_json_in_a_member_is_handled(app: CheckedApp) -> None:
    user = await app.api.create_user("alice@example.com", is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        members = list(operation.example)
        for number, (name, text) in enumerate(WELL_FORMED.items()):
            member = members[number % len(members)]
            others = {key: value for key, value in operation.example.items() if key != member}
            body = b"{" + json.dumps(member).encode() + b":" + text
            body += b"," + json.dumps(others).encode()[1:] if others else b"}"
            response = await app.ask(operation.method, operation.path, headers=headers, body=body)
            assert response.status_code in operation.statuses, (operation, name)
            if response.status_code == 400:  # the body is valid, but its token is not
                problem(response, 400, "invalid_one_time_secret")


async def test_other_content_types_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user()
    for operation in app.json_readers:
        known = await app.headers(operation, user)
        body = json.dumps({**operation.example, "name": CANARY}).encode()
        for content_type in NO_JSON:
            given = [] if content_type is None else [(b"content-type", content_type)]
            for framing in (
                (b"content-length", b"%d" % len(body)),
                (b"transfer-encoding", b"chunked"),
            ):
                for headers in ([framing, *given, *known], [framing, *given]):
                    response = await app.ask(
                        operation.method, operation.path, headers=headers, body=body
                    )
                    problem(response, 415, "unsupported_media_type")


async def test_equivalent_json_content_types_are_accepted(app: CheckedApp) -> None:
    for operation in app.json_readers:
        for content_type in JSON_AS_WELL:
            headers = [(b"content-type", content_type), (b"content-length", b"1")]
            response = await app.ask(operation.method, operation.path, headers=headers, body=b"{")
            problem(response, 400, "malformed_json")


async def test_session_data_is_returned_unchanged(app: CheckedApp) -> None:
    headers = [*JSON, *raw(await sign_in(app.api.services, await app.api.create_user()))]
    for name, text in WELL_FORMED.items():
        body = b'{"kept":' + text + b"}"
        response = await app.ask("PATCH", "/me/session", headers=headers, body=body)
        kept = json.loads(text)
        if len(json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()) > 4000:
            problem(response, 422, "validation_failed")
            continue
        assert response.status_code == 200, name
        again = await app.ask("GET", "/me/session", headers=headers)
        assert again.content == response.content
        assert again.json()["data"] == ({} if kept is None else {"kept": kept}), name


async def test_truncated_bodies_and_single_bytes_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user(is_superuser=True)
    for operation in app.json_readers:
        headers = [*JSON, *await app.headers(operation, user)]
        body = json.dumps(operation.example).encode()
        cut = [body[:end] for end in range(1, len(body))]
        for text in [*(bytes([byte]) for byte in range(256)), *cut]:
            response = await app.ask(operation.method, operation.path, headers=headers, body=text)
            expected = 422 if text.isdigit() else 400
            assert response.status_code == expected, text


async def test_chunked_bodies_are_joined(app: CheckedApp) -> None:
    body = json.dumps({"email": "ü@example.com", "password": CANARY}, ensure_ascii=False).encode()
    pieces = [bytes([byte]) for byte in body]
    response = await app.ask("POST", "/login", headers=JSON, body=[b"", *pieces, b""])
    problem(response, 422, "validation_failed")


async def test_operations_without_a_body_ignore_one(app: CheckedApp) -> None:
    user = await app.api.create_user()
    for operation in app.operations:
        if operation.content_type is None and operation.template not in ("/me", "/logout"):
            headers = await app.headers(operation, user)
            expected = await app.ask(operation.method, operation.path, headers=headers)
            for body in (b"{", b"\xff" * 100_000, b'{"is_superuser":true}'):
                response = await app.ask(
                    operation.method, operation.path, headers=[*JSON, *headers], body=body
                )
                assert response.status_code == expected.status_code


async def test_too_long_bodies_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user()
    for operation in app.operations:
        headers = await app.headers(operation, user)
        for length in (b"65537", b"9" * 30, b"-1", b"1e3"):
            response = await app.ask(
                operation.method,
                operation.path,
                headers=[*JSON, *headers, (b"content-length", length)],
                body=b"",
            )
            problem(response, 413, "body_too_large")
