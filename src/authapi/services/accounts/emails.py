"""The address of an account: confirmed, changed, and changed back.

A link from a mail proves who reads the mailbox, and nothing of who has the account. Whoever
confirms shows that the account is theirs too, by a login to it or its password; else what was in it
was left there by a stranger, and goes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authapi.clock import now
from authapi.crypto.passwords import PasswordHash
from authapi.errors import (
    InputError,
    InvalidInput,
    ProofRequired,
    StaleAuthentication,
    WrongPassword,
)
from authapi.identity import EventType, Identity, User, current_client
from authapi.services.accounts.changes import after, locked, require_not_reserved, take_over
from authapi.services.accounts.one_time import LINKS, Made, OneTimeSecrets, Taken
from authapi.services.accounts.proof import PasswordProof
from authapi.services.accounts.requests import Requests
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.alive import require_alive
from authapi.services.audit import Audit
from authapi.services.mail import Mail, Occasion
from authapi.services.throttle import MailTurn, Throttle
from authapi.settings import Settings
from authapi.storage import Database, Store
from authapi.storage.conflicts import retried
from authapi.storage.tables.one_time_secrets import OneTimeSecret, Purpose


class Emails:
    """Confirms and changes addresses."""

    def __init__(
        self,
        database: Database,
        one_time: OneTimeSecrets,
        requests: Requests,
        proof: PasswordProof,
        throttle: Throttle,
        mail: Mail,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._one_time = one_time
        self._requests = requests
        self._proof = proof
        self._throttle = throttle
        self._mail = mail
        self._audit = audit
        self._fresh = settings.fresh_max_age

    async def confirm(
        self,
        secret: str,
        *,
        password: str | None = None,
        caller: Identity | None = None,
        typed: EmailAddress | None = None,
    ) -> None:
        """Confirm the address that `secret` is about.

        `caller`, logged in to the account, or its `password` show that the account is the reader's.
        Without either, a first address is confirmed and the account given to the reader, who is
        sent a link to choose a password, if `typed` is that address; a change of address is
        refused. Raises InvalidOneTimeSecret, ProofRequired, WrongPassword, TooManyAttempts,
        EmailTaken, InvalidInput for another address.
        """
        found, user = await self._one_time.look(secret, Purpose.CONFIRM, Purpose.CHANGE)
        if caller is not None and caller.user.id != user.id:
            raise ProofRequired
        proved: PasswordHash | None = None
        if caller is None and password is not None:
            proved = await self._proof.require(user, password)
        is_proved = caller is not None or password is not None
        if not is_proved:
            if typed is None or found.purpose is Purpose.CHANGE:
                raise ProofRequired
            await self._require_typed(found, user, typed)
        async with self._telling(found, user) as turn, self._database.transaction() as store:
            if found.purpose is Purpose.CHANGE:
                await _wait_for_addresses(store, found, user)
            taken = await self._one_time.take(store, secret, found.purpose)
            if caller is not None:
                await require_alive(store, caller)
            elif password is not None and taken.password != proved:
                raise WrongPassword  # it was changed while we were hashing
            if found.purpose is Purpose.CHANGE:
                await self._change(store, taken, turn)
            elif is_proved:
                await store.users.confirm_email(taken.user.id, at=after(taken.user))
                await self._audit.record(store, EventType.EMAIL_CONFIRMED, user_id=user.id)
            else:
                await self._hand_over(store, taken)

    async def request_change(
        self, caller: Identity, email: EmailAddress, *, password: str | None
    ) -> None:
        """Ask for `email` as the address of the caller's account, once it confirms that.

        The caller gives the password, or has logged in lately. Whether the address is taken is
        told to its owner only. Raises StaleAuthentication, WrongPassword, TooManyAttempts,
        InvalidCredential if the session of `caller` has ended.
        """
        proved: PasswordHash | None = None
        if password is not None:
            proved = await self._proof.require(caller.user, password, caller=caller)
        elif not caller.amr or now() - caller.auth_time > self._fresh:
            raise StaleAuthentication(max_age=int(self._fresh.total_seconds()))
        async with self._audit.throttling(parse_email(caller.user.email).canonical):
            await self._throttle.request(current_client())
        async with self._database.transaction() as store:
            user, latest = await locked(store, caller.user.id)
            if password is not None and latest != proved:
                raise WrongPassword
            await require_alive(store, caller)
            await self._requests.ask_change(store, user, email)
            await self._audit.record(
                store,
                EventType.EMAIL_CHANGE_REQUESTED,
                user_id=user.id,
                session_id=caller.session_id,
                strategy=caller.strategy,
            )

    async def undo(self, secret: str, *, typed: EmailAddress) -> None:
        """Give an account its old address back, for a reader of the mail that was sent there.

        The change was made with the password or a session, so both end. `typed` must be that
        address: programs that check mail open links and submit forms, but type nothing. Raises
        InvalidOneTimeSecret, EmailTaken, TooManyAttempts, InvalidInput for another address.
        """
        found, before = await self._one_time.look(secret, Purpose.UNDO)
        await self._require_typed(found, before, typed)
        await self._undo(secret, found, before)

    async def require_link(self, secret: str) -> None:
        """Return if `secret` is about an address, and still works. Raises InvalidOneTimeSecret."""
        await self._one_time.look(secret, Purpose.CONFIRM, Purpose.CHANGE, Purpose.UNDO)

    @retried
    async def _undo(self, secret: str, found: OneTimeSecret, before: User) -> None:
        async with self._database.transaction() as store:
            await _wait_for_addresses(store, found, before)
            taken = await self._one_time.take(store, secret, Purpose.UNDO)
            made, user = taken.secret, taken.user
            await store.users.set_email(
                user.id, email=made.email, given=made.email_given, at=after(user)
            )
            # Those of addresses that the account got since: whoever did that reads mail there.
            undos = [Purpose.UNDO]
            await store.one_time_secrets.end_of(user.id, undos, since=made.created_at)
            await self._audit.record(store, EventType.EMAIL_CHANGE_UNDONE, user_id=user.id)
            moved, _ = await locked(store, user.id)
            await self._send_reset(store, await take_over(store, moved, None))

    async def _require_typed(self, found: OneTimeSecret, user: User, typed: EmailAddress) -> None:
        """Return if `typed` is the address that the secret is about. The secret stays good.

        Tries are counted by secret, so that those at one link are no hindrance elsewhere, and as
        logins are: one network alone cannot keep the owner from the link. Raises InvalidInput,
        TooManyAttempts.
        """
        async with (
            self._audit.throttling(parse_email(user.email).canonical),
            self._throttle.attempt(str(found.id), current_client()),
        ):
            if typed.canonical != found.email:
                message = "is not the address that the mail was sent to"
                raise InvalidInput(InputError(("body", "email"), "email_mismatch", message))

    @asynccontextmanager
    async def _telling(self, secret: OneTimeSecret, user: User) -> AsyncIterator[MailTurn]:
        """Whether the address that `user` leaves may be told.

        A confirmed address is told of each change. Any account can name an address that was never
        confirmed, so mail to it is limited.
        """
        if secret.purpose is not Purpose.CHANGE or user.email_confirmed_at is not None:
            yield MailTurn(is_admitted=True)
            return
        address = parse_email(user.email).canonical
        async with self._throttle.mail(Occasion.EMAIL_CHANGED.value, address) as turn:
            yield turn

    async def _change(self, store: Store, taken: Taken, turn: MailTurn) -> None:
        user, secret = taken.user, taken.secret
        old = parse_email(user.email)
        await store.users.set_email(
            user.id, email=secret.email, given=secret.email_given, at=after(user)
        )
        await require_not_reserved(store, user, secret.email)
        await store.one_time_secrets.end_of(user.id, LINKS)
        await self._audit.record(store, EventType.EMAIL_CHANGED, user_id=user.id)
        if old.canonical == secret.email or not turn.is_admitted:
            return
        # Of an address that was never confirmed nobody knows whose it is: a typing error must not
        # give the account to a stranger. They are told, and given nothing.
        made: Made | None = None
        if user.email_confirmed_at is not None:
            made = await self._one_time.make(store, user, Purpose.UNDO, email=old)
        await self._mail.queue(
            store,
            Occasion.EMAIL_CHANGED,
            user,
            to=old.given,
            secret=made.text if made else None,
            expires_at=made.expires_at if made else None,
        )
        turn.is_used = True

    async def _hand_over(self, store: Store, taken: Taken) -> None:
        user = await take_over(store, taken.user, None)
        await self._audit.record(store, EventType.EMAIL_CONFIRMED, user_id=user.id)
        await self._send_reset(store, user)

    async def _send_reset(self, store: Store, user: User) -> None:
        made = await self._one_time.make(store, user, Purpose.RESET)
        await self._mail.queue(
            store, Occasion.RESET, user, secret=made.text, expires_at=made.expires_at
        )


async def _wait_for_addresses(store: Store, secret: OneTimeSecret, user: User) -> None:
    """Hold the address that `user` leaves, and the one that `secret` gives to the account.

    If the account has another address by the time it is locked, a change is refused: its link
    ended with the address.
    """
    await store.users.wait_for_addresses(parse_email(user.email).canonical, secret.email)
