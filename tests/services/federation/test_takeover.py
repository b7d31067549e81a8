"""The takeover table: what a person gets of an account with the address of the person."""

from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventFilter, EventType
from authapi.domain.federation.person import Person
from authapi.domain.user import User
from authapi.errors import (
    EmailNeeded,
    InvalidCredentials,
    LinkRequired,
    RegistrationClosed,
)
from authapi.services.accounts.administration import AccountChanges
from authapi.services.logins.complete import PendingLogin
from authapi.services.logins.proved import Login
from authapi.storage.tables.users import Credentials
from tests.services.authenticators import add_authenticator
from tests.services.federated_people import (
    a_flow,
    a_link,
    a_person,
    begin_session,
    caller_of,
    complete,
    session_ids,
)
from tests.services.federation.harness import federation
from tests.services.operations import Harness, new_address
from tests.services.passkey_owners import add_passkey, answer
from tests.soft_authenticator import SoftAuthenticator
from tests.storage.rows import HASH
from tests.web.mailbox import mail_kinds

TABLE = [
    line.split()
    for line in (Path(__file__).parent / "takeover.txt").read_text().splitlines()
    if not line.startswith("#")
]
ACCOUNTS = (
    *("none", "unconfirmed", "confirmed", "mfa", "deactivated", "invited"),
    *("passkey", "elsewhere"),
)
STATEMENTS = {
    "authoritative": {"email_verified": True, "is_authoritative": True},
    "verified": {"email_verified": True},
    "unverified": {},
    "missing": {"email": None},
}
GROUPS = sorted({(registration, policy) for registration, policy, *_ in TABLE})
REFUSALS = {
    "wanted": LinkRequired,
    "silent": LinkRequired,
    "email": EmailNeeded,
    "closed": RegistrationClosed,
    "refused": InvalidCredentials,
}


@dataclass
class Account:
    """An account, or its absence, before the person arrives."""

    email: str
    user: User | None = None
    code: str = ""
    """The next code of its authenticator app."""
    passkey: SoftAuthenticator | None = None

    @property
    def amr(self) -> str:
        """The method of its second factor."""
        return "otp" if self.passkey is None else "pop"


async def create(harness: Harness, state: str) -> Account:
    if state == "none":
        return Account(new_address().canonical)
    services = harness.services
    if state == "invited":
        invited = await services.accounts.administration.invite(
            new_address(), name="The Invited", actor=None
        )
        return Account(invited.email, invited)
    user = await services.accounts.registration.create(new_address(), None)
    async with services.database.transaction() as store:
        # No row logs in with the password: computing a hash would take most of the time.
        if state not in {"passkey", "elsewhere"}:
            await store.users.set_password(user.id, HASH, at=now())
        if state == "elsewhere":
            await store.identities.add(a_link(user.id), auth_context=None)
        if state != "unconfirmed":
            await store.users.confirm_email(user.id, at=now())
    caller = await caller_of(services, user)
    account = Account(user.email, caller.user)
    if state == "mfa":
        account.code = (await add_authenticator(services, caller)).code()
    if state == "passkey":
        account.passkey = SoftAuthenticator(origin="https://app.example.com")
        await add_passkey(services, caller, account.passkey)
    if state == "deactivated":
        await services.accounts.administration.change(user.id, AccountChanges(is_active=False))
    return account


def test_the_table_has_every_combination() -> None:
    keys = [tuple(row[:3]) for row in TABLE]
    assert len(keys) == len(set(keys)) == 4 * 3 * len(STATEMENTS)
    assert all(len(row) == 3 + len(ACCOUNTS) for row in TABLE)
    assert len(TABLE) * len(ACCOUNTS) == 384


@pytest.mark.parametrize(("registration", "policy"), GROUPS)
async def test_takeover(database_url: str, registration: str, policy: str) -> None:
    async with federation(
        database_url, registration=registration, federation_linking=policy
    ) as harness:
        accounts: dict[str, Account] = {}
        for row in TABLE:
            if (row[0], row[1]) == (registration, policy):
                for state, end in zip(ACCOUNTS, row[3:], strict=True):
                    if state not in accounts:
                        accounts[state] = await create(harness, state)
                    try:
                        await _check(harness, accounts[state], row[2], end)
                    except BaseException as error:
                        error.add_note(f"{' '.join(row[:3])}, account {state}: expected {end}")
                        raise
                    if end not in REFUSALS:
                        # A refusal leaves the account as it was, and it is for the next row too.
                        del accounts[state]


async def _check(harness: Harness, account: Account, statement: str, end: str) -> None:
    person = replace(a_person(account.email), **STATEMENTS[statement])  # type: ignore[arg-type]
    before = await _credentials(harness, account)
    sessions = (
        set() if account.user is None else await session_ids(harness.services, account.user.id)
    )
    mails = await mail_kinds(harness.services, account.email)
    arrival = harness.services.federation.arrivals.arrive(person, a_flow())
    if end in REFUSALS:
        with pytest.raises(REFUSALS[end]):
            await arrival
        assert await _credentials(harness, account) == before
        assert await _sessions(harness, account) == sessions
        assert await _linked_to(harness, person) is None
        new = (await mail_kinds(harness.services, account.email))[len(mails) :]
        assert new == (["identity_wanted"] if end == "wanted" else [])
        return
    proved = await arrival
    login = await complete(harness.services, proved)
    if end == "factor":
        # Nothing is linked before the account has proved its second factor.
        assert isinstance(login, PendingLogin)
        assert await _linked_to(harness, person) is None
        login = await _prove(harness, account, login)
    assert isinstance(login, Login)
    session = await begin_session(harness.services, login)
    after = await _credentials(harness, account)
    assert after is not None
    assert await _linked_to(harness, person) == after.user.id == session.user_id
    assert session.amr == (("fed", account.amr, "mfa") if end == "factor" else ("fed",))
    if account.user is not None:
        assert after.user.id == account.user.id
    await _check_account(harness, end, before, after)
    live = await session_ids(harness.services, after.user.id)
    assert live == ({session.id} if end not in {"linked", "factor"} else sessions | {session.id})


async def _prove(harness: Harness, account: Account, pending: PendingLogin) -> Login:
    """Proves the second factor of the account."""
    logins, ticket = harness.services.logins, pending.ticket
    if account.passkey is None:
        return (await logins.prove_second_factor(ticket=ticket, code=account.code)).login
    asked = await logins.passkey_options(ticket=ticket, browser=None, origin=None)
    proof = answer(account.passkey, asked)
    return (await logins.prove_second_factor(ticket=ticket, passkey=proof)).login


async def _check_account(
    harness: Harness, end: str, before: Credentials | None, after: Credentials
) -> None:
    user = after.user
    assert user.is_active
    assert (user.email_confirmed_at is None) == (end == "open")
    kind = {
        "new": EventType.ACCOUNT_REGISTERED,
        "open": EventType.ACCOUNT_REGISTERED,
    }.get(end, EventType.IDENTITY_LINKED)
    found = await harness.services.audit.search(EventFilter(user_id=user.id, type=kind))
    assert [event.detail["provider"] for event in found] == ["acme"]
    if end in {"linked", "factor"}:
        assert before is not None
        assert (after.password_hash, user.name) == (before.password_hash, before.user.name)
        assert after.version == before.version + 1
    else:
        assert after.password_hash is None
        assert user.name == ("The Invited" if end == "invited" else "Ada Lovelace")
    kinds = await mail_kinds(harness.services, user.email)
    assert ("identity_linked" in kinds) == (end not in {"new", "open"})
    assert ("confirm" in kinds) == (end == "open")


async def _credentials(harness: Harness, account: Account) -> Credentials | None:
    email = parse_email(account.email).canonical
    async with harness.services.database.read() as store:
        return await store.users.find_credentials_by_email(email)


async def _sessions(harness: Harness, account: Account) -> set[UUID]:
    user = account.user
    return set() if user is None else await session_ids(harness.services, user.id)


async def _linked_to(harness: Harness, person: Person) -> object:
    async with harness.services.database.read() as store:
        found = await store.identities.find(person.issuer, person.subject)
    return None if found is None else found.user_id
