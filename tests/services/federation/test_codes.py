"""One-time codes: what they are good for, once, and for how long, on both databases."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta

import anyio
import pytest
import time_machine

from authapi.clock import now
from authapi.errors import EmailNeeded, InvalidCredentials, LoginExpired, LoginFlowInvalid
from authapi.services.federation.codes import IssuedCode
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login, Proved
from tests.services.authenticators import add_authenticator
from tests.services.federated_people import (
    a_flow,
    a_person,
    begin_session,
    caller_of,
    complete,
)
from tests.services.federation.harness import federation
from tests.services.operations import Harness, new_address


@pytest.fixture
async def harness(database_url: str) -> AsyncIterator[Harness]:
    async with federation(database_url) as found:
        yield found


async def arrived(harness: Harness, **changes: object) -> Proved:
    person = a_person(
        new_address().canonical, email_verified=True, is_authoritative=True, **changes
    )
    return await harness.services.federation.arrivals.arrive(person, a_flow())


async def issue(harness: Harness, proved: Proved) -> IssuedCode:
    return await harness.services.federation.codes.issue(proved, strategy="jwt", remember=True)


async def test_a_code_leads_to_the_login_that_it_was_issued_for(harness: Harness) -> None:
    proved = await arrived(harness, auth_time=now() - timedelta(hours=2))
    code = await issue(harness, proved)
    redeemed = await harness.services.federation.codes.redeem(code.text)
    assert (redeemed.strategy, redeemed.remember) == ("jwt", True)
    assert redeemed.proved.user.id == proved.user.id
    assert (redeemed.proved.auth_time, redeemed.proved.amr) == (proved.auth_time, ("fed",))
    login = await complete(harness.services, redeemed.proved)
    assert isinstance(login, Login)
    session = await begin_session(harness.services, login)
    assert session.auth_time == proved.auth_time
    # Nothing of the account is readable in it.
    raw = base64.urlsafe_b64decode(code.text + "==")
    for text in (str(proved.user.id), proved.user.email, "acme"):
        assert text.encode() not in raw
        assert text not in code.text


async def test_a_flow_gives_one_code(harness: Harness) -> None:
    proved = await arrived(harness)
    await issue(harness, proved)
    with pytest.raises(LoginFlowInvalid):
        await issue(harness, proved)
    login = await complete(harness.services, proved)
    assert isinstance(login, Login)
    with pytest.raises(LoginFlowInvalid):
        await begin_session(harness.services, login)


async def test_of_fifty_uses_of_a_code_one_begins_a_session(harness: Harness) -> None:
    code, ends = await issue(harness, await arrived(harness)), list[str]()

    async def use() -> None:
        try:
            redeemed = await harness.services.federation.codes.redeem(code.text)
            login = await complete(harness.services, redeemed.proved)
            assert isinstance(login, Login)
            await begin_session(harness.services, login)
            ends.append("session")
        except LoginFlowInvalid as error:
            ends.append(error.code)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(use)
    assert sorted(ends) == ["login_flow_invalid"] * 49 + ["session"]


async def test_another_spelling_of_a_code_is_the_same_code(harness: Harness) -> None:
    code = (await issue(harness, await arrived(harness))).text
    raw = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
    spellings = {code, code + "=" * (-len(code) % 4)}
    spellings |= {
        text
        for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        if base64.urlsafe_b64decode((text := code[:-1] + last) + "=" * (-len(text) % 4)) == raw
    }
    ends = []
    for text in sorted(spellings):
        try:
            redeemed = await harness.services.federation.codes.redeem(text)
            login = await complete(harness.services, redeemed.proved)
            assert isinstance(login, Login)
            await begin_session(harness.services, login)
            ends.append("session")
        except LoginFlowInvalid as error:
            ends.append(error.code)
    assert ends.count("session") == 1


async def test_a_code_works_for_a_minute(harness: Harness) -> None:
    at = now()
    with time_machine.travel(at, tick=False):
        code = await issue(harness, await arrived(harness))
        assert code.expires_at - now() == timedelta(seconds=60)
    with time_machine.travel(at + timedelta(seconds=59), tick=False):
        await harness.services.federation.codes.redeem(code.text)
    too_late = time_machine.travel(at + timedelta(seconds=60), tick=False)
    with too_late, pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(code.text)


@pytest.mark.parametrize("text", ["", "x", "é", "A" * 40, "A" * 10_000, "%00", "\ud800"])
async def test_text_that_is_no_code_is_refused(harness: Harness, text: str) -> None:
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(text)


async def test_a_code_of_an_account_that_has_changed_is_refused(harness: Harness) -> None:
    proved = await arrived(harness)
    code = await issue(harness, proved)
    await harness.services.accounts.passwords.set(proved.user.id, "correct horse battery stapler")
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(code.text)
    with pytest.raises(InvalidCredentials):
        await issue(harness, proved)


async def test_a_code_asks_for_the_second_factor(harness: Harness) -> None:
    person = a_person(new_address().canonical, email_verified=True, is_authoritative=True)
    arrive = harness.services.federation.arrivals.arrive
    user = (await arrive(person, a_flow())).user
    app = await add_authenticator(harness.services, await caller_of(harness.services, user))
    code = await issue(harness, await arrive(person, a_flow()))
    redeemed = await harness.services.federation.codes.redeem(code.text)
    pending = await complete(harness.services, redeemed.proved)
    assert isinstance(pending, PendingLogin)
    with pytest.raises(LoginFlowInvalid):
        await complete(harness.services, redeemed.proved)
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(code.text)
    completed = await harness.services.logins.prove_second_factor(
        ticket=pending.ticket, code=app.code()
    )
    assert (await begin_session(harness.services, completed.login)).amr == ("fed", "otp", "mfa")


async def test_a_code_for_an_address_works_once_and_for_a_minute(harness: Harness) -> None:
    codes, at = harness.services.federation.codes, now()
    needed = EmailNeeded(ticket="the ticket", expires_at=at + timedelta(hours=1))
    with time_machine.travel(at, tick=False):
        code, other = codes.issue_for_address(needed), codes.issue_for_address(needed)
        assert "ticket" not in str(base64.urlsafe_b64decode(code.text + "=="))
        with pytest.raises(EmailNeeded) as found:
            await codes.redeem(code.text)
        assert (found.value.ticket, found.value.expires_at) == ("the ticket", needed.expires_at)
        with pytest.raises(LoginFlowInvalid):
            await codes.redeem(code.text)
    too_late = time_machine.travel(at + timedelta(seconds=60), tick=False)
    with too_late, pytest.raises(LoginFlowInvalid):
        await codes.redeem(other.text)


async def test_of_many_uses_of_a_code_for_an_address_one_gets_the_ticket(harness: Harness) -> None:
    codes, ends = harness.services.federation.codes, list[str]()
    code = codes.issue_for_address(EmailNeeded(ticket="x", expires_at=now()))

    async def use() -> None:
        try:
            await codes.redeem(code.text)
        except (EmailNeeded, LoginFlowInvalid) as error:
            ends.append(error.code)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(use)
    assert sorted(ends) == ["email_needed", *["login_flow_invalid"] * 19]


async def test_the_secret_of_a_second_factor_is_no_code(harness: Harness) -> None:
    person = a_person(new_address().canonical, email_verified=True, is_authoritative=True)
    arrive = harness.services.federation.arrivals.arrive
    user = (await arrive(person, a_flow())).user
    await add_authenticator(harness.services, await caller_of(harness.services, user))
    pending = await complete(harness.services, await arrive(person, a_flow()))
    assert isinstance(pending, PendingLogin)
    with pytest.raises(LoginFlowInvalid):
        await harness.services.federation.codes.redeem(pending.ticket or "")
    code = await issue(harness, await arrive(person, a_flow()))
    with pytest.raises(LoginExpired):
        await harness.services.logins.prove_second_factor(ticket=code.text, code="000000")
