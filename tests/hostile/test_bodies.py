"""Bodies that are not what they should be, to every operation that reads one."""

import json

import pytest

from tests.hostile.nasty_json import CANARY, MALFORMED, WELL_FORMED
from tests.hostile.watch import JSON, Watch, raw
from tests.web.answers import problem
from tests.web.logins import sign_in

pytestmark = pytest.mark.slow

NO_BODY = {"nothing"}
"""Without a byte there is no body, and what is missing is said so."""
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


async def test_a_text_without_one_meaning_is_malformed(watch: Watch) -> None:
    user = await watch.api.create_user(is_superuser=True)
    for operation in watch.json_readers:
        known = await watch.headers(operation, user)
        for name, text in MALFORMED.items():
            for headers in (known, ()):
                response = await watch.ask(
                    operation.method, operation.path, headers=[*JSON, *headers], body=text
                )
                if name not in NO_BODY:
                    problem(response, 400, "malformed_json")
                elif not operation.is_open and not headers:
                    problem(response, 401, "unauthenticated")
                else:
                    problem(response, 422, "validation_failed")


async def test_nor_has_it_one_inside_of_another_text(watch: Watch) -> None:
    user = await watch.api.create_user(is_superuser=True)
    for operation in watch.json_readers:
        headers = [*JSON, *await watch.headers(operation, user)]
        rest = json.dumps({**operation.example, "x": 1}).encode()
        for name, text in MALFORMED.items():
            if name in {"two lines", "behind the value", "closed only", "utf-16 le", "utf-16 be"}:
                continue  # inside of an object these would be something else
            for body in (
                b'{"name":' + text + b"," + rest[1:],
                rest[:-1] + b',"y":[' + text + b"]}",
            ):
                if name in {"nothing", "space"} and body.endswith(b"]}"):
                    continue  # an empty array is fine
                response = await watch.ask(
                    operation.method, operation.path, headers=headers, body=body
                )
                problem(response, 400, "malformed_json")


async def test_a_text_that_no_route_asks_for_changes_nothing(watch: Watch) -> None:
    user = await watch.api.create_user("alice@example.com", is_superuser=True)
    for operation in watch.json_readers:
        headers = [*JSON, *await watch.headers(operation, user)]
        closed = operation.body["application/json"].get("additionalProperties") is False
        for name, text in WELL_FORMED.items():
            response = await watch.ask(operation.method, operation.path, headers=headers, body=text)
            # `{}` changes nothing of an account, and of a session what it says.
            members = json.loads(text)
            optional = not operation.body["application/json"].get("required")
            if not (isinstance(members, dict) and optional and (not closed or not members)):
                assert response.status_code == 422, (operation, name)
    [unchanged] = await watch.api.services.accounts.page()
    assert unchanged == user


async def test_each_member_survives_each_text(watch: Watch) -> None:
    user = await watch.api.create_user("alice@example.com", is_superuser=True)
    for operation in watch.json_readers:
        headers = [*JSON, *await watch.headers(operation, user)]
        members = list(operation.example)
        for number, (name, text) in enumerate(WELL_FORMED.items()):
            member = members[number % len(members)]
            others = {key: value for key, value in operation.example.items() if key != member}
            body = b"{" + json.dumps(member).encode() + b":" + text
            body += b"," + json.dumps(others).encode()[1:] if others else b"}"
            response = await watch.ask(operation.method, operation.path, headers=headers, body=body)
            assert response.status_code in operation.statuses, (operation, name)
            if response.status_code == 400:  # well-formed, and read: it is not what came by mail
                problem(response, 400, "invalid_one_time_secret")


async def test_only_json_is_read_as_json(watch: Watch) -> None:
    user = await watch.api.create_user()
    for operation in watch.json_readers:
        known = await watch.headers(operation, user)
        body = json.dumps({**operation.example, "name": CANARY}).encode()
        for content_type in NO_JSON:
            given = [] if content_type is None else [(b"content-type", content_type)]
            for framing in (
                (b"content-length", b"%d" % len(body)),
                (b"transfer-encoding", b"chunked"),
            ):
                for headers in ([framing, *given, *known], [framing, *given]):
                    response = await watch.ask(
                        operation.method, operation.path, headers=headers, body=body
                    )
                    problem(response, 415, "unsupported_media_type")


async def test_json_may_be_announced_in_several_ways(watch: Watch) -> None:
    for operation in watch.json_readers:
        for content_type in JSON_AS_WELL:
            headers = [(b"content-type", content_type), (b"content-length", b"1")]
            response = await watch.ask(operation.method, operation.path, headers=headers, body=b"{")
            problem(response, 400, "malformed_json")


async def test_what_is_kept_comes_back_as_it_was(watch: Watch) -> None:
    headers = [*JSON, *raw(await sign_in(watch.api.services, await watch.api.create_user()))]
    for name, text in WELL_FORMED.items():
        body = b'{"kept":' + text + b"}"
        response = await watch.ask("PATCH", "/me/session", headers=headers, body=body)
        kept = json.loads(text)
        if len(json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode()) > 4000:
            problem(response, 422, "validation_failed")
            continue
        assert response.status_code == 200, name
        again = await watch.ask("GET", "/me/session", headers=headers)
        assert again.content == response.content
        assert again.json()["data"] == ({} if kept is None else {"kept": kept}), name


async def test_every_byte_alone_and_every_end_of_a_good_body(watch: Watch) -> None:
    user = await watch.api.create_user(is_superuser=True)
    for operation in watch.json_readers:
        headers = [*JSON, *await watch.headers(operation, user)]
        body = json.dumps(operation.example).encode()
        cut = [body[:end] for end in range(1, len(body))]
        for text in [*(bytes([byte]) for byte in range(256)), *cut]:
            response = await watch.ask(operation.method, operation.path, headers=headers, body=text)
            expected = 422 if text.isdigit() else 400
            assert response.status_code == expected, text


async def test_a_body_in_many_pieces_is_the_same_body(watch: Watch) -> None:
    body = json.dumps({"email": "ü@example.com", "password": CANARY}, ensure_ascii=False).encode()
    pieces = [bytes([byte]) for byte in body]
    response = await watch.ask("POST", "/login", headers=JSON, body=[b"", *pieces, b""])
    problem(response, 422, "validation_failed")


async def test_operations_without_a_body_do_not_mind_one(watch: Watch) -> None:
    user = await watch.api.create_user()
    for operation in watch.operations:
        if operation.content_type is None and operation.template not in ("/me", "/logout"):
            headers = await watch.headers(operation, user)
            expected = await watch.ask(operation.method, operation.path, headers=headers)
            for body in (b"{", b"\xff" * 100_000, b'{"is_superuser":true}'):
                response = await watch.ask(
                    operation.method, operation.path, headers=[*JSON, *headers], body=body
                )
                assert response.status_code == expected.status_code


async def test_no_operation_takes_a_body_that_is_too_long(watch: Watch) -> None:
    user = await watch.api.create_user()
    for operation in watch.operations:
        headers = await watch.headers(operation, user)
        for length in (b"65537", b"9" * 30, b"-1", b"1e3"):
            response = await watch.ask(
                operation.method,
                operation.path,
                headers=[*JSON, *headers, (b"content-length", length)],
                body=b"",
            )
            problem(response, 413, "body_too_large")
