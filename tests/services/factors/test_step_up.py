"""Step-up by a code or a recovery code, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from authapi.clock import now
from authapi.crypto.factors.totp import matching_steps
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.client import Client, on_behalf_of
from authapi.domain.events import EventType
from authapi.domain.identity import Identity
from authapi.domain.session import SessionKind
from authapi.errors import InvalidCredential, NotFound, TooManyAttempts, WrongCode
from authapi.services.factors import proofs
from authapi.services.factors.proofs import MAX_FAILURES
from tests.clocks import travel_to
from tests.services.authenticators import add_authenticator, wrong_code
from tests.services.operations import Harness, Person, open_harness
from tests.web.mailbox import mail_kinds

STEP = timedelta(seconds=30)


async def identify(harness: Harness, cookie: str) -> Identity | None:
    return await harness.services.sessions.identify_by_secret(
        hash_secret(cookie), SessionKind.SESSION, strategy="session"
    )


async def refused(harness: Harness, person: Person) -> list[EventType]:
    events = await harness.services.audit.page(person.id, before=None, limit=200)
    return [event.type for event in events if event.outcome == "refused"]


@pytest.mark.parametrize("by", ["code", "recovery_code"])
async def test_a_code_renews_the_second_factor_of_the_session(harness: Harness, by: str) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        app = await add_authenticator(harness.services, person.caller)
        weak = replace(app.caller, amr=("pwd",))
        async with harness.services.database.transaction() as store:
            assert weak.mfa_at is not None
            await store.sessions.set_mfa(person.session_id, mfa_at=weak.mfa_at, amr=weak.amr)
        clock.shift(10 * STEP)
        cookie = new_secret()
        code: dict[str, Any] = {by: app.code(0) if by == "code" else app.recovery_codes[0]}
        await harness.services.factors.step_up.prove(
            weak, **code, new_secret_hash=hash_secret(cookie)
        )
        caller = await identify(harness, cookie)
        assert caller is not None
        method = "otp" if by == "code" else "recovery"
        assert caller.amr == ("pwd", method, "mfa")
        assert (caller.mfa_at, caller.auth_time) == (now(), person.caller.auth_time)
        events = await harness.services.audit.page(person.id, before=None, limit=9)
        [event] = [event for event in events if event.type is EventType.REAUTHENTICATED]
        assert (event.detail, event.session_id) == ({"amr": [method]}, person.session_id)
        # The old secret has ended, also for a caller who is authenticated already.
        with pytest.raises(InvalidCredential):
            await harness.services.sessions.end_others(app.caller)
        # A method that the session has proved before is named once.
        clock.shift(STEP)
        await harness.services.factors.step_up.prove(caller, code=app.code(0), new_secret_hash=None)
        again = await identify(harness, cookie)
        assert again is not None
        assert again.amr == (*caller.amr, *(() if by == "code" else ("otp",)))
        assert again.mfa_at == now()


@pytest.mark.parametrize(("offset", "is_right"), [(-2, 0), (-1, 0), (0, 0), (1, 1), (2, 0)])
async def test_steps_are_accepted_in_increasing_order(
    harness: Harness, offset: int, is_right: int
) -> None:
    person = await harness.person()
    with travel_to(now()):
        app = await add_authenticator(harness.services, person.caller)  # uses step 0
        prove = harness.services.factors.step_up.prove
        if is_right:
            await prove(app.caller, code=app.code(offset), new_secret_hash=None)
        else:
            with pytest.raises(WrongCode):
                await prove(app.caller, code=app.code(offset), new_secret_hash=None)


async def test_a_code_of_the_step_before_is_accepted_later(harness: Harness) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        app = await add_authenticator(harness.services, person.caller)
        clock.shift(2 * STEP)
        await harness.services.factors.step_up.prove(
            app.caller, code=app.code(-1), new_secret_hash=None
        )


@pytest.mark.parametrize("by", ["code", "recovery_code"])
async def test_of_many_uses_of_one_code_one_succeeds(harness: Harness, by: str) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    code: dict[str, Any] = {by: app.code() if by == "code" else app.recovery_codes[0]}
    # From a network that the account knows, more attempts are allowed at once than 5.
    calls = (
        harness.services.factors.step_up.prove(app.caller, **code, new_secret_hash=None)
        for _ in range(50)
    )
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert found.count(None) == 1
    kinds = {type(one) for one in found if one is not None}
    assert kinds <= {WrongCode, TooManyAttempts, InvalidCredential}
    if by == "recovery_code":
        assert (await mail_kinds(harness.services, person.user.email)).count(
            "recovery_code_used"
        ) == 1


async def test_wrong_codes_are_refused_recorded_and_limited(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    calls = (
        harness.services.factors.step_up.prove(
            app.caller, code=wrong_code(app), new_secret_hash=None
        )
        for _ in range(50)
    )
    kinds = [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)]
    assert (kinds.count(WrongCode), kinds.count(TooManyAttempts)) == (5, 45)
    found = await refused(harness, person)
    assert found.count(EventType.REAUTHENTICATION_REFUSED) == 5
    assert EventType.THROTTLED in found
    # A recovery code cannot be guessed, so it works all the same.
    await harness.services.factors.step_up.prove(
        app.caller, recovery_code=app.recovery_codes[0], new_secret_hash=None
    )


async def test_a_known_network_has_more_attempts(harness: Harness) -> None:
    person = await harness.person()
    with on_behalf_of(lambda: Client(ip="192.0.2.7")):
        await harness.create_session(person.login, SessionKind.TOKEN)
        app = await add_authenticator(harness.services, person.caller)
        calls = (
            harness.services.factors.step_up.prove(
                app.caller, code=wrong_code(app), new_secret_hash=None
            )
            for _ in range(50)
        )
        kinds = [type(one) for one in await asyncio.gather(*calls, return_exceptions=True)]
    assert (kinds.count(WrongCode), kinds.count(TooManyAttempts)) == (20, 30)


async def count_failures(harness: Harness, person: Person, number: int) -> None:
    async with harness.services.database.transaction() as store:
        factor = await store.totp_factors.find(person.id)
        assert factor is not None
        for _ in range(number):
            assert await store.totp_factors.count_attempt(factor.id, limit=number) is not None


async def test_after_many_wrong_codes_the_app_is_closed_until_a_recovery_code(
    harness: Harness,
) -> None:
    person = await harness.person()
    with travel_to(now()) as clock:
        app = await add_authenticator(harness.services, person.caller)
        await count_failures(harness, person, MAX_FAILURES)
        clock.shift(STEP)
        prove = harness.services.factors.step_up.prove
        with pytest.raises(WrongCode):
            await prove(app.caller, code=app.code(0), new_secret_hash=None)
        assert "second_factor_refused" in await mail_kinds(harness.services, person.user.email)
        secret = new_secret()
        await prove(
            app.caller, recovery_code=app.recovery_codes[0], new_secret_hash=hash_secret(secret)
        )
        caller = await identify(harness, secret)
        assert caller is not None
        await prove(caller, code=app.code(0), new_secret_hash=None)


async def test_of_many_codes_at_once_no_more_are_compared_than_the_app_allows(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def comparing(secret: bytes, code: str, timestamp: float) -> list[int]:
        compared.append(code)
        return matching_steps(secret, code, timestamp)

    async with open_harness(database_url, limit_second_factor="1000/minute") as harness:
        person = await harness.person()
        app = await add_authenticator(harness.services, person.caller)
        await count_failures(harness, person, MAX_FAILURES - 3)
        monkeypatch.setattr(proofs, "matching_steps", comparing)
        prove = harness.services.factors.step_up.prove
        guesses = (prove(app.caller, code=wrong_code(app), new_secret_hash=None) for _ in range(30))
        found = await asyncio.gather(*guesses, return_exceptions=True)
        assert {type(one) for one in found} == {WrongCode}
        assert len(compared) == 3
        with pytest.raises(WrongCode):
            await prove(app.caller, code=app.code(), new_secret_hash=None)


@pytest.mark.parametrize("proof", [{"code": "123456"}, {"recovery_code": "7K2M-Q4XP-9RTD-3WHN"}])
async def test_an_account_without_factors_proves_none(
    harness: Harness, proof: dict[str, Any]
) -> None:
    person = await harness.person()
    with pytest.raises(WrongCode):
        await harness.services.factors.step_up.prove(person.caller, **proof, new_secret_hash=None)
    assert await refused(harness, person) == [EventType.REAUTHENTICATION_REFUSED]


async def test_the_end_of_the_session_uses_no_code_up(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    await harness.services.sessions.end_all(person.id)
    prove = harness.services.factors.step_up.prove
    with pytest.raises(InvalidCredential):
        await prove(app.caller, recovery_code=app.recovery_codes[0], new_secret_hash=None)
    async with harness.services.database.read() as store:
        left = await store.recovery_codes.left(person.id)
    assert left is not None
    assert left.left == 10


async def test_a_factor_that_is_removed_between_check_and_use(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    step_up, changes = harness.services.factors.step_up, harness.services.factors.changes
    use = step_up._use

    async def overtaken(*args: object) -> None:
        await changes.remove_totp(app.caller)
        await use(*args)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(step_up, "_use", overtaken)
    with pytest.raises(WrongCode):
        await step_up.prove(app.caller, code=app.code(), new_secret_hash=None)
    await harness.services.accounts.deletion.delete(person.id)
    with pytest.raises((NotFound, WrongCode)):
        await step_up.prove(app.caller, code=app.code(), new_secret_hash=None)


async def test_a_cookie_that_was_replaced_just_now_does_not_delete_the_new_one(
    harness: Harness,
) -> None:
    person = await harness.person()
    with travel_to(now() + timedelta(minutes=30)) as clock:  # the login is not recent
        app = await add_authenticator(harness.services, person.caller)
        assert app.caller.mfa_at == now()
        with pytest.raises(InvalidCredential) as refusal:
            await identify(harness, person.cookie)
        assert refusal.value.headers == ()
        clock.shift(timedelta(minutes=2))
        assert await identify(harness, person.cookie) is None
