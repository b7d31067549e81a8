"""Open WebSockets of two real processes on one database, whose sessions end in the other one."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from authapi.testing import PASSWORD
from tests.servers.forked import Forking
from tests.servers.postgres import PostgresServer
from tests.web.sockets.programs import Account, Processes, processes
from tests.web.websockets import Headers

WITHIN = 30
"""Seconds, for a busy machine. Without a notification, a check follows after a minute only."""
NEW_PASSWORD = "another correct horse battery"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, forking: Forking
) -> Iterator[Processes]:
    """Two processes."""
    folder = tmp_path_factory.mktemp("live")
    if request.param == "sqlite":
        with processes(folder, forking, {}) as found:
            yield found
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("postgres_template")
    name = f"{template}_sockets"
    url = server.create_database(name, template=template)
    with processes(folder, forking, {"AUTHAPI_DATABASE_URL": url}) as found:
        yield found
    server.drop_database(name)


async def closed(socket: ClientConnection, within: float = WITHIN) -> tuple[int, str]:
    """Returns the code and the reason with which the server closes the socket."""
    async with asyncio.timeout(within):
        with pytest.raises(ConnectionClosed) as caught:  # noqa: PT012  # other messages come before
            while True:
                await socket.recv()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


async def echoes(socket: ClientConnection) -> None:
    """Checks that the socket is open."""
    await socket.send("still here")
    assert await socket.recv() == "echo still here"


async def handler_ended(both: Processes, account: Account) -> None:
    """Waits until a handler of this account has ended at the first process."""
    async with asyncio.timeout(WITHIN):
        while account.id not in str(both.watched()["ended"]):  # noqa: ASYNC110  # in another process
            await asyncio.sleep(0.01)


# What ends a session ------------------------------------------------------------------------------

Act = Callable[[Processes, Account, Headers], Any]


def log_out(both: Processes, account: Account, headers: Headers) -> None:
    both.act("POST", "/logout", headers)


def end_all_others(both: Processes, account: Account, headers: Headers) -> None:
    both.act("DELETE", "/me/sessions", both.login(account, "session"))


def end_by_another_device(both: Processes, account: Account, headers: Headers) -> None:
    session_id = both.act("GET", "/me/identity", headers).json()["session_id"]
    both.act("DELETE", f"/me/sessions/{session_id}", both.login(account, "jwt"))


def change_password_elsewhere(both: Processes, account: Account, headers: Headers) -> None:
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    both.act("POST", "/me/password", both.login(account, "session"), json=body)


def deactivate(both: Processes, account: Account, headers: Headers) -> None:
    both.act("POST", f"/staff/deactivate/{account.id}", {})


def delete(both: Processes, account: Account, headers: Headers) -> None:
    both.act("POST", f"/staff/delete/{account.id}", {})


def end_by_staff(both: Processes, account: Account, headers: Headers) -> None:
    both.act("POST", f"/staff/end_sessions/{account.id}", {})


ACTS: tuple[Act, ...] = (
    *(log_out, end_all_others, end_by_another_device, change_password_elsewhere),
    *(deactivate, delete, end_by_staff),
)


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
async def test_the_end_of_a_session_in_another_process_closes_its_socket(
    both: Processes, act: Act, strategy: str
) -> None:
    account, other = both.account(), both.account()
    headers = both.login(account, strategy)
    async with both.open(headers) as (socket,), both.open(both.login(other, strategy)) as (kept,):
        act(both, account, headers)
        assert await closed(socket) == (4401, "session_ended")
        await handler_ended(both, account)
        await echoes(kept)


async def test_own_change_of_the_password_closes_the_socket_of_the_old_cookie(
    both: Processes,
) -> None:
    account = both.account()
    headers = both.login(account, "session")
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    async with both.open(headers) as (socket,):
        response = both.act("POST", "/me/password", headers, json=body)
        assert await closed(socket) == (4401, "session_ended")
    renewed = {"Cookie": response.headers["set-cookie"].partition(";")[0]}
    async with both.open(renewed) as (socket,):
        await echoes(socket)


async def test_personal_token_ends_its_sockets_alone(both: Processes) -> None:
    account = both.account()
    session = both.login(account, "session")
    created = both.act("POST", "/me/tokens", session, json={"name": "robot"}).json()
    token = {"Authorization": f"Bearer {created['access_token']}"}
    async with both.open(token) as (socket,), both.open(session) as (kept,):
        both.act("DELETE", f"/me/tokens/{created['id']}", session)
        assert await closed(socket) == (4401, "session_ended")
        await echoes(kept)


async def test_revoked_token_ends_its_sockets(both: Processes) -> None:
    headers = both.login(both.account(), "token")
    token = headers["Authorization"].removeprefix("Bearer ")
    async with both.open(headers) as (socket,):
        both.act("POST", "/token/revoke", {}, data={"token": token})
        assert await closed(socket) == (4401, "session_ended")


async def test_changes_that_end_no_session_close_nothing(both: Processes) -> None:
    account = both.account()
    for strategy in ("session", "token", "jwt"):
        headers = both.login(account, strategy)
        async with both.open(headers) as (socket,):
            both.act("PATCH", "/me", headers, json={"name": strategy})
            if strategy != "token":
                both.act("DELETE", "/me/sessions", headers)
            with pytest.raises(TimeoutError):
                await closed(socket, within=0.7)
            await echoes(socket)


# Many sockets -------------------------------------------------------------------------------------


async def test_200_sockets_end_together_and_200_others_stay(both: Processes) -> None:
    account, other = both.account(), both.account()
    headers, kept = both.login(account, "session"), both.login(other, "jwt")
    async with both.open(headers, times=200) as ending, both.open(kept, times=200) as staying:
        assert both.watched()["open"] == 400
        log_out(both, account, headers)
        began = time.monotonic()
        results = await asyncio.gather(*(closed(socket, 2 * WITHIN) for socket in ending))
        assert set(results) == {(4401, "session_ended")}
        assert time.monotonic() - began < 2 * WITHIN
        await asyncio.gather(*map(echoes, staying))
        assert both.watched()["open"] == 200
    async with asyncio.timeout(WITHIN):
        while both.watched()["open"]:  # noqa: ASYNC110  # in another process
            await asyncio.sleep(0.01)


async def test_client_that_does_not_read_holds_no_other_socket(both: Processes) -> None:
    account = both.account()
    headers = both.login(account, "session")
    async with both.open(headers, "/flood") as (flooded,), both.open(headers, times=20) as sockets:
        flooded.transport.pause_reading()
        await flooded.send("begin")
        await asyncio.sleep(0.1)  # until the buffers of the connection are full
        log_out(both, account, headers)
        results = await asyncio.gather(*map(closed, sockets))
        assert set(results) == {(4401, "session_ended")}
        flooded.transport.abort()
    await handler_ended(both, account)


# Other ways to write a handler --------------------------------------------------------------------


async def test_handler_that_sends_all_the_time_ends_cleanly(both: Processes) -> None:
    account = both.account()
    headers = both.login(account, "jwt")
    async with both.open(headers, "/both") as (socket,):
        log_out(both, account, headers)
        assert await closed(socket) == (4401, "session_ended")


async def test_streamed_response_ends_with_the_session(both: Processes) -> None:
    account = both.account()
    headers = both.login(account, "session")
    lines: list[str] = []
    async with (
        httpx.AsyncClient(base_url=both.first.origin, trust_env=False) as client,
        asyncio.timeout(2 * WITHIN),
        client.stream("GET", "/stream", headers=headers) as response,
    ):
        async for line in response.aiter_lines():
            if not lines:
                log_out(both, account, headers)
            lines.append(line)
    assert lines[0] == "tick"
    assert lines[-1] == "over"


async def test_client_that_leaves_is_forgotten(both: Processes) -> None:
    account = both.account()
    async with both.open(both.login(account, "session")) as (socket,):
        await echoes(socket)
    await handler_ended(both, account)
