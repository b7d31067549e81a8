"""One resource server in several consecutive event loops of one process."""

import asyncio
from datetime import timedelta

import pytest
from fastapi import FastAPI

from authapi.outbound.issuers.keys import KeyCache
from authapi.testing import client
from authapi.verify import RemoteIntrospection, RemoteJWT
from tests.verify.conftest import Clock, application, bearer
from tests.verify.issuer import AUDIENCE, INTROSPECT, JWKS, SUBJECT, Issuer, Reply


def service(issuer: Issuer) -> tuple[FastAPI, RemoteIntrospection]:
    """Returns a resource server for JWTs and opaque tokens, and its introspection strategy."""
    asking = RemoteIntrospection(
        issuer.url + INTROSPECT, "c", issuer=issuer.url, cache_for=timedelta(0)
    )
    keys = KeyCache(least=timedelta(seconds=1), most=timedelta(seconds=1))
    return application(RemoteJWT(issuer.url, AUDIENCE, cache=keys), asking), asking


async def statuses(app: FastAPI, issuer: Issuer) -> set[int]:
    """Sends concurrent requests with both kinds of tokens; returns their statuses."""
    tokens = [*("opaque" + "x" * number for number in range(8)), *[issuer.token()] * 4]
    async with client(app) as api:
        answers = await asyncio.gather(*(api.get("/who", headers=bearer(t)) for t in tokens))
    return {answer.status_code for answer in answers}


@pytest.mark.slow
def test_each_lifespan_opens_its_own_connections(issuer: Issuer, clock: Clock) -> None:
    issuer.replies[INTROSPECT] = Reply({"active": True, "sub": SUBJECT, "iss": issuer.url})
    app, _ = service(issuer)
    for _ in range(5):
        assert asyncio.run(statuses(app, issuer)) == {200}
        clock.move(2)


@pytest.mark.slow
def test_requests_of_a_closed_loop_are_repeated(issuer: Issuer, clock: Clock) -> None:
    issuer.replies[INTROSPECT] = Reply({"active": True, "sub": SUBJECT, "iss": issuer.url})
    app, asking = service(issuer)
    issuer.may_answer.clear()
    loop, opened = asyncio.new_event_loop(), client(app)

    async def ask() -> None:
        issuer.may_answer.set()
        api = await opened.__aenter__()
        issuer.may_answer.clear()
        clock.move(2)
        kept.extend(
            asyncio.create_task(api.get("/who", headers=bearer(token)))
            for token in ("opaque", issuer.token())
        )
        while issuer.asked[INTROSPECT] == 0 or issuer.asked[JWKS] < 2:  # noqa: ASYNC110  # in threads
            await asyncio.sleep(0.001)

    kept: list[asyncio.Task[object]] = []
    loop.run_until_complete(ask())
    assert asking._in_flight
    issuer.may_answer.set()
    try:
        assert asyncio.run(statuses(app, issuer)) == {200}
    finally:
        # Closes the first loop now, and does not leave it to the garbage collector.
        for task in kept:
            task.cancel()
        loop.run_until_complete(asyncio.wait(kept))
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.close()
