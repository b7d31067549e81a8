"""Enrolment of authenticator apps, on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyotp
import pytest
import time_machine

from authapi.clock import now
from authapi.crypto.refresh_tokens import new_refresh_token
from authapi.crypto.secrets import hash_secret, new_secret
from authapi.domain.email_token import Purpose
from authapi.domain.events import Event, EventType
from authapi.domain.factors.values import FactorMethod
from authapi.domain.session import SessionKind
from authapi.errors import (
    AuthAPIError,
    FactorExists,
    InsufficientAuthentication,
    InvalidCredential,
    InvalidGrant,
    InvalidOneTimeSecret,
    MFADisabled,
    NotFound,
    Unavailable,
    UnconfirmedEmail,
    WrongCode,
)
from authapi.services.factors.totp import LIFETIME, MAX_ATTEMPTS
from authapi.services.logins.complete import PendingLogin
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.second_factors import words_of
from tests.services.authenticators import add_authenticator, proved_password, wrong_code
from tests.services.operations import Harness, Person, new_address, open_harness
from tests.web.mailbox import mail_kinds

STEP = timedelta(seconds=30)


async def confirm(harness: Harness, person: Person, code: str) -> Any:
    totp = harness.services.factors.totp
    return await totp.confirm(person.caller, code, new_secret_hash=hash_secret(new_secret()))


async def events(harness: Harness, person: Person, kind: EventType) -> list[Event]:
    found = await harness.services.audit.page(person.id, before=None, limit=100)
    return [event for event in found if event.type is kind]


async def has_mfa(harness: Harness, person: Person) -> bool:
    async with harness.services.database.read() as store:
        user = await store.users.find(person.id)
        assert user is not None
        factor = await store.totp_factors.find(person.id)
        codes = await store.recovery_codes.left(person.id)
    assert user.mfa == (factor is not None) == (codes is not None)
    return user.mfa


async def test_a_confirmed_app_is_the_second_factor_of_account_and_session(
    harness: Harness,
) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    assert await has_mfa(harness, person)
    assert len(set(app.recovery_codes)) == 10
    caller = app.caller
    assert (caller.amr, caller.acr) == (("pwd", "otp", "mfa"), "urn:authapi:acr:2")
    assert caller.session_id == person.session_id
    assert caller.mfa_at is not None
    assert caller.auth_time == person.caller.auth_time, "a code is no fresh first factor"
    [event] = await events(harness, person, EventType.FACTOR_ADDED)
    assert (event.detail, event.session_id) == ({"method": "totp"}, person.session_id)
    assert (await mail_kinds(harness.services, person.user.email))[-1] == "factor_added"
    # The replaced cookie authenticates no request.
    old = hash_secret(person.cookie)
    identify = harness.services.sessions.identify_by_secret
    with pytest.raises(InvalidCredential) as refused:  # without deleting the new cookie
        await identify(old, SessionKind.SESSION, strategy="session")
    assert refused.value.headers == ()
    with pytest.raises(InvalidCredential):
        await harness.services.factors.changes.remove_totp(person.caller)


async def test_other_logins_end_and_personal_access_tokens_stay(harness: Harness) -> None:
    person = await harness.person()
    await add_authenticator(harness.services, person.caller)
    sessions = await harness.services.sessions.list_for_user(person.id)
    assert [session.id for session in sessions] == [person.session_id]
    assert len(await harness.services.tokens.personal.list_of(person.id)) == 1
    with pytest.raises(InvalidGrant):
        await harness.services.tokens.refresh.refresh(person.refresh)
    identify = harness.services.sessions.identify_by_secret
    opaque = hash_secret(person.opaque)
    assert await identify(opaque, SessionKind.TOKEN, strategy="token") is None


async def test_a_session_of_jwts_ends_with_its_access_token(harness: Harness) -> None:
    person, refresh = await harness.person(), new_refresh_token()
    session = await harness.create_session(person.login, SessionKind.JWT, refresh=refresh)
    times = {"auth_time": session.auth_time, "expires_at": session.expires_at}
    caller = replace(person.caller, strategy="jwt", session_id=session.id, **times)  # type: ignore[arg-type]
    person.caller, totp = caller, harness.services.factors.totp
    secret = (await totp.begin(caller)).secret
    await totp.confirm(caller, pyotp.TOTP(secret).now(), new_secret_hash=None)
    [left] = await harness.services.sessions.list_for_user(person.id)
    assert (left.id, left.amr) == (session.id, ("pwd", "otp", "mfa"))
    assert left.expires_at <= now() + harness.services.settings.jwt_lifetime
    with pytest.raises(InvalidGrant):
        await harness.services.tokens.refresh.refresh(refresh.text)


async def test_the_code_of_the_confirmation_is_used_up(harness: Harness) -> None:
    person, prove = await harness.person(), harness.services.factors.step_up.prove
    with travel_to(now()):
        app = await add_authenticator(harness.services, person.caller)
        with pytest.raises(WrongCode):
            await prove(app.caller, code=app.code(0), new_secret_hash=None)
        await prove(app.caller, code=app.code(), new_secret_hash=None)


async def test_an_unconfirmed_app_gates_nothing(harness: Harness) -> None:
    person = await harness.person()
    await harness.services.factors.totp.begin(person.caller)
    assert not await has_mfa(harness, person)
    proved = await proved_password(harness.services, person.user)
    login = await harness.services.logins.complete(proved, strategy="token", remember=False)
    assert not isinstance(login, PendingLogin)


@pytest.mark.parametrize(
    ("offset", "is_right"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
async def test_the_window_has_three_steps(harness: Harness, offset: int, is_right: bool) -> None:
    person = await harness.person()
    with travel_to(now()):
        secret = (await harness.services.factors.totp.begin(person.caller)).secret
        code = pyotp.TOTP(secret).at(now(), counter_offset=offset)
        if is_right:
            assert len(await confirm(harness, person, f" {code[:3]} {code[3:]} ")) == 10
        else:
            with pytest.raises(WrongCode):
                await confirm(harness, person, code)
    assert await has_mfa(harness, person) is is_right


async def test_of_several_matching_steps_the_greatest_is_used_up(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await harness.person()
    await harness.services.factors.totp.begin(person.caller)
    monkeypatch.setattr("authapi.services.factors.proofs.matching_steps", lambda *_: [70, 71, 72])
    await confirm(harness, person, "123456")
    async with harness.services.database.read() as store:
        factor = await store.totp_factors.find(person.id)
    assert factor is not None
    assert factor.last_step == 72


@pytest.mark.parametrize("text", ["", "12345", "１２３４５６", "abcdef", "123456\x00"])
async def test_other_texts_are_wrong_codes(harness: Harness, text: str) -> None:
    person = await harness.person()
    await harness.services.factors.totp.begin(person.caller)
    with pytest.raises(WrongCode):
        await confirm(harness, person, text)


async def test_full_width_digits_of_the_right_code_are_wrong(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    wide = pyotp.TOTP(secret).now().translate({48 + n: 0xFF10 + n for n in range(10)})
    assert pyotp.TOTP(secret).verify(wide, valid_window=1), "pyotp accepts them"
    with pytest.raises(WrongCode):
        await confirm(harness, person, wide)


async def test_an_enrolment_allows_five_codes(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    race = (confirm(harness, person, wrong_code(secret)) for _ in range(50))
    found = await asyncio.gather(*race, return_exceptions=True)
    kinds = [type(one) for one in found]
    assert (kinds.count(WrongCode), kinds.count(NotFound)) == (MAX_ATTEMPTS, 50 - MAX_ATTEMPTS)
    with pytest.raises(NotFound):
        await confirm(harness, person, pyotp.TOTP(secret).now())
    assert not await has_mfa(harness, person)
    # A new enrolment allows five again.
    await add_authenticator(harness.services, person.caller)


async def test_an_enrolment_lives_ten_minutes(harness: Harness) -> None:
    person = await harness.person()
    with time_machine.travel(now(), tick=False) as clock:
        enrolment = await harness.services.factors.totp.begin(person.caller)
        assert enrolment.expires_at == now() + LIFETIME == now() + timedelta(minutes=10)
        clock.shift(LIFETIME)
        with pytest.raises(NotFound):
            await confirm(harness, person, pyotp.TOTP(enrolment.secret).now())
        clock.shift(-timedelta(seconds=1))
        await confirm(harness, person, pyotp.TOTP(enrolment.secret).now())


async def test_an_enrolment_belongs_to_its_session(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    session = await harness.create_session(person.login, SessionKind.TOKEN)
    other = replace(person.caller, session_id=session.id, auth_time=session.auth_time)
    with pytest.raises(NotFound):
        await harness.services.factors.totp.confirm(
            other, pyotp.TOTP(secret).now(), new_secret_hash=None
        )


async def test_an_enrolment_ends_with_a_change_of_the_password(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    async with harness.services.database.transaction() as store:
        # As another session would, which is not the one that began.
        await store.users.set_password(person.id, person.stored, at=now())
    with pytest.raises(NotFound):
        await confirm(harness, person, pyotp.TOTP(secret).now())


async def test_a_newer_enrolment_replaces_an_earlier_one(harness: Harness) -> None:
    person, totp = await harness.person(), harness.services.factors.totp
    first, second = await totp.begin(person.caller), await totp.begin(person.caller)
    assert first.secret != second.secret
    with pytest.raises(WrongCode):
        await confirm(harness, person, pyotp.TOTP(first.secret).now())
    await confirm(harness, person, pyotp.TOTP(second.secret).now())


async def test_two_tabs_at_once_make_one_set_of_codes(harness: Harness) -> None:
    person = await harness.person()
    begin = harness.services.factors.totp.begin
    one, other = [await begin(person.caller) for _ in range(2)]
    codes = [pyotp.TOTP(one.secret).now()] * 2 + [pyotp.TOTP(other.secret).now()] * 48
    found = await asyncio.gather(
        *(confirm(harness, person, code) for code in codes), return_exceptions=True
    )
    assert len([result for result in found if isinstance(result, list)]) == 1
    assert len([result for result in found if isinstance(result, AuthAPIError)]) == 49
    assert await has_mfa(harness, person)


async def test_of_many_confirmations_with_one_code_one_succeeds(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    code = pyotp.TOTP(secret).now()
    calls = (confirm(harness, person, code) for _ in range(50))
    found = await asyncio.gather(*calls, return_exceptions=True)
    [codes] = [one for one in found if isinstance(one, list)]
    assert len(codes) == 10
    refused = {type(one) for one in found if isinstance(one, Exception)}
    assert refused <= {FactorExists, InvalidCredential, NotFound, WrongCode}
    assert len(await events(harness, person, EventType.FACTOR_ADDED)) == 1
    async with harness.services.database.read() as store:
        left = await store.recovery_codes.left(person.id)
    assert left is not None
    assert left.left == 10


async def test_an_account_has_one_app(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    with pytest.raises(FactorExists):
        await harness.services.factors.totp.begin(app.caller)
    with pytest.raises(FactorExists):
        await harness.services.factors.totp.confirm(app.caller, app.code(), new_secret_hash=None)


async def test_a_caller_with_one_factor_adds_none_beside_another(harness: Harness) -> None:
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    weak = replace(app.caller, amr=("pwd",))
    for call in (
        harness.services.factors.totp.begin(weak),
        harness.services.factors.totp.confirm(weak, app.code(), new_secret_hash=None),
    ):
        with pytest.raises(InsufficientAuthentication) as refused:
            await call
        assert (refused.value.acr, refused.value.max_age) == ("urn:authapi:acr:2", None)


async def test_an_ended_session_adds_nothing(harness: Harness) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    await harness.services.sessions.end_all(person.id)
    with pytest.raises(InvalidCredential):
        await harness.services.factors.totp.begin(person.caller)
    with pytest.raises(InvalidCredential):
        await confirm(harness, person, pyotp.TOTP(secret).now())
    await harness.services.accounts.deletion.delete(person.id)
    with pytest.raises(NotFound):
        await confirm(harness, person, pyotp.TOTP(secret).now())


async def test_a_login_under_way_ends(harness: Harness) -> None:
    person = await harness.person()
    proved = await proved_password(harness.services, person.user)
    await add_authenticator(harness.services, person.caller)
    with_factor = await proved_password(harness.services, person.user)
    # The password was verified before the app was added.
    with pytest.raises(AuthAPIError):
        await harness.create_session(person.login, SessionKind.TOKEN)
    stale = replace(proved, user=with_factor.user)
    with pytest.raises(AuthAPIError):
        await harness.services.logins.complete(stale, strategy="token", remember=False)


async def test_a_link_that_changes_the_address_ends(harness: Harness) -> None:
    """A login by password alone may have asked for it."""
    person, email = await harness.person(), new_address()
    link = await harness.link(person, Purpose.CHANGE, email)
    undo = await harness.link(person, Purpose.REVERT_EMAIL_CHANGE)
    app = await add_authenticator(harness.services, person.caller)
    confirm_email = harness.services.accounts.email_changes.confirm_email
    with pytest.raises(InvalidOneTimeSecret):
        await confirm_email(link, password=PASSWORD)
    # Others stay, and links of the login with two factors work.
    await harness.services.accounts.mailed_links.find(undo, Purpose.REVERT_EMAIL_CHANGE)
    await confirm_email(await harness.link(person, Purpose.CHANGE, email), caller=app.caller)


async def test_the_address_must_be_confirmed_where_mail_is_sent(harness: Harness) -> None:
    person = await harness.person(confirmed=False)
    with pytest.raises(UnconfirmedEmail):
        await harness.services.factors.totp.begin(person.caller)


async def test_without_mail_the_address_need_not_be_confirmed(sqlite_url: str) -> None:
    async with open_harness(sqlite_url, mail_url="none:") as harness:
        person = await harness.person(confirmed=False)
        await add_authenticator(harness.services, person.caller)


async def test_the_operator_can_disable_second_factors(sqlite_url: str) -> None:
    async with open_harness(sqlite_url) as harness:
        person = await harness.person()
        app = await add_authenticator(harness.services, person.caller)
    async with open_harness(sqlite_url, mfa="off") as harness:
        other = await harness.person()
        with pytest.raises(MFADisabled):
            await harness.services.factors.totp.begin(other.caller)
        with pytest.raises(MFADisabled):
            await confirm(harness, other, "123456")
        # Accounts that have one are still asked for it, and can remove it.
        proved = await proved_password(harness.services, person.user)
        pending = await harness.services.logins.complete(proved, strategy="token", remember=False)
        assert isinstance(pending, PendingLogin)
        assert pending.methods == [FactorMethod.TOTP, FactorMethod.RECOVERY]
        await harness.services.factors.changes.remove_totp(app.caller)


@pytest.mark.parametrize(
    ("changes", "issuer"),
    [
        ({}, "authapi"),
        ({"mail_from": '"Example: Shop" <no-reply@example.com>'}, "Example Shop"),
        (
            {"mail_from": "no-reply@example.com", "public_url": "https://id.example.com"},
            "id.example.com",
        ),
        ({"totp_issuer": "My Service"}, "My Service"),
    ],
)
async def test_the_name_of_the_service_in_the_app(
    sqlite_url: str, changes: dict[str, Any], issuer: str
) -> None:
    async with open_harness(sqlite_url, **changes) as harness:
        person = await harness.person()
        enrolment = await harness.services.factors.totp.begin(person.caller)
        parsed = pyotp.parse_uri(enrolment.uri)
        assert isinstance(parsed, pyotp.TOTP)
        assert (parsed.issuer, parsed.name) == (issuer, person.user.email)
        assert parsed.secret == enrolment.secret
        assert enrolment.secret not in repr(enrolment)


async def test_the_stored_secret_is_encrypted_and_bound_to_its_row(harness: Harness) -> None:
    person, other = await harness.person(), await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    second = await add_authenticator(harness.services, other.caller)
    async with harness.services.database.transaction() as store:
        mine = await store.totp_factors.find(person.id)
        hers = await store.totp_factors.find(other.id)
        assert mine is not None
        assert hers is not None
        assert app.secret.encode() not in mine.secret
        await store.totp_factors.reencrypt(hers.id, mine.secret)
    with pytest.raises(WrongCode):  # a copied row is no factor of its thief
        await harness.services.factors.step_up.prove(
            second.caller, code=app.code(), new_secret_hash=None
        )


@pytest.mark.parametrize("position", [0, 12, -1])
async def test_a_modified_secret_is_a_wrong_code(harness: Harness, position: int) -> None:
    person = await harness.person()
    secret = (await harness.services.factors.totp.begin(person.caller)).secret
    async with harness.services.database.transaction() as store:
        factor = await store.totp_factors.find_enrolment(person.id, now=now())
        assert factor is not None
        flipped = bytearray(factor.secret)
        flipped[position] ^= 1
        await store.totp_factors.reencrypt(factor.id, bytes(flipped))
    with pytest.raises(WrongCode):
        await confirm(harness, person, pyotp.TOTP(secret).now())


async def test_a_process_with_an_outdated_secret_adds_no_app(harness: Harness) -> None:
    """The app could never be used: the processes with the new secret cannot decrypt its secret."""
    person = await harness.person()
    begin = harness.services.factors.totp.begin
    enrolment = await begin(person.caller)
    await harness.services.keys.lifecycle.rewrap(b"y" * 32)
    with pytest.raises(Unavailable):
        await begin(person.caller)
    async with harness.services.database.read() as store:
        kept = await store.totp_factors.find_enrolment(person.id, now=now())
    assert kept is not None
    assert kept.id == enrolment.id


async def test_no_secret_is_logged(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    person = await harness.person()
    app = await add_authenticator(harness.services, person.caller)
    code = app.code()
    await harness.services.factors.step_up.prove(app.caller, code=code, new_secret_hash=None)
    records = [record for record in caplog.records if record.name.startswith("authapi")]
    assert records
    assert not {app.secret, code, *app.recovery_codes} & words_of(records)
