"""Guesses of others at an account, however many, keep its owner neither out nor from acting."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa
import time_machine
from sqlalchemy import event

from authapi import Settings
from authapi.testing import PASSWORD
from tests.security.peers import WRONG, Service, guess, serving, told
from tests.storage.rows import sql

OWNER = "owner@example.com"
HOME, HOME_OF_SIX, ABROAD = "192.0.2.1", "2001:db8:0:1::1", "198.51.100.1"
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
def looked(service: Service) -> Counted:
    return looks(service)


def looks(service: Service) -> Counted:
    """How often it is looked up from now on where an account was logged in from."""
    seen: list[str] = []

    def note(_c: object, _k: object, statement: str, *_: object) -> None:
        if "events.network" in statement and "users.email" in statement:
            seen.append(statement)

    engine = service.api.services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    return lambda: len(seen)


async def use_up(service: Service, email: str = OWNER) -> None:
    """Wrong guesses from one network each, until the account is closed to strangers."""
    for number in range(6):
        assert (await guess(service.at(f"203.0.113.{number}"), email)).status_code == 401
    assert (await guess(service.at("203.0.113.99"), email)).status_code == 429


@pytest.mark.parametrize(
    ("before", "after"), [(HOME, HOME), (HOME_OF_SIX, "2001:db8:0:1:ffff::2")], ids=["v4", "v6"]
)
async def test_v6_1_1_the_owner_gets_in_from_where_they_were_before(
    service: Service, looked: Counted, before: str, after: str
) -> None:
    assert (await guess(service.at(before), OWNER, PASSWORD)).status_code == 200
    assert looked() == 0
    await use_up(service)
    assert looked() == 1  # for the last one, which was refused
    assert (await guess(service.at(ABROAD), OWNER, PASSWORD)).status_code == 429
    assert (await guess(service.at(after), OWNER, PASSWORD)).status_code == 200


async def test_the_other_limits_hold_at_home(service: Service) -> None:
    assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
    await use_up(service)
    answers = [(await guess(service.at(HOME), OWNER)).status_code for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 429


async def test_a_network_is_home_for_ninety_days(service: Service) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
        clock.shift(timedelta(days=90, seconds=-1))
        await use_up(service)
        assert (await guess(service.at(HOME), OWNER)).status_code == 401
        clock.shift(2)
        assert (await guess(service.at(HOME), OWNER)).status_code == 429


async def test_only_a_login_makes_a_network_home_and_only_for_its_account(
    service: Service,
) -> None:
    other = await service.api.create_user("other@example.com")
    # A wrong password, a login to another account, and no address at all.
    assert (await guess(service.at(HOME), OWNER)).status_code == 401
    assert (await guess(service.at(ABROAD), other.email, PASSWORD)).status_code == 200
    assert (await guess(service.at(None), OWNER, PASSWORD)).status_code == 200
    for number in range(5):
        assert (await guess(service.at(f"203.0.113.{number}"), OWNER)).status_code == 401
    for ip in (HOME, ABROAD, None):
        assert (await guess(service.at(ip), OWNER, PASSWORD)).status_code == 429


async def test_a_network_stays_home_however_often_others_log_in_elsewhere(
    service: Service,
) -> None:
    assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
    elsewhere = service.at(ABROAD)
    for _ in range(40):
        assert (await guess(elsewhere, OWNER, PASSWORD)).status_code == 200
    await use_up(service)
    assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200


async def test_basic_makes_a_network_home_and_says_so_once_a_day(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        limit_account="6/hour",
        strategies="basic,token",  # type: ignore[arg-type]
        default_strategy="token",
    )
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        script = service.at(HOME)
        for _ in range(3):
            assert (await script.get("/me", auth=(OWNER, PASSWORD))).status_code == 200
        events = sql(service.database, "SELECT strategy, network FROM events WHERE type = 'login'")
        assert [tuple(row) for row in events] == [("basic", HOME)]
        await use_up(service)
        assert (await script.get("/me", auth=(OWNER, PASSWORD))).status_code == 200
        abroad = service.at(ABROAD)
        assert (await abroad.get("/me", auth=(OWNER, PASSWORD))).status_code == 429


async def test_those_who_use_up_everybodys_limit_keep_nobody_out_at_home(
    database_url: str,
) -> None:
    settings = Settings(database_url=database_url, limit_total="6/hour")  # type: ignore[arg-type]
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
        await use_up(service, "nobody@example.com")
        assert (await guess(service.at(ABROAD), OWNER, PASSWORD)).status_code == 429
        assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
        # Home of one account is not home of another.
        assert (await guess(service.at(HOME), "nobody@example.com")).status_code == 429


async def test_a_network_may_ask_no_more_often_than_it_may_guess(database_url: str) -> None:
    settings = Settings(
        database_url=database_url,  # type: ignore[arg-type]
        limit_account="6/hour",
        limit_network="8/hour",
    )
    async with serving(settings) as service:
        looked = looks(service)
        await service.api.create_user(OWNER)
        await use_up(service)
        before = looked()
        for _ in range(20):
            assert (await guess(service.at(ABROAD), OWNER)).status_code == 429
        assert looked() == before + 8


async def test_the_password_of_somebody_logged_in_counts_for_the_network_too(
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
            moved = service.at(ABROAD)
            moved.cookies.update(visitor.cookies)
            answers.append((await moved.post("/me/password", json=wrong)).status_code)
        assert answers == [403] * 4 + [429] * 2


async def test_an_address_without_account_is_answered_alike_for_the_same_work(
    service: Service, looked: Counted
) -> None:
    assert (await guess(service.at(HOME), OWNER, PASSWORD)).status_code == 200
    refusals = []
    for email in (OWNER, "nobody@example.com"):
        await use_up(service, email)
        before = looked()
        refusals.append(told(await guess(service.at(ABROAD), email, WRONG)))
        assert looked() == before + 1
    assert refusals[0] == refusals[1]


async def test_the_password_can_be_changed_while_strangers_guess(service: Service) -> None:
    visitor = service.at(ABROAD)
    assert (await log_in(visitor)).status_code == 200
    await use_up(service)
    for _ in range(10):
        assert (await guess(visitor, OWNER)).status_code in (401, 429)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await visitor.post("/me/password", json=body)).status_code == 204


async def test_guesses_with_a_stolen_session_are_limited_and_stop_no_other(
    service: Service,
) -> None:
    thief, owner = service.at(HOME), service.at(HOME)
    assert (await log_in(thief)).status_code == 200
    assert (await log_in(owner)).status_code == 200
    sql(service.database, "DELETE FROM events")
    wrong = {"current_password": WRONG, "new_password": NEW}
    # The limit on one account, from all of its sessions together, is the smaller one here.
    answers = [(await thief.post("/me/password", json=wrong)).status_code for _ in range(8)]
    assert answers == [403] * 6 + [429] * 2
    assert (await guess(owner, OWNER, PASSWORD)).status_code == 200


async def test_each_session_has_a_count_of_its_own(database_url: str) -> None:
    settings = Settings(database_url=database_url, limit_account_and_network="3/minute")  # type: ignore[arg-type]
    async with serving(settings) as service:
        await service.api.create_user(OWNER)
        thief, owner = service.at(HOME), service.at(HOME)
        await log_in(thief)
        await log_in(owner)
        wrong = {"current_password": WRONG, "new_password": NEW}
        answers = [(await thief.post("/me/password", json=wrong)).status_code for _ in range(5)]
        assert answers == [403] * 3 + [429] * 2
        right = {"current_password": PASSWORD, "new_password": NEW}
        assert (await owner.post("/me/password", json=right)).status_code == 204


# How PostgreSQL gets at rows depends on how many there were: other tests have had none of these.
@pytest.mark.parametrize("fresh", ["sqlite_url", "fresh_postgres_url"])
async def test_the_look_is_by_index(request: pytest.FixtureRequest, fresh: str) -> None:
    settings = Settings(database_url=request.getfixturevalue(fresh))
    query = (
        "SELECT id FROM events WHERE user_id = (SELECT id FROM users WHERE email = 'x') "
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
        assert "ix_events_user_id_type_network_id" in str(plan.all())


async def log_in(visitor: httpx.AsyncClient, email: str = OWNER) -> httpx.Response:
    return await visitor.post("/login", json={"email": email, "password": PASSWORD})
