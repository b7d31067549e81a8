"""Writes of one account are limited, except those that its owner needs against a thief."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from fastapi.routing import APIRoute

from authapi import Settings, create_app
from authapi.crypto.ids import new_id
from authapi.domain.user import User
from authapi.errors import TooManyRequests
from authapi.services.rate_limits import RateLimits
from authapi.testing import PASSWORD, Client, client
from authapi.web.requirements import gates_of
from authapi.web.routes.units import UNITS
from authapi.web.routing import ProtectedRoute
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.servers.valkey import ValkeyServer
from tests.web.logins import Headers, sign_in
from tests.web.responses import check_headers, problem

NEW = "another good long passphrase"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
READING = {("POST", "/token/introspect")}
"""Routes with a method other than GET that change nothing."""


def test_every_writing_route_declares_its_limit() -> None:
    counted = dict[str, set[str | None]]()
    for unit in UNITS.values():
        for route in unit.routes:
            if not isinstance(route, ProtectedRoute) or not isinstance(route, APIRoute):
                continue
            [method] = (route.methods or set()) - {"HEAD"}
            found = {gate.requirements.writes for gate in gates_of(route.dependant)}
            if method == "GET" or (method, route.path) in READING:
                assert found == {None}, route.path
            else:
                counted.setdefault(f"{method} {route.path}", set()).update(found)
    assert counted
    assert not [name for name, ways in counted.items() if None in ways or not ways]
    assert sorted(name for name, ways in counted.items() if ways == {"uncounted"}) == [
        *("DELETE /me", "DELETE /me/sessions", "DELETE /me/sessions/{session_id}"),
        *("DELETE /me/tokens/{token_id}", "POST /logout"),
        "POST /me/tokens",  # counted by its own gate, if it creates a token other than a JWT
    ]


async def rename(api: Client, headers: Headers, name: str = "Alice") -> httpx.Response:
    return await api.patch("/me", json={"name": name}, headers=headers)


async def _session_data(api: Client, headers: Headers) -> httpx.Response:
    return await api.patch("/me/session", json={"theme": "dark"}, headers=headers)


async def _token(api: Client, headers: Headers) -> httpx.Response:
    return await api.post("/me/tokens", json={"name": "script"}, headers=headers)


async def _address(api: Client, headers: Headers) -> httpx.Response:
    return await api.post("/me/email", json={"email": "next@example.com"}, headers=headers)


async def _password(api: Client, headers: Headers) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": PASSWORD}  # rejected for another reason
    return await api.post("/me/password", json=body, headers=headers)


async def _reauthenticate(api: Client, headers: Headers) -> httpx.Response:
    return await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=headers)


Change = Callable[[Client, Headers], Awaitable[httpx.Response]]
BY_ACCOUNT: tuple[Change, ...] = (rename, _session_data, _token, _address)


@pytest.fixture
def three(database_url: str) -> Settings:
    """Three writes a minute."""
    return Settings(database_url=database_url, limit_writes="3/minute")  # type: ignore[arg-type]


async def number_of_events(api: Client, user: User) -> int:
    return len(await api.services.audit.page(user.id, before=None, limit=100))


async def test_fourth_write_is_rejected_until_the_window_ends(three: Settings) -> None:
    async with client(create_app(three)) as api:
        with travel_to(NOON) as clock:
            alice = await api.create_user("alice@example.com")
            headers = await sign_in(api.services, alice)
            for name in ("a", "b", "c"):
                assert (await rename(api, headers, name)).status_code == 200
            events = await number_of_events(api, alice)
            for _ in range(5):
                answer = await rename(api, headers, "d")
                problem(answer, 429, "too_many_requests")
                check_headers(answer)
                assert answer.headers["retry-after"] == "60"
            assert (await api.get("/me", headers=headers)).json()["name"] == "c"
            assert await number_of_events(api, alice) == events
            # Other accounts are not affected.
            bob = await sign_in(api.services, await api.create_user())
            assert (await rename(api, bob)).status_code == 200
            clock.shift(timedelta(seconds=60))
            assert (await rename(api, headers, "d")).status_code == 200


@pytest.mark.parametrize("change", BY_ACCOUNT, ids=lambda change: change.__name__)
async def test_all_writes_of_an_account_share_one_limit(
    make_settings: SettingsFactory, change: Change
) -> None:
    async with client(create_app(make_settings(limit_writes="3/minute"))) as api:
        with travel_to(NOON):
            user = await api.create_user()
            headers = await sign_in(api.services, user)
            assert (await change(api, headers)).status_code < 300
            for strategy in ("jwt", "token"):
                other = await sign_in(api.services, user, strategy)
                assert (await rename(api, other)).status_code == 200
            problem(await change(api, headers), 429, "too_many_requests")
            problem(await rename(api, headers), 429, "too_many_requests")


@pytest.mark.parametrize("change", [_password, _reauthenticate], ids=lambda one: one.__name__)
async def test_writes_that_require_the_password_count_by_session(
    make_settings: SettingsFactory, change: Change
) -> None:
    async with client(create_app(make_settings(limit_writes="3/minute"))) as api:
        with travel_to(NOON):
            user = await api.create_user()
            mine, other = [await sign_in(api.services, user, "jwt") for _ in range(2)]
            for _ in range(3):
                assert (await change(api, mine)).status_code in (204, 422)
            problem(await change(api, mine), 429, "too_many_requests")
            assert (await change(api, other)).status_code in (204, 422)


async def test_writes_with_basic_authentication_count(make_settings: SettingsFactory) -> None:
    settings = make_settings(limit_writes="3/minute", strategies=("session", "basic"))
    async with client(create_app(settings)) as api:
        with travel_to(NOON):
            user = await api.create_user()
            codes = [
                (
                    await api.patch("/me", json={"name": "A"}, auth=(user.email, PASSWORD))
                ).status_code
                for _ in range(4)
            ]
            assert codes == [200, 200, 200, 429]


async def test_owner_can_end_the_session_of_a_thief_who_exhausted_the_limit(
    three: Settings,
) -> None:
    async with client(create_app(three)) as api:
        with travel_to(NOON):
            user = await api.create_user()
            thief, owner = [await sign_in(api.services, user) for _ in range(2)]
            token = (await _token(api, owner)).json()["id"]
            while (await rename(api, thief)).status_code == 200:
                pass
            problem(await rename(api, owner), 429, "too_many_requests")
            assert (await api.get("/me", headers=owner)).status_code == 200
            answer = await api.delete(f"/me/tokens/{token}", headers=owner)
            assert answer.status_code == 204
            assert (await api.delete("/me/sessions", headers=owner)).status_code == 204
            assert (await api.get("/me", headers=thief)).status_code == 401
            body = {"current_password": PASSWORD, "new_password": NEW}
            answer = await api.post("/me/password", json=body, headers=owner)
            assert answer.status_code == 204
            renewed = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
            assert (await api.delete("/me", headers=renewed)).status_code == 204


async def test_writes_of_superusers_count_by_session(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(limit_writes="3/minute"))) as api:
        with travel_to(NOON):
            root = await api.create_user(is_superuser=True)
            users = [await api.create_user() for _ in range(4)]
            one, two = [await sign_in(api.services, root) for _ in range(2)]
            paths = [f"/admin/users/{user.id}" for user in users]
            codes = [(await api.delete(path, headers=one)).status_code for path in paths]
            assert codes == [204, 204, 204, 429]
            assert (await api.delete(paths[3], headers=two)).status_code == 204


async def test_default_limit_bounds_1500_writes() -> None:
    subject, user_id, waits = RateLimits(Settings()), new_id(), list[int]()
    for _ in range(1500):
        try:
            await subject.consume_write(user_id)
        except TooManyRequests as refusal:
            waits.append(refusal.retry_after)
    assert len(waits) == 900
    assert 1 <= min(waits) <= max(waits) <= 60


async def test_processes_share_the_write_limit(valkey: ValkeyServer) -> None:
    settings = Settings(limit_writes="2/minute", redis_url=valkey.url)  # type: ignore[arg-type]
    one, two, user_id = RateLimits(settings), RateLimits(settings), new_id()
    await one.consume_write(user_id)
    await two.consume_write(user_id)
    for subject in (one, two):
        with pytest.raises(TooManyRequests):
            await subject.consume_write(user_id)
        await subject.close()
