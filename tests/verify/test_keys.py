"""The key cache: when keys are read, how often, and what is valid during an outage."""

import asyncio
import logging
from datetime import timedelta

import pytest

from authapi.errors import ConfigurationError
from authapi.testing import Client
from authapi.verify import KeyCache, RemoteJWT
from tests.crypto import forgery
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import AUDIENCE, JWKS, METADATA, Issuer, Reply

MINUTE, HOUR, DAY = 60, 3600, 86400


async def status(api: Client, token: str) -> int:
    return (await api.get("/who", headers=bearer(token))).status_code


async def settled() -> None:
    """Waits for reads in the background."""
    while others := [t for t in asyncio.all_tasks() if t.get_name().startswith("keys of")]:
        await asyncio.wait(others)


async def test_concurrent_first_requests_share_one_read(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.away()
    async with trusting() as api:  # an unavailable issuer does not fail the start
        issuer.back()
        clock.move(1)
        issuer.may_answer.clear()
        token = issuer.token()
        waiting = [asyncio.create_task(status(api, token)) for _ in range(50)]
        await issuer.is_asked()
        issuer.may_answer.set()
        assert await asyncio.gather(*waiting) == [200] * 50
    assert issuer.asked == {METADATA: 1, JWKS: 1}


async def test_disconnected_client_does_not_cancel_the_read(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.away()
    async with trusting() as api:
        issuer.back()
        clock.move(1)
        issuer.may_answer.clear()
        first = asyncio.create_task(status(api, issuer.token()))
        await issuer.is_asked()
        second = asyncio.create_task(status(api, issuer.token()))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        issuer.may_answer.set()
        assert await second == 200
    assert issuer.asked[JWKS] == 1


async def test_unknown_keys_trigger_a_limited_number_of_reads(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting() as api:
        assert issuer.asked[JWKS] == 1
        for number in range(100):
            made_up = issuer.token(header={"kid": f"made up {number}"})
            assert await status(api, made_up) == 401
        assert issuer.asked[JWKS] == 1, "they were read a moment ago"
        clock.move(10)
        answers = [status(api, issuer.token(header={"kid": f"another {n}"})) for n in range(50)]
        assert await asyncio.gather(*answers) == [401] * 50
        assert issuer.asked[JWKS] == 2
        assert await status(api, issuer.token()) == 200
        for _ in range(6):
            clock.move(5)
            assert await status(api, issuer.token(header={"kid": "made up"})) == 401
        assert issuer.asked[JWKS] == 5
    assert issuer.asked[METADATA] == 1


async def test_new_key_is_read_when_a_token_uses_it(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting() as api:
        new = forgery.new_key()
        issuer.publish(issuer.key, new)
        clock.move(10)
        assert await status(api, issuer.token(key=new)) == 200
        assert await status(api, issuer.token()) == 200
    assert issuer.asked[JWKS] == 2


async def test_withdrawn_key_is_rejected_after_the_next_read(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.publish(issuer.key, cache_control="public, max-age=120")
    async with trusting() as api:
        token, next_key = issuer.token(), forgery.new_key()
        assert await status(api, token) == 200
        issuer.publish(next_key, cache_control="public, max-age=120")
        clock.move(89)
        assert await status(api, token) == 200, "known from memory, and its time is not over"
        assert issuer.asked[JWKS] == 1
        clock.move(1)
        assert await status(api, token) == 200, "beside this request they are read"
        await settled()
        assert issuer.asked[JWKS] == 2
        assert await status(api, token) == 401, "also if it is known from memory"
        assert await status(api, issuer.token(key=next_key)) == 200
    assert issuer.asked[JWKS] == 2


async def test_stale_keys_are_read_before_a_token_is_accepted(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    issuer.publish(issuer.key, cache_control="max-age=120")
    async with trusting() as api:
        token = issuer.token()
        assert await status(api, token) == 200
        issuer.publish(forgery.new_key())
        clock.move(120)
        assert await asyncio.gather(*[status(api, token) for _ in range(20)]) == [401] * 20
    assert issuer.asked[JWKS] == 2


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("max-age=600", 600),
        ("public, MAX-AGE=600, immutable", 600),
        ("max-age=1", MINUTE),
        ("no-store", MINUTE),
        ("max-age=99999999999999999999", 300),
        ("max-age=999999999", HOUR),
        ("max-age=soon", 300),
        ("", 300),
    ],
    ids=range(8),
)
async def test_keys_are_cached_within_the_bounds_of_max_age(
    issuer: Issuer, clock: Clock, trusting: Open, told: str, kept: int
) -> None:
    issuer.publish(issuer.key, cache_control=told)
    async with trusting() as api:
        clock.move(kept * 0.75 - 1)
        assert await status(api, issuer.token(exp=forgery.NOW + DAY)) == 200
        await settled()
        assert issuer.asked[JWKS] == 1
        clock.move(1)
        assert await status(api, issuer.token(exp=forgery.NOW + DAY)) == 200
        await settled()
    assert issuer.asked[JWKS] == 2


async def test_cached_keys_stay_valid_during_an_outage(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting() as api:
        known, unknown = (
            issuer.token(exp=forgery.NOW + 3 * DAY),
            issuer.token(header={"kid": "new"}),
        )
        assert await status(api, known) == 200
        issuer.away()
        clock.move(2 * HOUR)
        assert await status(api, known) == 200, "what it published goes on being good"
        answer = await api.get("/who", headers=bearer(unknown))
        assert answer.status_code == 503, "neither accepted nor rejected"
        assert answer.json()["code"] == "issuer_unavailable"
        assert answer.headers["retry-after"].isdigit()
        assert "www-authenticate" not in answer.headers
        assert await status(api, issuer.token(aud="other")) == 401, "rejected with the cached keys"
        assert await status(api, "not.a.token") == 401
        clock.move(DAY - 2 * HOUR - 1)
        assert await status(api, known) == 200
        await settled()
        clock.move(1)
        assert await status(api, known) == 503, "but not for ever"
        issuer.back()
        clock.move(MINUTE)
        assert await status(api, known) == 200
        assert (
            await status(api, issuer.token(exp=forgery.NOW + 3 * DAY, header={"kid": "n"})) == 401
        )


async def test_unavailable_issuer_is_retried_with_backoff(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.replies[METADATA] = Reply("sorry", 500)
    waits = []
    async with trusting() as api:
        token = issuer.token(exp=forgery.NOW + HOUR)
        for _ in range(9):
            asked = issuer.asked[METADATA]
            answers = [await api.get("/who", headers=bearer(token)) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {503}
            assert issuer.asked[METADATA] == asked, "all that came meanwhile"
            waits.append(int(answers[0].headers["retry-after"]))
            clock.move(waits[-1])
            assert await status(api, token) == 503
            assert issuer.asked[METADATA] == asked + 1
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    told = [record for record in caplog.records if record.name == "authapi.verify"]
    assert {record.levelno for record in told} == {logging.WARNING}
    assert vars(told[0])["cause"] == "status 500"


async def test_empty_key_set_rejects_all_tokens(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    # An issuer withdraws all keys to revoke all tokens in an emergency.
    async with trusting() as api:
        assert await status(api, issuer.token()) == 200
        issuer.publish()
        clock.move(300)
        assert await status(api, issuer.token()) == 401
        issuer.publish(issuer.key)
        clock.move(10)
        assert await status(api, issuer.token()) == 200


async def test_keys_with_a_duplicate_kid_are_ignored(issuer: Issuer, trusting: Open) -> None:
    twin, weak = forgery.new_key(), {"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"}
    named_alike = {**twin.verifying.jwk, "kid": issuer.key.verifying.kid}
    for_encryption = {**twin.verifying.jwk, "use": "enc"}
    private = {**twin.verifying.jwk, "d": "AQAB"}
    symmetric = {"kty": "oct", "kid": "k", "k": "AQAB"}
    good = forgery.new_key()
    issuer.publish(*(issuer.key, named_alike, for_encryption, private, symmetric, weak, {}, good))
    async with trusting() as api:
        assert await status(api, issuer.token(exp=1 << 33, iat=1, key=good)) == 200
        assert await status(api, issuer.token(exp=1 << 33, iat=1)) == 401
        assert await status(api, issuer.token(exp=1 << 33, iat=1, key=twin)) == 401


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"<html>"),
        Reply([]),
        Reply({}),
        Reply({"keys": {}}),
        Reply({"keys": None}),
        Reply({"keys": [{}] * 101}),
        Reply(b'{"keys": [], "keys": []}'),
        Reply(b'{"keys": [' + b"[" * 5000),
        Reply(b'{"keys": [], "x": "' + b"x" * 600_000 + b'"}'),
        Reply({"keys": []}, headers={"content-encoding": "gzip"}),
        Reply({"keys": []}, 302, {"location": "http://127.0.0.1:1/"}),
        Reply({"keys": []}, 404),
        Reply({"keys": []}, 206),
    ],
    ids=range(13),
)
async def test_malformed_key_set_counts_as_an_outage(
    issuer: Issuer, clock: Clock, trusting: Open, reply: Reply
) -> None:
    good = issuer.replies[JWKS]
    async with trusting() as api:
        issuer.replies[JWKS] = reply
        clock.move(300)
        assert await status(api, issuer.token()) == 200
        await settled()
        assert await status(api, issuer.token(header={"kid": "new"})) == 503
        issuer.replies[JWKS] = good
        clock.move(1)
        assert await status(api, issuer.token(header={"kid": "new"})) == 401


async def test_read_times_out(issuer: Issuer, trusting: Open) -> None:
    issuer.may_answer.clear()
    impatient = KeyCache(timeout=timedelta(milliseconds=50))
    async with trusting(RemoteJWT(issuer.url, AUDIENCE, cache=impatient)) as api:
        assert await status(api, issuer.token(iat=1, exp=1 << 33)) == 503


async def test_stop_cancels_a_read(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    async with trusting() as api:
        issuer.may_answer.clear()
        clock.move(299)
        assert await status(api, issuer.token()) == 200, "beside this request they are read"
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("keys of")] == []


@pytest.mark.parametrize(
    "times",
    [
        {"least": timedelta(0)},
        {"timeout": timedelta(seconds=-1)},
        {"least": timedelta(hours=2)},
        {"outage": timedelta(minutes=30)},
    ],
    ids=range(4),
)
def test_contradictory_cache_times_are_rejected(times: dict[str, timedelta]) -> None:
    with pytest.raises(ConfigurationError, match="KeyCache"):
        KeyCache(**times)
