"""Opaque tokens of another issuer, by token introspection (RFC 7662)."""

import asyncio
import base64
import logging
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from authapi.errors import ConfigurationError
from authapi.testing import Client
from authapi.verify import RemoteIntrospection, RemoteJWT
from tests.crypto import forgery
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import AUDIENCE, INTROSPECT, SUBJECT, Issuer, Reply

NOW = forgery.NOW
CANARY = "canary-of-our-own-credential"


def active(**claims: object) -> Reply:
    return Reply({"active": True, "sub": SUBJECT, "token_type": "Bearer", **claims})


def strategy(server: Issuer, /, **options: Any) -> RemoteIntrospection:
    return RemoteIntrospection(server.url + INTROSPECT, SecretStr(CANARY), **options)


async def status(api: Client, token: str = "good", path: str = "/who") -> int:
    return (await api.get(path, headers=bearer(token))).status_code


async def test_request_follows_rfc_7662(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    issuer.replies[INTROSPECT] = active(scope="orders:read", exp=NOW + 60)
    async with trusting(strategy(issuer)) as api:
        assert await status(api, path="/orders") == 200
        seen = (await api.get("/who", headers=bearer("good"))).json()
    assert (seen["user_id"], seen["strategy"], seen["scopes"]) == (
        SUBJECT,
        "token",
        ["orders:read"],
    )
    assert issuer.forms == [{"token": "good"}]
    assert issuer.credentials == [f"Bearer {CANARY}"]


@pytest.mark.parametrize(
    ("credential", "sent"),
    [
        ((SUBJECT, CANARY), f"{SUBJECT}:{CANARY}"),
        ((SUBJECT, SecretStr(CANARY)), f"{SUBJECT}:{CANARY}"),
        ((SecretStr("id"), SecretStr(CANARY)), f"id:{CANARY}"),
        # RFC 6749, section 2.3.1 and appendix B.
        (("a:b c", "ä/%+&"), "a%3Ab+c:%C3%A4%2F%25%2B%26"),
    ],
)
async def test_client_id_and_secret_are_sent_as_basic(
    issuer: Issuer, clock: Clock, trusting: Open, credential: Any, sent: str
) -> None:
    issuer.replies[INTROSPECT] = active()
    asking = RemoteIntrospection(issuer.url + INTROSPECT, credential)
    assert CANARY not in repr(vars(asking).get("credential"))
    async with trusting(asking) as api:
        assert await status(api) == 200
    assert issuer.credentials == ["Basic " + base64.b64encode(sent.encode()).decode()]
    assert issuer.forms == [{"token": "good"}]


@pytest.mark.parametrize(
    "credential", [("", "x"), ("x", ""), (), ("x",), ("x", "y", "z"), (SecretStr(""), "x")]
)
def test_invalid_client_credentials_are_rejected(credential: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a client id and a secret"):
        RemoteIntrospection("https://auth.example/i", credential)


async def test_jwts_are_introspected_if_enabled(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    jwt = issuer.token()
    issuer.replies[INTROSPECT] = active(exp=NOW + 60)
    async with trusting(strategy(issuer)) as api:
        assert await status(api, jwt) == 401
        assert issuer.asked[INTROSPECT] == 0
    asking = strategy(issuer, jwts=True)
    async with trusting(asking) as api:
        for token in (jwt, "a.b.c", "opaque"):
            assert await status(api, token) == 200
            assert await status(api, token) == 200, "by memory"
        assert [form["token"] for form in issuer.forms] == [jwt, "a.b.c", "opaque"]
        issuer.replies[INTROSPECT] = Reply({"active": False})
        clock.move(10)
        assert await status(api, jwt) == 401, "a logout is heard"
    assert asking.openapi()["description"] == "Token issued by the issuer that this service trusts."


async def test_first_strategy_handles_a_jwt(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    issuer.replies[INTROSPECT] = active()
    both = (RemoteJWT(issuer.url, AUDIENCE), strategy(issuer, issuer=issuer.url, jwts=True))
    issuer.replies[INTROSPECT] = active(iss=issuer.url)
    async with trusting(*both) as api:
        assert await status(api, issuer.token()) == 200
        assert issuer.asked[INTROSPECT] == 0
        assert await status(api, "opaque") == 200
        assert issuer.asked[INTROSPECT] == 1


async def test_concurrent_requests_share_one_response_that_is_cached(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.replies[INTROSPECT] = active(exp=NOW + 15)
    issuer.may_answer.clear()
    async with trusting(strategy(issuer)) as api:
        waiting = [asyncio.create_task(status(api)) for _ in range(50)]
        await issuer.is_asked()
        issuer.may_answer.set()
        assert await asyncio.gather(*waiting) == [200] * 50
        assert issuer.asked[INTROSPECT] == 1
        clock.move(9)
        assert await status(api) == 200
        assert issuer.asked[INTROSPECT] == 1
        clock.move(1)
        assert await status(api) == 200
        assert issuer.asked[INTROSPECT] == 2
        issuer.replies[INTROSPECT] = Reply({"active": False})
        clock.move(5)
        assert await status(api) == 401, "expired, although it is cached"


async def test_revoked_token_is_rejected_after_cache_for(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.replies[INTROSPECT] = active()
    async with trusting(strategy(issuer)) as api:
        assert await status(api) == 200
        issuer.replies[INTROSPECT] = Reply({"active": False})
        clock.move(10)
        assert await status(api) == 401
        for _ in range(20):
            assert await status(api) == 401
        assert issuer.asked[INTROSPECT] == 2, "a refusal is kept as well"
        clock.move(5)
        assert await status(api) == 401
        assert issuer.asked[INTROSPECT] == 3


async def test_cache_for_zero_disables_the_cache(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.replies[INTROSPECT] = active()
    async with trusting(strategy(issuer, cache_for=timedelta(0))) as api:
        for _ in range(3):
            assert await status(api) == 200
    assert issuer.asked[INTROSPECT] == 3


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"active": False}),
        Reply({"active": False, "sub": SUBJECT}),
        active(token_type="refresh_token"),
        active(token_type="N_A"),
        active(token_type=7),
        active(exp=NOW),
        active(exp="soon"),
        active(sub=None),
        active(sub=7),
        active(scope=7),
        active(email=7),
    ],
    ids=range(11),
)
async def test_inactive_and_other_token_types_are_rejected(
    issuer: Issuer, clock: Clock, trusting: Open, reply: Reply
) -> None:
    issuer.replies[INTROSPECT] = reply
    async with trusting(strategy(issuer)) as api:
        answer = await api.get("/who", headers=bearer("bad"))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].endswith('error="invalid_token"')


async def test_token_type_issuer_and_audience_are_checked(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    cases: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        ({}, {"token_type": None}, 401),
        ({}, {"token_type": "bearer"}, 200),
        ({"audience": "orders"}, {}, 401),
        ({"audience": "orders"}, {"aud": "order"}, 401),
        ({"audience": "orders"}, {"aud": {"orders": 1}}, 401),
        ({"audience": "orders"}, {"aud": "orders"}, 200),
        ({"audience": {"a", "orders"}}, {"aud": ["b", "orders"]}, 200),
        ({"issuer": issuer.url}, {}, 401),
        ({"issuer": issuer.url}, {"iss": issuer.url + "/"}, 401),
        ({"issuer": issuer.url}, {"iss": issuer.url}, 200),
    ]
    for options, claims, expected in cases:
        issuer.replies[INTROSPECT] = active(**claims)
        async with trusting(strategy(issuer, **options)) as api:
            assert await status(api) == expected, (options, claims)


@pytest.mark.parametrize(
    "reply",
    [
        Reply("sorry", 500),
        Reply("slow down", 429),
        Reply({"active": True, "sub": SUBJECT}, 201),
        Reply({"active": True, "sub": SUBJECT}, 404),
        Reply({"active": True}, 302, {"location": "/"}),
        Reply(b"<html>"),
        Reply([]),
        Reply({}),
        Reply({"active": "true"}),
        Reply({"active": 1}),
        Reply({"active": None}),
        Reply(b'{"active": false, "active": true}'),
    ],
    ids=range(12),
)
async def test_malformed_response_counts_as_an_outage(
    issuer: Issuer, clock: Clock, trusting: Open, reply: Reply
) -> None:
    issuer.replies[INTROSPECT] = reply
    async with trusting(strategy(issuer)) as api:
        answer = await api.get("/who", headers=bearer("good"))
        assert (answer.status_code, answer.json()["code"]) == (503, "issuer_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert await status(api, "another") == 503
        assert issuer.asked[INTROSPECT] == 1, "it is left in peace for a second"
        issuer.replies[INTROSPECT] = active()
        clock.move(1)
        assert await status(api) == 200


@pytest.mark.parametrize("code", [400, 413, 414, 422, 431])
async def test_rejected_request_does_not_start_the_backoff(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def answer(form: dict[str, str]) -> Reply:
        is_good = form["token"] == "good"
        return active() if is_good else Reply({"error": "invalid_request", "active": True}, code)

    issuer.replies[INTROSPECT] = answer
    async with trusting(strategy(issuer, cache_for=timedelta(0))) as api:
        for number in range(5):
            refused = await api.get("/who", headers=bearer(f"strange-{number}"))
            assert (refused.status_code, refused.json()["code"]) == (503, "issuer_unavailable")
            assert await status(api) == 200
        lines = [record for record in caplog.records if record.name == "authapi.verify"]
        assert len(lines) == 1, "a stranger could fill the log"
        assert "strange" not in caplog.text


async def test_task_cancelled_before_its_first_step_is_removed(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.replies[INTROSPECT] = active()
    asking = strategy(issuer)
    async with trusting(asking) as api:
        waiting = asyncio.create_task(status(api))
        while not asking._in_flight:  # noqa: ASYNC110  # one turn of the loop later is too late
            await asyncio.sleep(0)
        [task] = asking._in_flight.values()
        await asking.stop()  # in the same iteration of the loop in which it was created
        assert task.cancelled()
        assert issuer.asked[INTROSPECT] == 0
        assert asking._in_flight == {}
        assert await waiting == 503
        assert await status(api) == 200, "the same token is asked about again"


@pytest.mark.parametrize("code", [401, 403])
async def test_rejected_own_credential_is_an_outage(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    caplog.set_level("DEBUG")
    issuer.replies[INTROSPECT] = Reply({"error": "invalid_token"}, code)
    async with trusting(strategy(issuer)) as api:
        assert await status(api, "canary-of-a-caller") == 503
    assert logging.ERROR in [record.levelno for record in caplog.records]
    assert "canary" not in caplog.text
    assert "canary" not in str([vars(record) for record in caplog.records])


async def test_unavailable_endpoint(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    issuer.replies[INTROSPECT] = active()
    async with trusting(strategy(issuer)) as api:
        assert await status(api) == 200
        issuer.away()
        assert await status(api) == 200, "for ten seconds"
        clock.move(10)
        assert await status(api) == 503


async def test_endpoint_times_out(issuer: Issuer, trusting: Open) -> None:
    issuer.may_answer.clear()
    async with trusting(strategy(issuer, timeout=timedelta(milliseconds=50))) as api:
        assert await status(api) == 503


async def test_malformed_tokens_are_not_introspected(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting(strategy(issuer)) as api:
        for token in ("", "a b", 'a"b', "a,b", "a=b", "a.b.c", "é"):
            headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
            raw = [(name.encode(), value) for name, value in headers.items()]
            assert (await api.get("/who", headers=raw)).status_code == 401, token
        assert (await api.get("/who")).status_code == 401
    assert issuer.asked[INTROSPECT] == 0


async def test_invented_tokens_do_not_evict_cached_identities(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    def answer(form: dict[str, str]) -> Reply:
        return active() if form["token"] == "good" else Reply({"active": False})

    issuer.replies[INTROSPECT] = answer
    asking = strategy(issuer, known_callers=5)
    async with trusting(asking) as api:
        assert await status(api) == 200
        for number in range(20):
            assert await status(api, f"made-up-{number}") == 401
        assert (len(asking._active), len(asking._inactive)) == (1, 5)
        issuer.away()
        assert await status(api) == 200


async def test_concurrent_requests_are_limited(
    issuer: Issuer, clock: Clock, trusting: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("authapi.verify.introspection.MAX_CONNECTIONS", 3)
    issuer.replies[INTROSPECT] = active()
    issuer.may_answer.clear()
    async with trusting(strategy(issuer)) as api:
        waiting = [asyncio.create_task(status(api, f"token-{n}")) for n in range(3)]
        await issuer.is_asked()
        assert await status(api, "one-more") == 503
        issuer.may_answer.set()
        assert await asyncio.gather(*waiting) == [200] * 3
        assert await status(api, "one-more") == 200


@pytest.mark.parametrize(
    "options",
    [
        {"credential": ""},
        {"credential": "a\r\nX: y"},
        {"cache_for": timedelta(minutes=6)},
        {"cache_for": timedelta(seconds=-1)},
        {"timeout": timedelta(0)},
        {"audience": ()},
        {"issuer": "http://auth.example"},
    ],
    ids=range(7),
)
def test_invalid_introspection_options_are_rejected(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RemoteIntrospection("https://auth.example/i", **{"credential": "c", **options})
