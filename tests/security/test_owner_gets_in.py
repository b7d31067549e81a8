"""Guesses by attackers prevent the owner of an account neither from logging in nor from acting."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa
import time_machine
from sqlalchemy import event

from authapi import Settings
from authapi.testing import PASSWORD
from tests.security.peers import WRONG, Service, comparable, guess, serving
from tests.storage.rows import sql

OWNER = "owner@example.com"
KNOWN, KNOWN_IPV6, ELSEWHERE = "192.0.2.1", "2001:db8:0:1::1", "198.51.100.1"
NEW = "another good long passphrase"
NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)
Counted = Callable[[], int]


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    settings = Settings(database_url=database_url, limit_account="6/hour")  # type: ignore[arg-type]
    async with serving(settings) as found:
        await found.api.create_user(OWNER)
        yield found


@pytest.fixture
def count_of_checks(service: Service) -> Counted:
    return known_network_checks(service)


def known_network_checks(service: Service) -> Counted:
    """Counts the queries for the known networks of an account from now on."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        if "authapi_events.network" in statement and "authapi_users.email" in statement:
            seen.append(statement)

    engine = service.api.services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    return lambda: len(seen)


async def use_up(service: Service, email: str = OWNER) -> None:
    """Wrong guesses from one network each, until the limit of the account is exhausted."""
    for number in range(6):
        assert (await guess(service.at(f"203.0.113.{number}"), email)).status_code == 401
    assert (await guess(service.at("203.0.113.99"), email)).status_code == 429


@pytest.mark.parametrize(
    ("before", "after"), [(KNOWN, KNOWN), (KNOWN_IPV6, "2001:db8:0:1:ffff::2")], ids=["v4", "v6"]
)
async def test_v6_1_1_owner_can_log_in_from_a_known_network(
    service: Service, count_of_checks: Counted, before: str, after: str
) -> None:
    assert (await guess(service.at(before), OWNER, PASSWORD)).status_code == 200
    assert count_of_checks() == 0
    await use_up(service)
    assert count_of_checks() == 1  # for the last attempt, which was rejected
    assert (await guess(service.at(ELSEWHERE), OWNER, PASSWORD)).status_code == 429
    assert (await guess(service.at(after), OWNER, PASSWORD)).status_code == 200


async def test_other_limits_apply_to_known_networks(service: Service) -> None:
    assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
    await use_up(service)
    answers = [(await guess(service.at(KNOWN), OWNER)).status_code for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 429


async def test_network_is_known_for_ninety_days(service: Service) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
        clock.shift(timedelta(days=90, seconds=-1))
        await use_up(service)
        assert (await guess(service.at(KNOWN), OWNER)).status_code == 401
        clock.shift(2)
        assert (await guess(service.at(KNOWN), OWNER)).status_code == 429


async def test_only_a_login_makes_a_network_known_and_only_for_its_account(
    service: Service,
) -> None:
    other = await service.api.create_user("other@example.com")
    # A wrong password, a login to another account, and a client without an address.
    assert (await guess(service.at(KNOWN), OWNER)).status_code == 401
    assert (await guess(service.at(ELSEWHERE), other.email, PASSWORD)).status_code == 200
    assert (await guess(service.at(None), OWNER, PASSWORD)).status_code == 200
    for number in range(5):
        assert (await guess(service.at(f"203.0.113.{number}"), OWNER)).status_code == 401
    for ip in (KNOWN, ELSEWHERE, None):
        assert (await guess(service.at(ip), OWNER, PASSWORD)).status_code == 429


async def test_network_stays_known_despite_logins_from_other_networks(
    service: Service,
) -> None:
    assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
    elsewhere = service.at(ELSEWHERE)
    for _ in range(40):
        assert (await guess(elsewhere, OWNER, PASSWORD)).status_code == 200
    await use_up(service)
    assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200


async def test_basic_makes_a_network_known_and_records_it_once_a_day(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        limit_account="6/hour",
        strategies="basic,token",  # type: ignore[arg-type]
        default_strategy="token",
    )
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        script = service.at(KNOWN)
        for _ in range(3):
            assert (await script.get("/me", auth=(OWNER, PASSWORD))).status_code == 200
        events = sql(
            service.database, "SELECT strategy, network FROM authapi_events WHERE type = 'login'"
        )
        assert [tuple(row) for row in events] == [("basic", KNOWN)]
        await use_up(service)
        assert (await script.get("/me", auth=(OWNER, PASSWORD))).status_code == 200
        abroad = service.at(ELSEWHERE)
        assert (await abroad.get("/me", auth=(OWNER, PASSWORD))).status_code == 429


async def test_exhausted_total_limit_does_not_apply_to_known_networks(
    database_url: str,
) -> None:
    settings = Settings(database_url=database_url, limit_total="6/hour")  # type: ignore[arg-type]
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
        await use_up(service, "unknown@example.com")
        assert (await guess(service.at(ELSEWHERE), OWNER, PASSWORD)).status_code == 429
        assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
        # A known network of one account is not known for another account.
        assert (await guess(service.at(KNOWN), "unknown@example.com")).status_code == 429


async def test_known_network_checks_are_limited_by_network(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        limit_account="6/hour",
        limit_network="8/hour",
    )
    async with serving(settings) as service:
        count_of_checks = known_network_checks(service)
        await service.api.create_user(OWNER)
        await use_up(service)
        before = count_of_checks()
        for _ in range(20):
            assert (await guess(service.at(ELSEWHERE), OWNER)).status_code == 429
        assert count_of_checks() == before + 8


async def test_password_confirmation_counts_for_the_network(
    database_url: str,
) -> None:
    settings = Settings(database_url=database_url, limit_network="4/minute")  # type: ignore[arg-type]
    wrong = {"current_password": WRONG, "new_password": NEW}
    async with serving(settings) as service:
        answers = []
        for number in range(6):
            email = f"thief{number}@example.com"
            await service.api.create_user(email)
            visitor = service.at(f"192.0.2.{number}")
            assert (await log_in(visitor, email)).status_code == 200
            moved = service.at(ELSEWHERE)
            moved.cookies.update(visitor.cookies)
            answers.append((await moved.post("/me/password", json=wrong)).status_code)
        assert answers == [403] * 4 + [429] * 2


async def test_unknown_account_costs_the_same_queries_and_gets_the_same_response(
    service: Service, count_of_checks: Counted
) -> None:
    assert (await guess(service.at(KNOWN), OWNER, PASSWORD)).status_code == 200
    refusals = []
    for email in (OWNER, "unknown@example.com"):
        await use_up(service, email)
        before = count_of_checks()
        refusals.append(comparable(await guess(service.at(ELSEWHERE), email, WRONG)))
        assert count_of_checks() == before + 1
    assert refusals[0] == refusals[1]


async def test_owner_can_change_the_password_while_others_guess(service: Service) -> None:
    visitor = service.at(ELSEWHERE)
    assert (await log_in(visitor)).status_code == 200
    await use_up(service)
    for _ in range(10):
        assert (await guess(visitor, OWNER)).status_code in (401, 429)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await visitor.post("/me/password", json=body)).status_code == 204


async def test_guesses_with_a_stolen_session_do_not_block_other_sessions(
    service: Service,
) -> None:
    thief, owner = service.at(KNOWN), service.at(KNOWN)
    assert (await log_in(thief)).status_code == 200
    assert (await log_in(owner)).status_code == 200
    sql(service.database, "DELETE FROM authapi_events")
    wrong = {"current_password": WRONG, "new_password": NEW}
    # The limit of the account, for all its sessions together, is the lower one here.
    answers = [(await thief.post("/me/password", json=wrong)).status_code for _ in range(8)]
    assert answers == [403] * 6 + [429] * 2
    assert (await guess(owner, OWNER, PASSWORD)).status_code == 200


async def test_each_session_has_its_own_counter(database_url: str) -> None:
    settings = Settings(database_url=database_url, limit_account_and_network="3/minute")  # type: ignore[arg-type]
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        thief, owner = service.at(KNOWN), service.at(KNOWN)
        await log_in(thief)
        await log_in(owner)
        wrong = {"current_password": WRONG, "new_password": NEW}
        answers = [(await thief.post("/me/password", json=wrong)).status_code for _ in range(5)]
        assert answers == [403] * 3 + [429] * 2
        right = {"current_password": PASSWORD, "new_password": NEW}
        assert (await owner.post("/me/password", json=right)).status_code == 204


# The plan of PostgreSQL depends on the number of rows: a fresh database has none of other tests.
@pytest.mark.parametrize("fresh", ["sqlite_url", "fresh_postgres_url"])
async def test_known_network_query_uses_the_index(
    request: pytest.FixtureRequest, fresh: str
) -> None:
    settings = Settings(database_url=request.getfixturevalue(fresh))
    query = (
        "SELECT id FROM authapi_events WHERE user_id ="
        " (SELECT id FROM authapi_users WHERE email = 'x') "
        "AND type = 'login' AND network = '192.0.2.1' LIMIT 1"
    )
    async with (
        serving(settings) as service,
        service.api.services.database.engine.connect() as connection,
    ):
        await service.api.login(await service.api.create_user())
        explain = "EXPLAIN QUERY PLAN"
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.text("SET enable_seqscan = off"))
            explain = "EXPLAIN"
        plan = await connection.execute(sa.text(f"{explain} {query}"))
        assert "ix_authapi_events_user_id_type_network_id" in str(plan.all())


async def log_in(visitor: httpx.AsyncClient, email: str = OWNER) -> httpx.Response:
    return await visitor.post("/login", json={"email": email, "password": PASSWORD})
