"""What strangers ask for about an address, answered without a look at the accounts.

The request writes one row, the same for an address that has an account and for one that has none;
what it comes to is found out afterwards, in the background, and told by mail to whoever reads that.
So neither the answer nor the time that it takes says who has an account.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from authapi.clock import now
from authapi.crypto.passwords import PasswordHash
from authapi.identity import Client, EventType, User, current_client, on_behalf_of
from authapi.services.accounts.changes import add_user, new_user
from authapi.services.accounts.one_time import OneTimeSecrets
from authapi.services.addresses import EmailAddress, parse_email
from authapi.services.audit import Audit
from authapi.services.background.outbox import Outbox, Payload
from authapi.services.mail import Mail, Occasion
from authapi.services.throttle import MailTurn, Throttle
from authapi.storage import Database, Store
from authapi.storage.tables.one_time_secrets import Purpose
from authapi.storage.tables.outbox import Entry

KIND = "request"
"""Of entries in the outbox."""


_Answer = Callable[[Store, Payload, bool], Awaitable[bool]]
"""Given whether the address is over its limit. Returns whether a mail leaves."""


class _DoneBefore(Exception):
    """Another process did it while we were at it: what we did is taken back."""


class Requests:
    """Writes requests down, and does what they ask for."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        one_time: OneTimeSecrets,
        mail: Mail,
        throttle: Throttle,
        audit: Audit,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._one_time = one_time
        self._mail = mail
        self._throttle = throttle
        self._audit = audit
        self._answers: dict[str, tuple[Purpose, _Answer]] = {
            "reset": (Purpose.RESET, self._send_reset),
            "confirm": (Purpose.CONFIRM, self._send_confirmation),
            "register": (Purpose.CONFIRM, self._register),
            "change": (Purpose.CHANGE, self._send_change),
        }
        outbox.on(KIND, self.handle)

    async def ask(self, what: Literal["reset", "confirm"], email: EmailAddress) -> None:
        """Ask for `what` about `email`, as a stranger.

        Raises TooManyAttempts for too much from one network.
        """
        async with self._audit.throttling():
            await self._throttle.request(current_client())
        await self.put(what, email, {})

    async def put(self, what: str, email: EmailAddress, more: Mapping[str, str | None]) -> None:
        """Write a request down: to be done once this returns."""
        async with self._database.transaction() as store:
            await self._outbox.put(store, KIND, what, _payload(email, more))

    async def ask_change(self, store: Store, user: User, email: EmailAddress) -> None:
        """Ask that `user`, who is locked, gets `email`, in the transaction of `store`."""
        version = await store.users.password_version(user.id)
        payload = _payload(email, {"user_id": str(user.id), "password_version": version})
        await self._outbox.put(store, KIND, "change", payload, user_id=user.id)

    async def handle(self, entry: Entry, payload: Payload) -> None:
        """Do what was asked for, once: the entry goes in the same transaction.

        Over `limit_mails` of this purpose, the last link that was sent stays valid. An account
        without one that works still gets one, so that strangers who use up the limit never leave
        its owner without a link: one in the lifetime of a link. The answer to the request does not
        depend on any of it.
        """
        client = Client(**payload["client"])
        with on_behalf_of(lambda: client), suppress(_DoneBefore):
            async with self._throttle.mail(entry.purpose, payload["email"]) as turn:
                if turn.is_admitted:
                    await self._do(entry, payload, turn, is_over=False)
            if not turn.is_admitted:
                await self._do_over_limit(entry, payload)

    async def _do_over_limit(self, entry: Entry, payload: Payload) -> None:
        purpose, _ = self._answers[entry.purpose]
        # By address, as strangers can make and delete accounts with it; what accounts ask for,
        # also by account, so that none uses up what another has.
        key = " ".join((payload["email"], payload.get("user_id") or ""))
        lifetime = self._one_time.lifetime(purpose)
        async with self._throttle.mail(purpose.value, key, spare_each=lifetime) as spare:
            if spare.is_admitted:
                await self._do(entry, payload, spare, is_over=True)

    async def _do(self, entry: Entry, payload: Payload, turn: MailTurn, *, is_over: bool) -> None:
        _, answer = self._answers[entry.purpose]
        async with self._database.transaction() as store:
            turn.is_used = await answer(store, payload, is_over)
            # Last, as a deleted account takes its entries along: user before entry.
            if not await store.outbox.done(entry.id):
                raise _DoneBefore

    async def _send_reset(self, store: Store, payload: Payload, is_over: bool) -> bool:
        user = await _owner(store, payload["email"])
        if user is None or not user.is_active:
            return False
        if is_over and await _has_link(store, user, Purpose.RESET, payload["email"]):
            return False
        await self._send(store, user, Purpose.RESET, Occasion.RESET)
        await self._audit.record(store, EventType.PASSWORD_RESET_REQUESTED, user_id=user.id)
        return True

    async def _send_confirmation(self, store: Store, payload: Payload, is_over: bool) -> bool:
        user = await _owner(store, payload["email"])
        if user is None or not user.is_active or user.email_confirmed_at is not None:
            return False
        if is_over and await _has_link(store, user, Purpose.CONFIRM, payload["email"]):
            return False
        await self._send(store, user, Purpose.CONFIRM, Occasion.CONFIRM)
        return True

    async def _register(self, store: Store, payload: Payload, is_over: bool) -> bool:
        await store.users.wait_for_addresses(payload["email"])
        owner = await _owner(store, payload["email"])
        if owner is not None and owner.email_confirmed_at is None:
            # Whoever came first left a password that only they know. It stays until the address is
            # confirmed, which drops it unless the reader of the mail knows it too.
            return await self._send_confirmation(store, payload, is_over)
        if is_over:
            return False  # no account waits for a link
        if owner is not None:
            return await self._tell_taken(store, owner)
        address = EmailAddress(payload["given"], payload["email"])
        user = new_user(address, name=payload["name"], locale=payload["locale"])
        if await store.one_time_secrets.reserves(payload["email"], unless_for=user.id, now=now()):
            return False  # an account may still be given this address back, and its owner knows it
        await add_user(store, user, address, PasswordHash(payload["password_hash"]))
        await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        await self._send(store, user, Purpose.CONFIRM, Occasion.CONFIRM)
        return True

    async def _send_change(self, store: Store, payload: Payload, is_over: bool) -> bool:
        address = EmailAddress(payload["given"], payload["email"])
        user_id = UUID(payload["user_id"])
        holder = await store.users.find_by_email(address.canonical)
        # Both at once, in the order of their ids.
        held = await store.users.lock_all({user_id} | ({holder.id} if holder else set()))
        user, owner = held.get(user_id), held.get(holder.id) if holder else None
        if user is None or not user.is_active:
            return False
        if await store.users.password_version(user.id) != payload["password_version"]:
            return False  # the password that proved the request is not that of the account any more
        if owner is not None and owner.id != user.id and _has(owner, address.canonical):
            return not is_over and await self._tell_taken(store, owner)
        if await store.one_time_secrets.reserves(address.canonical, unless_for=user.id, now=now()):
            return False
        # A stranger can make any number of accounts that confirmed no address.
        if is_over and (
            user.email_confirmed_at is None
            or await _has_link(store, user, Purpose.CHANGE, address.canonical)
        ):
            return False
        made = await self._one_time.make(store, user, Purpose.CHANGE, email=address)
        await self._mail.queue(
            store,
            Occasion.CHANGE,
            user,
            to=address.given,
            secret=made.text,
            expires_at=made.expires_at,
        )
        return True

    async def _tell_taken(self, store: Store, owner: User) -> bool:
        if owner.is_active:
            await self._mail.queue(store, Occasion.ADDRESS_TAKEN, owner)
        return owner.is_active

    async def _send(self, store: Store, user: User, purpose: Purpose, occasion: Occasion) -> None:
        made = await self._one_time.make(store, user, purpose)
        await self._mail.queue(store, occasion, user, secret=made.text, expires_at=made.expires_at)


def _payload(email: EmailAddress, more: Mapping[str, Any]) -> Payload:
    client = current_client()
    told = {"ip": client.ip, "user_agent": client.user_agent, "request_id": client.request_id}
    return {"email": email.canonical, "given": email.given, "client": told, **more}


def _has(user: User, email: str) -> bool:
    return parse_email(user.email).canonical == email


async def _has_link(store: Store, user: User, purpose: Purpose, email: str) -> bool:
    return await store.one_time_secrets.is_live(user.id, purpose, email, now=now())


async def _owner(store: Store, email: str) -> User | None:
    """The account with this canonical address, held until the commit."""
    found = await store.users.find_by_email(email)
    if found is None:
        return None
    held = await store.users.lock(found.id)
    # Its address may have changed in between.
    return held[0] if held is not None and _has(held[0], email) else None
