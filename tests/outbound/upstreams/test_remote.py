"""Logins at a provider that answers correctly, wrongly, or with hostility."""

import asyncio
import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from authapi.clock import now
from authapi.domain.federation.flow import Callback, FlowIntent
from authapi.domain.federation.person import Person
from authapi.errors import ProviderAnswerRefused, ProviderRefused, ProviderUnavailable
from authapi.outbound.upstreams import remote
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.crypto import forgery
from tests.outbound.upstreams.visits import (
    NONCE,
    REDIRECT_URI,
    come_back,
    flow_of,
    seconds,
    upstreams_of,
    visit,
)
from tests.servers.openid import CLIENT_ID, CLIENT_SECRET, TOKEN, USERINFO, OpenIDServer
from tests.verify.issuer import JWKS, OPENID, Reply

Claims = dict[str, Any]


async def test_the_request_has_pkce_state_and_nonce(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI, hint="jane@example.com")
    query = parse_qs(urlsplit(url).query)
    digest = hashlib.sha256(flow.verifier.encode()).digest()
    assert url.startswith(f"{server.url}/authorize?")
    assert {name: values[0] for name, values in query.items()} == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": "openid email profile",
        "state": flow.state,
        "nonce": NONCE,
        "code_challenge": forgery.b64(digest),
        "code_challenge_method": "S256",
        "login_hint": "jane@example.com",
    }
    assert flow.verifier not in url


async def test_a_login_returns_the_person(server: OpenIDServer, acme: RemoteUpstream) -> None:
    person = await come_back(acme)
    assert (person.provider, person.issuer, person.subject) == ("acme", server.url, "248289761001")
    assert (person.email, person.email_verified, person.name) == (
        "jane@example.com",
        True,
        "Jane Doe",
    )
    assert not person.is_authoritative
    assert person.auth_time is None
    assert not person.has_proved_mfa
    assert server.asked[USERINFO] == 0  # nothing that is wanted is missing


async def test_metadata_and_keys_are_read_once(server: OpenIDServer, acme: RemoteUpstream) -> None:
    assert server.asked == {}  # nothing is requested before a login
    await asyncio.gather(*(come_back(acme) for _ in range(10)))
    assert (server.asked[OPENID], server.asked[JWKS], server.asked[TOKEN]) == (1, 1, 10)


async def test_a_code_is_redeemed_with_the_secret_and_the_verifier(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    await come_back(acme)
    pair = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert server.credentials == [f"Basic {pair}"]
    assert set(server.forms[0]) == {"grant_type", "code", "redirect_uri", "code_verifier"}


@pytest.mark.parametrize(
    ("listed", "option"),
    [(["client_secret_post"], None), (None, "post"), (["private_key_jwt"], "post")],
)
async def test_the_secret_is_in_the_body_where_the_provider_wants_it(
    server: OpenIDServer, listed: list[str] | None, option: str | None
) -> None:
    server.metadata["token_endpoint_auth_methods_supported"] = listed
    acme = upstreams_of(acme=server.options(client_auth=option)).find("acme")
    await come_back(acme)
    await acme.close()
    assert server.credentials == [None]
    assert server.forms[0]["client_secret"] == CLIENT_SECRET


async def test_the_verifier_of_another_browser_is_refused(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    other = replace(flow, verifier="w-" + "4" * 41)
    with pytest.raises(ProviderRefused):
        await acme.person(Callback(found["code"], found["iss"]), other, redirect_uri=REDIRECT_URI)


async def test_a_code_works_once(server: OpenIDServer, acme: RemoteUpstream) -> None:
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    callback = Callback(found["code"], found["iss"])
    await acme.person(callback, flow, redirect_uri=REDIRECT_URI)
    with pytest.raises(ProviderRefused):
        await acme.person(callback, flow, redirect_uri=REDIRECT_URI)


def changed(**claims: Any) -> Callable[[OpenIDServer], None]:
    """Makes ID tokens with these claims; None removes one."""
    return lambda server: server.claims.update(claims)


def made(make: Callable[[OpenIDServer, Claims], object]) -> Callable[[OpenIDServer], None]:
    """Makes ID tokens by a function."""

    def apply(server: OpenIDServer) -> None:
        server.make_token = lambda claims: make(server, claims)

    return apply


def symmetric(server: OpenIDServer, claims: Claims) -> str:
    """Signs with the public key as if it were a shared secret."""
    head = {"alg": "HS256", "kid": server.key.verifying.kid}
    parts = ".".join(forgery.b64(json.dumps(it).encode()) for it in (head, claims))
    secret = json.dumps(dict(server.key.verifying.jwk)).encode()
    return f"{parts}.{forgery.b64(hmac.digest(secret, parts.encode(), 'sha256'))}"


def unsigned(server: OpenIDServer, claims: Claims) -> str:
    """Has no signature."""
    return forgery.forge({"alg": "none"}, claims, key=None)


def badly_signed(server: OpenIDServer, claims: Claims) -> str:
    """Has a signature that `alg` declares meaningless."""
    return server.signed(claims, header={"alg": "none"})


def ambiguous(server: OpenIDServer, claims: Claims) -> str:
    """Writes the subject twice, so that two parsers disagree."""
    text = json.dumps(claims)[:-1] + ', "sub": "admin"}'
    head = {"alg": "ES256", "kid": server.key.verifying.kid}
    return forgery.forge(head, text.encode(), key=server.key)


FAULTS: dict[str, tuple[Callable[[OpenIDServer], None], str]] = {
    "issuer": (changed(iss="https://evil.example"), "id_token iss"),
    "issuer with a slash": (made(lambda s, c: s.signed(c | {"iss": s.url + "/"})), "id_token iss"),
    "no issuer": (changed(iss=None), "id_token identifiers"),
    "audience": (changed(aud="another"), "id_token aud"),
    "no audience": (changed(aud=None), "id_token aud"),
    "audience of objects": (changed(aud=[{"a": CLIENT_ID}]), "id_token aud"),
    "several audiences": (changed(aud=[CLIENT_ID, "another"]), "id_token azp"),
    "several audiences, azp": (changed(aud=[CLIENT_ID, "another"], azp="another"), "id_token azp"),
    "azp": (changed(azp="another"), "id_token azp"),
    "azp that is null": (made(lambda s, c: s.signed(c | {"azp": None})), "id_token azp"),
    "nonce": (changed(nonce="another"), "id_token nonce"),
    "no nonce": (changed(nonce=None), "id_token nonce"),
    "nonce as a number": (changed(nonce=1), "id_token nonce"),
    "nonce in another script": (changed(nonce="\u00fc"), "id_token nonce"),
    "at_hash": (changed(at_hash="AAAAAAAAAAAAAAAAAAAAAA"), "id_token at_hash"),
    "at_hash in another script": (changed(at_hash="\u00fc"), "id_token at_hash"),
    "at_hash as a list": (changed(at_hash=[]), "id_token at_hash"),
    "expired": (made(lambda s, c: s.signed(c | {"iat": 1000, "exp": 2000})), "id_token exp"),
    "expired for 61 seconds": (
        made(lambda s, c: s.signed(c | {"iat": c["iat"] - 600, "exp": c["iat"] - 61})),
        "id_token exp",
    ),
    "no expiry": (changed(exp=None), "id_token exp"),
    "issued in the future": (
        made(lambda s, c: s.signed(c | {"iat": c["iat"] + 90})),
        "id_token iat",
    ),
    "not yet valid": (made(lambda s, c: s.signed(c | {"nbf": c["iat"] + 90})), "id_token nbf"),
    "no issue time": (changed(iat=None), "id_token iat"),
    "HS256 with the public key": (made(symmetric), "id_token alg"),
    "none": (made(unsigned), "id_token format"),
    "none, signed": (made(badly_signed), "id_token alg"),
    "a key of another": (
        made(lambda s, c: s.signed(c, key=forgery.new_key())),
        "id_token key",
    ),
    "the kid of the provider, another key": (
        made(lambda s, c: s.signed(c, key=forgery.new_key(), header={"kid": s.key.verifying.kid})),
        "id_token signature",
    ),
    "an embedded key": (
        made(
            lambda s, c: s.signed(
                c,
                key=(key := forgery.new_key()),
                header={"jwk": dict(key.verifying.jwk), "kid": s.key.verifying.kid},
            )
        ),
        "id_token signature",
    ),
    "crit": (made(lambda s, c: s.signed(c, header={"crit": ["exp"]})), "id_token header"),
    "an access token": (made(lambda s, c: s.signed(c, header={"typ": "at+jwt"})), "id_token typ"),
    "duplicate members": (made(ambiguous), "id_token format"),
    "no ID token": (made(lambda _s, _c: None), "id_token format"),
    "an ID token that is a number": (made(lambda _s, _c: 7), "id_token format"),
    "a long ID token": (changed(filler="x" * 20_000), "id_token format"),
    "empty subject": (changed(sub=""), "id_token identifiers"),
    "no subject": (changed(sub=None), "id_token identifiers"),
    "subject as a number": (changed(sub=248289761001), "id_token identifiers"),
    "subject as a list": (changed(sub=["x"]), "id_token identifiers"),
    "subject with 256 characters": (changed(sub="x" * 256), "id_token identifiers"),
    "auth_time as a text": (changed(auth_time="now"), "id_token auth_time"),
    "auth_time that is true": (changed(auth_time=True), "id_token auth_time"),
    "auth_time in the future": (
        made(lambda s, c: s.signed(c | {"auth_time": c["iat"] + 90})),
        "id_token auth_time",
    ),
    "access token with a line end": (
        lambda server: server.token_response.update(access_token="a\r\nX: y"),
        "access_token",
    ),
    "access token as a number": (
        lambda server: server.token_response.update(access_token=7),
        "access_token",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_wrong_answer_is_refused(
    server: OpenIDServer, acme: RemoteUpstream, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    apply, reason = FAULTS[fault]
    apply(server)
    caplog.set_level(logging.INFO, "authapi.federation")
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(acme)
    assert caught.value.reason == reason
    [told] = [it for it in caplog.records if it.getMessage() == "answer of a provider refused"]
    assert (told.__dict__["provider"], told.__dict__["reason"]) == ("acme", reason)
    assert CLIENT_SECRET not in caplog.text


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>", 200),
        Reply(b"[]", 200),
        Reply(b'{"id_token": 1, "id_token": 2}', 200),
        Reply(b'{"a":' * 50, 200),
        Reply(b"", 200),
        Reply(b"", 302, {"location": "http://127.0.0.1:1/"}),
        Reply(b"not found", 404),
    ],
    ids=["html", "list", "duplicates", "nested", "empty", "redirect", "missing"],
)
async def test_a_token_response_that_cannot_be_read_is_refused(
    server: OpenIDServer, acme: RemoteUpstream, reply: Reply
) -> None:
    server.replies[TOKEN] = reply
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(acme)
    assert caught.value.reason == "token response"


@pytest.mark.parametrize(
    "reply",
    [
        Reply({}, 500),
        Reply({}, 503),
        Reply({}, 429),
        Reply({"error": "temporarily_unavailable"}, 400),
        Reply(b" " * (10 << 20), 200),
        Reply(b"{}", 200, {"content-encoding": "gzip"}),
    ],
    ids=["500", "503", "429", "error", "10 MB", "compressed"],
)
async def test_a_provider_that_fails_is_unavailable(
    server: OpenIDServer, acme: RemoteUpstream, reply: Reply
) -> None:
    server.replies[TOKEN] = reply
    with pytest.raises(ProviderUnavailable) as caught:
        await come_back(acme)
    assert caught.value.retry_after >= 1


@pytest.mark.parametrize(
    "error",
    ["invalid_grant", "bad_verification_code", "\u00fc<script>", 7, None, ["x"]],
    ids=range(6),
)
@pytest.mark.parametrize("status", [200, 400, 401])
async def test_a_refused_code(
    server: OpenIDServer,
    acme: RemoteUpstream,
    error: object,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.replies[TOKEN] = Reply({"error": error, "error_description": "secret-words"}, status)
    with pytest.raises(ProviderRefused):
        await come_back(acme)
    assert "secret-words" not in caplog.text
    assert "script" not in str([record.__dict__ for record in caplog.records])


async def test_a_slow_provider_does_not_hold_a_request(
    server: OpenIDServer, acme: RemoteUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    monkeypatch.setattr(remote, "_TOTAL_TIMEOUT", 0.05)
    server.may_answer.clear()
    try:
        with pytest.raises(ProviderUnavailable):
            await acme.person(
                Callback(found["code"], found["iss"]), flow, redirect_uri=REDIRECT_URI
            )
    finally:
        server.may_answer.set()


async def test_callbacks_do_not_pile_up_while_a_provider_hangs(
    server: OpenIDServer, acme: RemoteUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_MAX_AT_ONCE", 20)
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    callback = Callback(found["code"], found["iss"])
    server.may_answer.clear()
    waiting = [
        asyncio.create_task(acme.person(callback, flow, redirect_uri=REDIRECT_URI))
        for _ in range(20)
    ]
    await server.is_asked()
    for _ in range(20):
        with pytest.raises(ProviderUnavailable) as caught:  # at once, before it waits for anything
            acme.person(callback, flow, redirect_uri=REDIRECT_URI).send(None)
        assert caught.value.retry_after >= 1
    for visitor in waiting[:10]:  # who leave
        visitor.cancel()
    await asyncio.wait(waiting[:10])
    server.may_answer.set()
    ended = await asyncio.gather(*waiting[10:], return_exceptions=True)
    # The code is redeemed once, by any of these or by a visitor who left.
    assert all(isinstance(it, Person | ProviderRefused) for it in ended)
    assert (await come_back(acme)).subject == "248289761001"


async def test_answers_that_end_never_or_too_early(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    for reply in (
        Reply(b"5\r\nabcde\r\n", 200, {"transfer-encoding": "chunked"}),
        Reply(b"zz\r\n", 200, {"transfer-encoding": "chunked"}),
        Reply(b"{}", 200, {"content-length": "9"}),
    ):
        server.replies[TOKEN] = reply
        with pytest.raises(ProviderUnavailable):
            await come_back(acme)


@pytest.mark.parametrize("path", [TOKEN, USERINFO])
@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", 204),
        Reply(b'\xef\xbb\xbf{"sub": "248289761001"}'),
        Reply(b'{"sub": "248289761001", "name": "\xff"}'),
        Reply(b'{"sub": "248289761001", "name": "\\ud800"}'),
        Reply(b'"text"'),
        Reply(b"null"),
    ],
    ids=["204", "BOM", "UTF-8", "surrogate", "text", "null"],
)
async def test_bodies_that_are_no_objects(
    server: OpenIDServer, acme: RemoteUpstream, path: str, reply: Reply
) -> None:
    server.claims["name"] = None
    server.replies[path] = reply
    with pytest.raises(ProviderAnswerRefused):
        await come_back(acme)


def test_no_secret_is_in_the_text_of_an_object(server: OpenIDServer) -> None:
    acme = upstreams_of(acme=server.options()).find("acme")
    shown = (acme, acme.provider, acme.provider.options, acme._exchange, flow_of(), Callback("abc"))
    text = " ".join(map(repr, shown)) + repr(vars(acme.provider)) + repr(vars(acme))
    assert CLIENT_SECRET not in text
    assert "abc" not in repr(Callback("abc"))
    for secret in (flow_of().verifier, flow_of().nonce, flow_of().state):
        assert secret not in text


async def test_a_provider_that_is_away_comes_back(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.away()
    with pytest.raises(ProviderUnavailable):
        await come_back(acme)
    server.back()
    acme.endpoints._backoff.record_success()  # instead of a second of waiting
    assert (await come_back(acme)).subject == "248289761001"


async def test_metadata_that_was_read_outlives_an_outage(
    server: OpenIDServer, acme: RemoteUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await come_back(acme)
    server.replies[OPENID] = Reply({}, 500)
    monkeypatch.setattr(acme.endpoints, "_stale_at", 0.0)
    assert (await come_back(acme)).subject == "248289761001"
    assert server.asked[OPENID] == 2


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": None},
        {"token_endpoint": 7},
        {"token_endpoint": "ftp://127.0.0.1/"},
        {"token_endpoint": "http://10.0.0.1/"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": None},
        {"id_token_signing_alg_values_supported": ["HS256", "none"]},
    ],
    ids=str,
)
async def test_metadata_that_cannot_be_used(
    server: OpenIDServer, acme: RemoteUpstream, change: Claims
) -> None:
    server.metadata |= change
    with pytest.raises(ProviderUnavailable):
        await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)


@pytest.mark.parametrize("issuer", ["https://evil.example", "", None])
async def test_the_issuer_of_the_answer_must_be_that_of_the_provider(
    server: OpenIDServer, acme: RemoteUpstream, issuer: str | None
) -> None:
    flow = flow_of()
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(visit, url)
    with pytest.raises(ProviderAnswerRefused) as caught:
        await acme.person(Callback(found["code"], issuer), flow, redirect_uri=REDIRECT_URI)
    assert caught.value.reason == "iss"
    assert server.asked[TOKEN] == 0  # the code and the verifier stay here


async def test_an_answer_without_an_issuer_if_the_provider_does_not_promise_one(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.metadata["authorization_response_iss_parameter_supported"] = False
    server.sends_issuer = False
    assert (await come_back(acme)).subject == "248289761001"


async def test_keys_that_rotate_during_a_visit(server: OpenIDServer, acme: RemoteUpstream) -> None:
    await come_back(acme)
    server.key = forgery.new_key()
    server.publish(server.key)
    keys = acme.id_tokens.keys(await acme.endpoints.current())
    keys._read_at = None  # instead of ten seconds of waiting
    assert (await come_back(acme)).subject == "248289761001"
    assert server.asked[JWKS] == 2


async def test_an_unknown_key_does_not_cause_a_read_each_time(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    await come_back(acme)
    server.make_token = lambda claims: server.signed(claims, key=forgery.new_key())
    for _ in range(5):
        with pytest.raises(ProviderAnswerRefused):
            await come_back(acme)
    assert server.asked[JWKS] == 1


async def test_keys_that_cannot_be_read(server: OpenIDServer, acme: RemoteUpstream) -> None:
    server.replies[JWKS] = Reply(b"<html>", 200)
    with pytest.raises(ProviderUnavailable):
        await come_back(acme)


async def test_the_hash_of_the_access_token(server: OpenIDServer, acme: RemoteUpstream) -> None:
    server.token_response["access_token"] = "the-access-token"
    digest = hashlib.sha256(b"the-access-token").digest()[:16]
    server.claims["at_hash"] = forgery.b64(digest)
    assert (await come_back(acme)).subject == "248289761001"


async def test_an_rsa_key(server: OpenIDServer, acme: RemoteUpstream) -> None:
    server.key = forgery.new_key("RS256")
    server.publish(server.key)
    assert (await come_back(acme)).subject == "248289761001"


async def test_userinfo_fills_in_what_the_token_lacks(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.claims |= {"email": None, "email_verified": None, "name": None}
    server.userinfo |= {"email": "jane@example.com", "email_verified": True, "name": "Jane"}
    server.token_response["access_token"] = "the-access-token"
    person = await come_back(acme)
    assert (person.email, person.email_verified, person.name) == ("jane@example.com", True, "Jane")
    assert server.sent_headers["Authorization"] == "Bearer the-access-token"


async def test_userinfo_does_not_verify_the_address_of_the_token(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.claims["email_verified"] = None
    server.userinfo |= {"email": "mallory@example.com", "email_verified": True}
    person = await come_back(acme)
    assert (person.email, person.email_verified) == ("jane@example.com", False)


@pytest.mark.parametrize("subject", ["another", "", None, 248289761001, ["248289761001"]])
async def test_userinfo_of_another_subject_is_refused(
    server: OpenIDServer, acme: RemoteUpstream, subject: object
) -> None:
    server.claims["name"] = None
    server.userinfo["sub"] = subject
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(acme)
    assert caught.value.reason == "userinfo sub"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(b"<html>"), ProviderAnswerRefused),
        (Reply({"sub": "248289761001"}, 401), ProviderAnswerRefused),
        (Reply(b'{"sub": "248289761001", "sub": "x"}'), ProviderAnswerRefused),
        (Reply(b"", 302, {"location": "http://127.0.0.1:1/"}), ProviderAnswerRefused),
        (Reply({}, 503), ProviderUnavailable),
        (Reply(b" " * (10 << 20)), ProviderUnavailable),
    ],
)
async def test_userinfo_that_cannot_be_read(
    server: OpenIDServer, acme: RemoteUpstream, reply: Reply, error: type[Exception]
) -> None:
    server.claims["name"] = None
    server.replies[USERINFO] = reply
    with pytest.raises(error):
        await come_back(acme)


@pytest.mark.parametrize(
    "verified", ["true", "True", 1, "1", None, [True], {"a": True}, False], ids=repr
)
async def test_only_true_verifies_an_address(
    server: OpenIDServer, acme: RemoteUpstream, verified: object
) -> None:
    server.claims["email_verified"] = verified
    assert not (await come_back(acme)).email_verified


@pytest.mark.parametrize(
    "email",
    ["", "jane", "jane@example.com, admin@example.com", "Jane <jane@example.com>", 7, [], "a@b@c",
     "jane@example.com\n", "jane@localhost", "x" * 250 + "@example.com"],
)  # fmt: skip
async def test_text_that_is_no_address_is_no_address(
    server: OpenIDServer, acme: RemoteUpstream, email: object
) -> None:
    server.claims["email"] = email
    person = await come_back(acme)
    assert (person.email, person.email_verified, person.is_authoritative) == (None, False, False)


@pytest.mark.parametrize(
    ("email", "verified", "is_authoritative"),
    [
        ("jane@example.com", True, True),
        ("jane@EXAMPLE.com", True, True),
        ("jane@example.com", False, False),
        ("jane@example.com.evil.example", True, False),
        ("jane@sub.example.com", True, False),
        ("example.com@evil.example", True, False),
    ],
)
async def test_trusted_domains(
    server: OpenIDServer, email: str, verified: bool, is_authoritative: bool
) -> None:
    server.claims |= {"email": email, "email_verified": verified}
    options = server.options(trusted_email_domains="example.com")
    acme = upstreams_of(acme=options).find("acme")
    assert (await come_back(acme)).is_authoritative is is_authoritative
    await acme.close()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("<b>Jane</b>", "<b>Jane</b>"),  # pages escape it
        (" Jane \r\n\t Doe ", "Jane Doe"),
        ("x" * 10_000, "x" * 200),
        ("\u200b", None),
        ("", None),
        (7, None),
        ({"first": "Jane"}, None),
        ("Jane\u0000", None),
    ],
)
async def test_names(
    server: OpenIDServer, acme: RemoteUpstream, given: object, name: str | None
) -> None:
    # NUL makes the JSON invalid, so that one is refused as a whole.
    server.claims["name"] = given
    if given == "Jane\u0000":
        with pytest.raises(ProviderAnswerRefused):
            await come_back(acme)
        return
    assert (await come_back(acme)).name == name


async def test_a_step_up_asks_for_a_new_login(server: OpenIDServer, acme: RemoteUpstream) -> None:
    flow = flow_of(FlowIntent.STEP_UP)
    url = await acme.authorization_url(flow, redirect_uri=REDIRECT_URI)
    query = parse_qs(urlsplit(url).query)
    assert (query["max_age"], query["prompt"]) == (["0"], ["login"])
    person = await come_back(acme, flow)
    assert person.auth_time is not None
    assert now() - person.auth_time < timedelta(minutes=1)


@pytest.mark.parametrize("age", [None, 301, 3600])
async def test_a_step_up_without_a_recent_login_is_refused(
    server: OpenIDServer, acme: RemoteUpstream, age: int | None
) -> None:
    server.claims["auth_time"] = None if age is None else seconds(now()) - age
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(acme, flow_of(FlowIntent.STEP_UP))
    assert caught.value.reason == "id_token auth_time"


async def test_a_login_passes_on_when_the_person_authenticated(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.claims["auth_time"] = seconds(now()) - 3600
    person = await come_back(acme)
    assert person.auth_time is not None
    assert seconds(person.auth_time) == server.claims["auth_time"]


@pytest.mark.parametrize(
    ("claims", "is_proved"),
    [
        ({"amr": ["pwd", "mfa"]}, True),
        ({"acr": "urn:two"}, True),
        ({"amr": ["pwd"]}, False),
        ({"amr": "mfa"}, False),
        ({"amr": {"mfa": True}}, False),
        ({"acr": "urn:one"}, False),
        ({"acr": ["urn:two"]}, False),
        ({}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("trusts", [True, False])
async def test_second_factors_of_the_provider(
    server: OpenIDServer, claims: Claims, is_proved: bool, trusts: bool
) -> None:
    server.claims |= claims | {"auth_time": seconds(now())}
    server.userinfo |= {"amr": ["mfa"]}  # only the ID token counts
    options = server.options(trust_mfa=trusts, mfa_acr="urn:two")
    acme = upstreams_of(acme=options).find("acme")
    assert (await come_back(acme)).has_proved_mfa is (is_proved and trusts)
    await acme.close()


@pytest.mark.parametrize("age", [None, 12 * 3600 + 60])
async def test_an_old_second_factor_is_asked_for_again_at_the_provider(
    server: OpenIDServer, age: int | None
) -> None:
    server.claims |= {"amr": ["mfa"], "auth_time": age and seconds(now()) - age}
    acme = upstreams_of(acme=server.options(trust_mfa=True)).find("acme")
    url = await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    assert parse_qs(urlsplit(url).query)["max_age"] == ["43200"]
    with pytest.raises(ProviderAnswerRefused):
        await come_back(acme)
    await acme.close()


async def test_a_provider_that_refuses_pkce(server: OpenIDServer) -> None:
    acme = upstreams_of(acme=server.options(pkce=False)).find("acme")
    url = await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    assert "code_challenge" not in url
    assert (await come_back(acme)).subject == "248289761001"
    assert "code_verifier" not in server.forms[0]
    await acme.close()


async def test_a_public_client_sends_its_id(server: OpenIDServer) -> None:
    acme = upstreams_of(acme=server.options(client_secret=None)).find("acme")
    with pytest.raises(ProviderRefused):  # this provider requires a secret
        await come_back(acme)
    assert server.forms[0]["client_id"] == CLIENT_ID
    assert "client_secret" not in server.forms[0]
    await acme.close()


async def test_connections_after_the_end_are_new_ones(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    await come_back(acme)
    await acme.close()
    assert (await come_back(acme)).subject == "248289761001"


def test_another_event_loop(server: OpenIDServer) -> None:
    acme = upstreams_of(acme=server.options()).find("acme")

    async def twice() -> str:
        person = await come_back(acme)
        await acme.close()
        return person.subject

    assert [asyncio.run(twice()) for _ in range(2)] == ["248289761001"] * 2
