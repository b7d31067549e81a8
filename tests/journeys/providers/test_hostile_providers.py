"""Providers that are away, slow, endless or confused, and a service that goes on beside them."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from tests.journeys.providers.service import (
    People,
    Visitor,
    at_once,
    new_name,
    outcome_of,
    serving,
)
from tests.verify.issuer import OPENID, Reply

pytestmark = pytest.mark.slow

MAX_GROWTH = 150 * 2**20
"""Bytes by which the memory may grow: far less than all that the provider sends."""
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
DRIPS = {
    "body without an end": (HEAD + b"\r\n{", b'"a":"' + b"x" * 65536 + b'",'),
    "fields without an end": (HEAD, b"x-field: " + b"y" * 60000 + b"\r\n"),
    "chunks of one byte": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 100),
    "answers that are not final": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"),
    "nothing": (b"", b""),
}


@contextmanager
def dripping() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A server that sends `first`, and then `more` again and again; yields its address."""
    sent = {"first": b"", "more": b""}
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(60)
            connection.recv(65536)
            connection.sendall(sent["first"])
            while sent["more"] and not ended.is_set():
                connection.sendall(sent["more"])
            while connection.recv(65536):
                continue

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
    finally:
        ended.set()
        listener.close()


def memory_of(pid: int) -> int:
    """The resident memory of a process, in bytes."""
    fields = Path(f"/proc/{pid}/status").read_text().split("\n")
    return next(int(it.split()[1]) * 1024 for it in fields if it.startswith("VmRSS"))


def test_answers_without_an_end(sqlite_url: str, tmp_path: Path, acme: People) -> None:
    with dripping() as (address, sent):
        providers = {"acme": acme.options(token_url=f"{address}/token")}
        with serving(tmp_path, sqlite_url, providers) as service:
            first = service.visitor()
            first.begin()
            before = memory_of(service.process.pid)
            for kind, (sent["first"], sent["more"]) in DRIPS.items():
                browsers = [service.visitor() for _ in range(40)]
                callbacks = [(it, it.at_provider(it.begin(), new_name())) for it in browsers]
                ends = at_once(*(partial(it.come_back, callback) for it, callback in callbacks))
                # Those that could not reach the database, while all processors read the flood, too.
                assert ends.keys() <= {"provider-unavailable", "provider-failed"}, (kind, ends)
                assert ends["provider-unavailable"] >= 1, (kind, ends)
                assert memory_of(service.process.pid) - before < MAX_GROWTH, kind
            assert first.get("/health/ready").status_code == 200


def test_a_provider_that_is_away(sqlite_url: str, tmp_path: Path, acme: People) -> None:
    providers = {"acme": acme.options(), "away": {"issuer": "http://127.0.0.1:1", "client_id": "a"}}
    with serving(tmp_path, sqlite_url, providers) as service:
        browser = service.visitor()
        for _ in range(2):
            answer = browser.post("/login/with/away", json={})
            assert (answer.status_code, outcome_of(answer)) == (503, "provider_unavailable")
            assert int(answer.headers["retry-after"]) > 0
        page = browser.post("/account/sign-in", data={"provider": "away"})
        assert page.status_code == 503
        assert "does not answer" in page.text or "try again" in page.text.lower()
        callback = browser.at_provider(browser.begin(), new_name())
        acme.away()
        assert outcome_of(browser.come_back(callback)) == "provider-unavailable"
        acme.back()
        assert outcome_of(browser.come_back(callback)) == "in"  # the same callback


def answer_of(callback: str, **changed: str | None) -> str:
    """A callback with other parameters; None removes one."""
    parts = urlsplit(callback)
    query: dict[str, str | None] = {**dict(parse_qsl(parts.query)), **changed}
    given = {name: value for name, value in query.items() if value is not None}
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(given)}"


def test_providers_that_are_mixed_up(sqlite_url: str, tmp_path: Path, acme: People) -> None:
    """Two clients at one issuer, an honest one beside a hostile one, and names in paths."""
    with People() as evil:
        providers = {
            "acme": acme.options(),
            "second": acme.options(client_id="another-client", client_secret=None),
            "evil": evil.options(),
        }
        with serving(tmp_path, sqlite_url, providers) as service:
            check_mix_ups(service.visitor, acme, evil)


def check_mix_ups(new: Callable[[], Visitor], acme: People, evil: People) -> None:
    browser = new()

    def callback(name: str = "acme") -> str:
        return browser.at_provider(browser.begin(name), "jane")

    # An answer at the address of another provider, also of one with the same issuer.
    for name in ("second", "evil"):
        moved = callback().replace("/acme/", f"/{name}/")
        assert outcome_of(browser.come_back(moved)) == "login-flow-invalid"
    # The code of one client is not for another, which fails at the provider.
    code = dict(parse_qsl(urlsplit(callback()).query))["code"]
    mixed = answer_of(browser.at_provider(browser.begin("second"), "jane"), code=code)
    assert outcome_of(browser.come_back(mixed)) == "provider-refused"
    # The issuer of the answer.
    for issuer in (
        *(None, "", evil.url, f"{acme.url}/", acme.url.upper(), acme.url + "%00", "null"),
        *(acme.url.replace("127.0.0.1", "localhost"), f"{acme.url} {evil.url}"),
    ):
        ended = outcome_of(browser.come_back(answer_of(callback(), iss=issuer)))
        assert ended == "provider-answer-refused", issuer
    twice = f"{callback()}&{urlencode({'iss': evil.url})}"
    assert outcome_of(browser.come_back(twice)) == "login-flow-invalid"
    # A hostile provider that answers in the name of another: in the answer and in the token.
    evil.about["jane"] = {"iss": acme.url}
    evil.sends_issuer = False
    evil.metadata["authorization_response_iss_parameter_supported"] = False
    assert outcome_of(browser.come_back(callback("evil"))) == "provider-answer-refused"
    ended = outcome_of(browser.come_back(answer_of(callback("evil"), iss=acme.url)))
    assert ended == "provider-answer-refused"
    assert browser.me() is None
    # The honest one is another person than the same subject at the hostile one.
    evil.about["jane"], evil.sends_issuer = {"email": "jane@evil.example"}, True
    assert outcome_of(browser.come_back(callback())) == "in"
    mine = browser.me()
    assert outcome_of(browser.come_back(callback("evil"))) == "in"
    assert (mine, browser.me()) == ("jane@example.com", "jane@evil.example")
    for name in (
        *("..", ".", "%2e%2e", "acme%2f..%2facme", "acme/../acme", "acme/.", "acme%00", "ACME"),
        *("acm%C3%A9", "ac%E2%80%8Bme", "%EF%BD%81cme", "acme;x=1", "acme%0d%0aset-cookie:x"),
        *("a" * 10_000, "%ff", "{provider}", "acme%20", "acme%3f", "__class__", "exchange", "-"),
    ):
        for method, path in (
            ("POST", f"/login/with/{name}"),
            ("POST", f"/login/with/{name}/callback"),
            ("GET", f"/login/with/{name}"),
            ("GET", f"/login/with/{name}/callback?state=a&code=b"),
            ("POST", f"/me/identities/{name}"),
        ):
            # Of the standard library, which sends a path as it is.
            connection = HTTPConnection("127.0.0.1", browser.base_url.port, timeout=60)
            with closing(connection):
                body = "{}" if method == "POST" else None
                headers = {"content-type": "application/json", "sec-fetch-site": "none"}
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                status, code = answer.status, json.loads(answer.read() or b"{}").get("code")
            assert status in {401, 404, 405, 414, 415, 422}, (method, path, status, code)
            assert answer.getheader("set-cookie") is None
    # A percent-encoded letter is the letter (RFC 3986, section 6.2.2.2).
    assert browser.post("/login/with/%61cme", json={}).status_code == 200


def test_metadata_that_changes(sqlite_url: str, tmp_path: Path, acme: People) -> None:
    good = acme.replies[OPENID]
    hostile = {
        "another issuer": {**acme.metadata, "issuer": "http://127.0.0.1:1"},
        "no algorithm": {
            **acme.metadata,
            "id_token_signing_alg_values_supported": ["none", "HS256"],
        },
        "script": {**acme.metadata, "authorization_endpoint": "javascript:alert(1)"},
        "userinfo in an address": {**acme.metadata, "token_endpoint": "http://a:b@127.0.0.1/"},
        "lists": {**acme.metadata, "token_endpoint": ["http://127.0.0.1/"]},
        "no object": [],
    }
    for kind, document in hostile.items():
        folder = tmp_path / kind
        folder.mkdir()
        acme.replies[OPENID] = Reply(document)
        with serving(folder, sqlite_url, {"acme": acme.options()}) as service:
            answer = service.visitor().post("/login/with/acme", json={})
            assert (answer.status_code, outcome_of(answer)) == (503, "provider_unavailable"), kind
    acme.replies[OPENID] = good
