"""POST /tokens/leaked revokes reported tokens, and accepts only reports of configured scanners."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import time_machine

from authapi import Settings, create_app
from authapi.domain.events import EventType
from authapi.errors import ConfigurationError
from authapi.testing import Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import Headers, sign_in
from tests.web.responses import check_headers, input_errors, problem
from tests.web.scanners import (
    IDENTIFIER,
    PATH,
    SIGNATURE,
    Scanner,
    encoded,
    publish,
    report,
)

URL = "https://github.com/octocat/Hello-World/blob/main/.env"
REAL, NOT_OURS = "true_positive", "false_positive"


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner()


@asynccontextmanager
async def opened(settings: Settings, path: Path, *scanners: Scanner) -> AsyncIterator[Client]:
    keys = publish(path / "scanners.json", *scanners)
    changed = settings.model_copy(update={"leak_report_keys": keys, "jwt_audiences": ("billing",)})
    async with client(create_app(changed)) as found:
        yield found


@pytest.fixture
async def api_on_both(database_url: str, scanner: Scanner, tmp_path: Path) -> AsyncIterator[Client]:
    """A service that has the key of `scanner`, on SQLite and on PostgreSQL."""
    settings = Settings(database_url=database_url)  # type: ignore[arg-type]  # pydantic converts
    async with opened(settings, tmp_path, scanner) as found:
        yield found


@pytest.fixture
async def api(
    make_settings: SettingsFactory, scanner: Scanner, tmp_path: Path
) -> AsyncIterator[Client]:
    """The same on SQLite only."""
    async with opened(make_settings(), tmp_path, scanner) as found:
        yield found


async def send(api: Client, scanner: Scanner, body: bytes) -> httpx.Response:
    return await api.post(PATH, content=body, headers=scanner.headers(body))


async def labels(api: Client, scanner: Scanner, *tokens: str) -> list[str]:
    response = await send(api, scanner, report(*tokens))
    assert response.status_code == 200, response.text
    return [item["label"] for item in response.json()]


def text_of(headers: Headers) -> str:
    return headers["authorization"].removeprefix("Bearer ")


def bearer(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


async def status(api: Client, headers: Headers) -> int:
    return (await api.get("/me", headers=headers)).status_code


async def login(api: Client, email: str, strategy: str) -> dict[str, str]:
    """The response body of a login over HTTP. The cookie is discarded."""
    credentials = {"email": email, "password": "correct horse battery staple"}
    answer = await api.post("/login", json={**credentials, "strategy": strategy})
    api.cookies.clear()
    body: dict[str, str] = answer.json()
    return body


# Effects of a report --------------------------------------------------------------------------


async def test_leaked_tokens_are_revoked_and_the_owner_notified(
    api_on_both: Client, scanner: Scanner
) -> None:
    alice = await api_on_both.create_user()
    session = await sign_in(api_on_both.services, alice)
    created = await api_on_both.post("/me/tokens", json={"name": "script"}, headers=session)
    personal, opaque = (
        created.json()["access_token"],
        await sign_in(api_on_both.services, alice, "token"),
    )
    signed = await login(api_on_both, alice.email, "jwt")
    other = await sign_in(api_on_both.services, alice, "token")
    leaked = [personal, text_of(opaque), signed["refresh_token"]]
    credentials = [bearer(personal), opaque, bearer(signed["access_token"])]
    for headers in (*credentials, session, other):
        assert await status(api_on_both, headers) == 200
    response = await send(api_on_both, scanner, report(*leaked))
    assert response.status_code == 200
    check_headers(response)
    assert response.json() == [
        {
            "token_hash": hashlib.sha256(token.encode()).hexdigest(),
            "token_type": "authapi_token",
            "label": REAL,
        }
        for token in leaked
    ]
    for headers in credentials:
        assert await status(api_on_both, headers) == 401
    grant = {"grant_type": "refresh_token", "refresh_token": signed["refresh_token"]}
    problem(await api_on_both.post("/token", data=grant), 400, "invalid_grant")
    for headers in (session, other):
        assert await status(api_on_both, headers) == 200, "tokens that did not leak stay valid"

    events = (await api_on_both.get("/me/events", headers=session)).json()["items"][:3]
    assert {item["type"] for item in events} == {"token_leaked"}
    assert {item["outcome"] for item in events} == {"success"}
    assert [item["detail"] for item in events] == [{"source": "content", "url": URL}] * 3
    assert sorted(item["strategy"] for item in events) == ["jwt", "token", "token"]
    assert (await api_on_both.get("/me/tokens", headers=session)).json() == []


async def test_every_token_of_a_login_revokes_it(api_on_both: Client, scanner: Scanner) -> None:
    for kind in ("access", "used up"):
        await _leak(api_on_both, scanner, kind)


async def _leak(api_on_both: Client, scanner: Scanner, kind: str) -> None:
    alice = await api_on_both.create_user()
    first = await login(api_on_both, alice.email, "jwt")
    grant = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = (await api_on_both.post("/token", data=grant)).json()
    live = bearer(second["access_token"])
    leaked = {"access": second["access_token"], "used up": first["refresh_token"]}
    assert await status(api_on_both, live) == 200
    assert await labels(api_on_both, scanner, leaked[kind]) == [REAL]
    assert await status(api_on_both, live) == 401


@pytest.mark.parametrize("origin", ["session", "token", "jwt", "personal"])
async def test_a_jwt_for_another_service_is_revoked_alone(
    api_on_both: Client, scanner: Scanner, origin: str
) -> None:
    alice = await api_on_both.create_user()
    headers = await sign_in(api_on_both.services, alice, "jwt" if origin == "personal" else origin)
    if origin == "personal":
        created = await api_on_both.post("/me/tokens", json={"name": "script"}, headers=headers)
        headers = bearer(created.json()["access_token"])
    body = {"kind": "jwt", "audience": "billing"}
    leaked, kept = [
        (await api_on_both.post("/me/tokens", json=body, headers=headers)).json()["access_token"]
        for _ in range(2)
    ]
    assert await labels(api_on_both, scanner, leaked, leaked) == [REAL, REAL]
    assert await status(api_on_both, headers) == 200
    assert await api_on_both.services.tokens.introspection.introspect(leaked) is None
    assert await api_on_both.services.tokens.introspection.introspect(kept) is not None
    assert await labels(api_on_both, scanner, leaked) == [NOT_OURS]
    found = await api_on_both.services.audit.page(alice.id, before=None, limit=50)
    [event] = [event for event in found if event.type is EventType.TOKEN_LEAKED]
    assert event.detail["audience"] == "billing"
    # A JWT that leaks together with the credential it was issued from ends with it.
    if origin != "session":
        assert await labels(api_on_both, scanner, kept, text_of(headers)) == [REAL, REAL]
        assert await status(api_on_both, headers) == 401
        assert await api_on_both.services.tokens.introspection.introspect(kept) is None


async def test_tokens_of_one_login_cause_one_event(api: Client, scanner: Scanner) -> None:
    alice = await api.create_user()
    cookie = await sign_in(api.services, alice)
    answer = await login(api, alice.email, "jwt")
    both = (answer["access_token"], answer["refresh_token"])
    assert await labels(api, scanner, *both, *both) == [REAL] * 4
    events = (await api.get("/me/events", headers=cookie)).json()["items"]
    assert [item["type"] for item in events].count("token_leaked") == 1


async def test_a_replayed_report_changes_nothing(api_on_both: Client, scanner: Scanner) -> None:
    alice = await api_on_both.create_user()
    session = await sign_in(api_on_both.services, alice)
    token = await sign_in(api_on_both.services, alice, "token")
    body = report(text_of(token))
    headers = scanner.headers(body)
    expected = [REAL, NOT_OURS, NOT_OURS]
    for label in expected:
        response = await api_on_both.post(PATH, content=body, headers=headers)
        assert [item["label"] for item in response.json()] == [label]
    events = (await api_on_both.get("/me/events", headers=session)).json()["items"]
    assert [item["type"] for item in events].count("token_leaked") == 1
    assert await status(api_on_both, session) == 200


async def test_unknown_strings_are_false_positives(api: Client, scanner: Scanner) -> None:
    alice = await api.create_user()
    cookie = await sign_in(api.services, alice)
    secret = cookie["cookie"].partition("=")[2]
    signed = (await login(api, alice.email, "jwt"))["access_token"]
    head, _, signature = signed.rpartition(".")
    flipped = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    texts = ["", "x", secret, flipped, "a.b.c", "aat_" + "A" * 49, "art_" + "A" * 70, "ä" * 300]
    assert await labels(api, scanner, *texts) == [NOT_OURS] * len(texts)
    assert await status(api, cookie) == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=11)):
        assert await labels(api, scanner, signed) == [NOT_OURS], "it is revoked"


async def test_unknown_members_of_a_report_are_ignored(api: Client, scanner: Scanner) -> None:
    token = await sign_in(api.services, await api.create_user(), "token")
    body = encoded([{"token": text_of(token), "type": "t", "new": {"a": [1]}, "url": ""}])
    response = await send(api, scanner, body)
    assert [item["label"] for item in response.json()] == [REAL]
    assert await status(api, token) == 401


# Data of a report that is stored --------------------------------------------------------------


PLACES: list[tuple[dict[str, str | None], set[str]]] = [
    # What a report says of a place, and what of that is kept.
    ({"url": URL + "#L12", "source": "Issue_comment"}, {"url", "source"}),
    ({"url": None, "source": None}, set()),
    ({"url": "", "source": ""}, set()),
    ({"url": "http://github.com/a"}, {"source"}),
    ({"url": "javascript:alert(1)"}, {"source"}),
    ({"url": "data:text/html,<script>alert(1)</script>"}, {"source"}),
    ({"url": "https://user:password@github.com/a"}, {"source"}),
    ({"url": "https://github.com/\r\nSet-Cookie: a=b"}, {"source"}),
    ({"url": 'https://github.com/"><script>alert(1)</script>'}, {"source"}),
    ({"url": "https://github.com/\u202egnp.exe"}, {"source"}),
    ({"url": "https://[::1/"}, {"source"}),
    ({"url": "https:///etc/passwd"}, {"source"}),
    ({"url": "https://github.com/" + "a" * 1024}, {"source"}),
    ({"url": "https://github.com/aat_" + "A" * 49}, {"source"}),
    ({"source": "a" * 65}, {"url"}),
    ({"source": "con\ntent"}, {"url"}),
]


async def test_the_url_in_an_event_is_sanitized(api: Client, scanner: Scanner) -> None:
    alice = await api.create_user()
    cookie = await sign_in(api.services, alice)
    for members, kept in PLACES:
        token = await sign_in(api.services, alice, "token")
        body = report(text_of(token), **members)
        response = await send(api, scanner, body)
        assert [item["label"] for item in response.json()] == [REAL], "it is revoked in any case"
        newest = (await api.get("/me/events", headers=cookie)).json()["items"][0]
        assert newest["type"] == "token_leaked"
        [sent] = json.loads(body)
        assert newest["detail"] == {name: sent[name] for name in kept}, members


async def test_the_log_contains_no_token(
    api: Client, scanner: Scanner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = text_of(await sign_in(api.services, await api.create_user(), "token"))
    body = report(token)
    await send(api, scanner, body)
    await api.post(PATH, content=body, headers={**scanner.headers(body), SIGNATURE: "AAAA"})
    assert any(record.message == "token_leaked" for record in caplog.records)
    assert token not in "".join(str(record.__dict__) for record in caplog.records)


# Authentication of a report -------------------------------------------------------------------

Attack = Callable[[Scanner, bytes], tuple[bytes, list[tuple[str, str]]]]


def signed(body: bytes, **changes: str) -> Attack:
    def attack(scanner: Scanner, _: bytes) -> tuple[bytes, list[tuple[str, str]]]:
        headers = {**scanner.headers(body), **changes}
        return body, [(name, value) for name, value in headers.items() if value != "none"]

    return attack


def changed(**changes: str) -> Attack:
    """A valid report with some headers replaced, or without headers."""
    return lambda scanner, body: signed(body, **changes)(scanner, body)


def by_another_key(scanner: Scanner, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    return body, list(Scanner(scanner.identifier).headers(body).items())


def over_the_same_json(scanner: Scanner, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    again = json.dumps(json.loads(body), separators=(",", ":")).encode()
    assert again != body
    return body, list(scanner.headers(again).items())


def with_one_byte_more(scanner: Scanner, body: bytes) -> tuple[bytes, list[tuple[str, str]]]:
    return body + b" ", list(scanner.headers(body).items())


def with_a_byte_of_the_signature_flipped(
    scanner: Scanner, body: bytes
) -> tuple[bytes, list[tuple[str, str]]]:
    signature = scanner.sign(body)
    middle = "A" if signature[40] != "A" else "B"
    headers = {**scanner.headers(body), SIGNATURE: signature[:40] + middle + signature[41:]}
    return body, list(headers.items())


ATTACKS: dict[str, Attack] = {
    "another key": by_another_key,
    "the same JSON": over_the_same_json,
    "one byte more": with_one_byte_more,
    "flipped": with_a_byte_of_the_signature_flipped,
    "no identifier": changed(**{IDENTIFIER: "none"}),
    "no signature": changed(**{SIGNATURE: "none"}),
    "neither": changed(**{IDENTIFIER: "none", SIGNATURE: "none"}),
    "empty": changed(**{IDENTIFIER: "", SIGNATURE: ""}),
    "unknown": changed(**{IDENTIFIER: "another-scanner"}),
    "in other letters": changed(**{IDENTIFIER: "A-SCANNER"}),
    "ten kilobytes": changed(**{IDENTIFIER: "a" * 10_240}),
    "a long signature": changed(**{SIGNATURE: "MEUC" * 2_560}),
    "a path": changed(**{IDENTIFIER: "../../../../dev/null"}),
    "no base64": changed(**{SIGNATURE: "%%%%"}),
    "half of base64": changed(**{SIGNATURE: "MEUCI"}),
    "no DER": changed(**{SIGNATURE: "AAAAAAAA"}),
    "zeroes": changed(**{SIGNATURE: "MAYCAQACAQA="}),
}


async def test_unsigned_reports_are_refused(api: Client, scanner: Scanner) -> None:
    token = await sign_in(api.services, await api.create_user(), "token")
    for name, attack in ATTACKS.items():
        body, headers = attack(scanner, report(text_of(token)))
        response = await api.post(PATH, content=body, headers=headers)
        assert "a-scanner" not in str(problem(response, 403, "report_not_signed")), name
        assert await status(api, token) == 200, name
    assert await labels(api, scanner, text_of(token)) == [REAL]


async def test_duplicate_signature_headers_are_refused(api: Client, scanner: Scanner) -> None:
    token = await sign_in(api.services, await api.create_user(), "token")
    body = report(text_of(token))
    right = scanner.headers(body)
    for name in (IDENTIFIER, SIGNATURE):
        for second in ("x", right[name]):
            headers = [*right.items(), (name.lower(), second)]
            problem(await api.post(PATH, content=body, headers=headers), 400, "duplicate_header")
    assert await status(api, token) == 200


async def test_the_body_is_not_parsed_before_the_signature(api: Client) -> None:
    for body in (b"", b"{", b"[" * 60_000, b"[1]", b"\xff", b'[{"token": "\\ud800"}]'):
        headers = Scanner().headers(body)
        problem(await api.post(PATH, content=body, headers=headers), 403, "report_not_signed")


async def test_signed_malformed_bodies_are_refused(api: Client, scanner: Scanner) -> None:
    for body, code, number in (
        (b"{", "malformed_json", 400),
        (b"[" * 60_000, "malformed_json", 400),
        (b'[{"token":"a","token":"b","type":"t"}]', "malformed_json", 400),
        (b'[{"token":"\\u0000","type":"t"}]', "malformed_json", 400),
        (b'[{"token":NaN,"type":"t"}]', "malformed_json", 400),
        (b"[" + b" " * 70_000 + b"]", "body_too_large", 413),
    ):
        problem(await send(api, scanner, body), number, code)


NO_REPORTS: list[tuple[object, tuple[object, ...], str]] = [
    ([], ("body",), "too_short"),
    ([{"token": "a", "type": "t"}] * 501, ("body",), "too_long"),
    ({"token": "a", "type": "t"}, ("body",), "list_type"),
    ([1], ("body", 0), "model_attributes_type"),
    ([{"type": "t"}], ("body", 0, "token"), "missing"),
    ([{"token": 1, "type": "t"}], ("body", 0, "token"), "string_type"),
    ([{"token": "a", "type": ""}], ("body", 0, "type"), "string_too_short"),
    ([{"token": "a", "type": "t\n"}], ("body", 0, "type"), "string_pattern_mismatch"),
    ([{"token": "a", "type": "t" * 256}], ("body", 0, "type"), "string_too_long"),
    ([{"token": "a", "type": "t", "url": 1}], ("body", 0, "url"), "string_type"),
]


async def test_invalid_reports_are_refused(api: Client, scanner: Scanner) -> None:
    for value, where, code in NO_REPORTS:
        body = json.dumps(value, separators=(",", ":")).encode()
        assert input_errors(await send(api, scanner, body)) == [(where, code)]


async def test_other_content_types_are_refused(api: Client, scanner: Scanner) -> None:
    body = report("x")
    for kind in ("text/plain", "application/json; charset=latin-1"):
        headers = {**scanner.headers(body), "Content-Type": kind}
        problem(await api.post(PATH, content=body, headers=headers), 415, "unsupported_media_type")


# Configuration --------------------------------------------------------------------------------


async def test_without_keys_the_route_does_not_exist(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings())
    assert PATH not in app.openapi()["paths"]
    async with client(app) as api:
        body = report("x")
        response = await api.post(PATH, content=body, headers=Scanner().headers(body))
        problem(response, 404, "not_found")


async def test_each_key_of_the_file_is_accepted(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    old, new = Scanner("old"), Scanner("new")
    async with opened(make_settings(), tmp_path, old, new) as api:
        for scanner in (old, new):
            assert await labels(api, scanner, "x") == [NOT_OURS]
        body = report("x")
        headers = {**old.headers(body), IDENTIFIER: "new"}
        problem(await api.post(PATH, content=body, headers=headers), 403, "report_not_signed")


async def test_the_openapi_document_describes_the_route(api: Client) -> None:
    operation = (await api.get("/openapi.json")).json()["paths"][PATH]["post"]
    assert operation["security"] == []
    headers = {item["name"]: item["required"] for item in operation["parameters"]}
    assert headers == {IDENTIFIER: True, SIGNATURE: True}
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, 500)
    assert operation["responses"].keys() >= {"200", "400", "403", "408", "413", "415", "422", "503"}


async def test_an_invalid_key_file_is_a_configuration_error(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    app = create_app(make_settings(leak_report_keys=tmp_path / "none.json"))
    with pytest.raises(ConfigurationError, match="AUTHAPI_LEAK_REPORT_KEYS"):
        async with client(app):
            pass
