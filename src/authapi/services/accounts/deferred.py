"""Requests about an e-mail address that a background job answers.

An unauthenticated client must not learn whether an address has an account. So the request only
inserts an outbox entry, which is the same for every address. A job looks the account up later, and
mails the result to the address. Neither the response nor its timing depends on the accounts.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.domain.client import Client, current_client, on_behalf_of
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.email_token import Purpose
from authapi.domain.events import EventType
from authapi.domain.outbox import OutboxEntry
from authapi.domain.user import User
from authapi.domain.username import Username, parse_username
from authapi.services.accounts.email_tokens import EmailTokens
from authapi.services.accounts.users import add_user, new_user
from authapi.services.audit import Audit
from authapi.services.jobs.outbox import Outbox, Payload
from authapi.services.mail import Mail, MailKind
from authapi.services.own_columns import OwnColumns
from authapi.services.rate_limits import MailAllowance, RateLimits
from authapi.services.usernames import pass_on_reservation, reserve_username
from authapi.storage import Database, Store

KIND = "request"
"""The kind of these outbox entries."""

_Handler = Callable[[Store, Payload, bool], Awaitable[bool]]
"""Called with whether the address is over its limit of mails. Returns whether it queued a mail."""


class _AlreadyDone(Exception):
    """Another process has handled the entry: rolls this transaction back."""


class DeferredRequests:
    """Queues requests, and handles them in a background job.

    Each call raises StorageUnavailable if the database does not answer.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        email_tokens: EmailTokens,
        mail: Mail,
        rate_limits: RateLimits,
        audit: Audit,
        own_columns: OwnColumns,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._email_tokens = email_tokens
        self._mail = mail
        self._rate_limits = rate_limits
        self._audit = audit
        self._own_columns = own_columns
        self._handlers: dict[str, tuple[Purpose, _Handler]] = {
            "reset": (Purpose.RESET, self._send_reset),
            "confirm": (Purpose.CONFIRM, self._send_confirmation),
            "register": (Purpose.CONFIRM, self._register),
            "change": (Purpose.CHANGE, self._send_change),
            "provision": (Purpose.CONFIRM, self._provision),
        }
        outbox.register(KIND, self.handle)

    async def submit(self, request: Literal["reset", "confirm"], email: EmailAddress) -> None:
        """Queues a mail with a link to reset the password of `email`, or to confirm the address.

        Raises TooManyAttempts if the client is over its rate limit.
        """
        async with self._audit.recording_throttled():
            await self._rate_limits.consume_mail_request(current_client())
        await self.enqueue(request, email, {})

    async def enqueue(
        self, request: str, email: EmailAddress, details: Mapping[str, object]
    ) -> None:
        """Queues `request`, a key of the handlers, in a transaction of its own.

        `details` are further values for the handler.
        """
        async with self._database.transaction() as store:
            await self._outbox.enqueue(store, KIND, request, _payload(email, details))

    async def submit_registration(
        self,
        email: EmailAddress,
        details: Mapping[str, object],
        *,
        username: Username | None,
    ) -> None:
        """Queues a registration, and reserves its user name for the account that it may create.

        The name is reserved even if the address has an account. Raises UsernameTaken.
        """
        user_id = new_id()
        own = {"new_id": str(user_id), "username": None if username is None else username.original}
        async with self._database.transaction() as store:
            if username is not None:
                await reserve_username(store, username, user_id)
            await self._outbox.enqueue(store, KIND, "register", _payload(email, {**details, **own}))

    async def submit_provision(self, email: EmailAddress, provider: str, title: str) -> None:
        """Queues a mail to `email`, the address that a person at `provider` has entered.

        `title` is the name of the provider for people.
        If no account has the address, one without a password is created. It is not linked before
        the person has proved both, the identity and the address. Raises TooManyAttempts.
        """
        async with self._audit.recording_throttled():
            await self._rate_limits.consume_mail_request(current_client())
        await self.enqueue("provision", email, {"provider": provider, "title": title})

    async def submit_email_change(self, store: Store, user: User, email: EmailAddress) -> None:
        """Queues a mail to `email` with which it becomes the address of `user`, who is locked."""
        row = await store.users.find_credentials(user.id)
        version = None if row is None else row.version
        payload = _payload(email, {"user_id": str(user.id), "credentials_version": version})
        await self._outbox.enqueue(store, KIND, "change", payload, user_id=user.id)

    async def handle(self, entry: OutboxEntry, payload: Payload) -> None:
        """Handles an entry and deletes it, in one transaction.

        Over the limit `limit_mails` of this request and address, an account with a valid link gets
        no other one, and its link stays valid. An account without a valid link still gets one per
        lifetime of a link: an attacker who uses up the limit cannot keep the owner from a link.
        """
        client = Client(**payload["client"])
        with on_behalf_of(lambda: client), suppress(_AlreadyDone):
            async with self._rate_limits.allow_mail(entry.purpose, payload["email"]) as allowance:
                if allowance.is_allowed:
                    await self._run_handler(entry, payload, allowance, is_over_limit=False)
            if not allowance.is_allowed:
                await self._handle_over_limit(entry, payload)

    async def _handle_over_limit(self, entry: OutboxEntry, payload: Payload) -> None:
        purpose, _ = self._handlers[entry.purpose]
        # By address, because an attacker can register and delete accounts with it. Requests of an
        # account are also counted by account, so that accounts do not use up each other's mail.
        key = " ".join((payload["email"], payload.get("user_id") or ""))
        lifetime = self._email_tokens.lifetime(purpose)
        async with self._rate_limits.allow_mail(
            purpose.value, key, extra_per=lifetime
        ) as allowance:
            if allowance.is_allowed:
                await self._run_handler(entry, payload, allowance, is_over_limit=True)

    async def _run_handler(
        self, entry: OutboxEntry, payload: Payload, allowance: MailAllowance, *, is_over_limit: bool
    ) -> None:
        _, handler = self._handlers[entry.purpose]
        async with self._database.transaction() as store:
            allowance.is_used = await handler(store, payload, is_over_limit)
            # Last, because users are locked before outbox entries: deleting a user deletes entries.
            if not await store.outbox.complete(entry.id):
                raise _AlreadyDone

    async def _send_reset(self, store: Store, payload: Payload, is_over_limit: bool) -> bool:
        user = await _lock_owner(store, payload["email"])
        if user is None or not user.is_active:
            return False
        if is_over_limit and await _has_link(store, user, Purpose.RESET, payload["email"]):
            return False
        await self._email_tokens.send(store, user, MailKind.RESET)
        await self._audit.record(store, EventType.PASSWORD_RESET_REQUESTED, user_id=user.id)
        return True

    async def _send_confirmation(self, store: Store, payload: Payload, is_over_limit: bool) -> bool:
        user = await _lock_owner(store, payload["email"])
        if user is None or not user.is_active or user.email_confirmed_at is not None:
            return False
        if is_over_limit and await _has_link(store, user, Purpose.CONFIRM, payload["email"]):
            return False
        await self._email_tokens.send(store, user, MailKind.CONFIRM)
        return True

    async def _register(self, store: Store, payload: Payload, is_over_limit: bool) -> bool:
        await store.users.lock_addresses(payload["email"])
        owner = await _lock_owner(store, payload["email"])
        username = None if payload["username"] is None else parse_username(payload["username"])
        if owner is not None and username is not None:
            await pass_on_reservation(store, username, owner.id)
        if owner is not None and owner.email_confirmed_at is None:
            # The earlier registration stays with its password, which may be of another person. The
            # confirmation removes the password unless the owner of the mailbox knows it.
            return await self._send_confirmation(store, payload, is_over_limit)
        if is_over_limit:
            return False  # there is no account that lacks a link
        if owner is not None:
            return await self._send_address_taken(store, owner)
        address = EmailAddress(payload["original"], payload["email"])
        new = new_user(address, name=payload["name"], username=username, locale=payload["locale"])
        user = replace(new, id=UUID(payload["new_id"]))
        if await store.email_tokens.is_reserved(payload["email"], except_user=user.id, now=now()):
            return False  # another account can still revert to this address
        await add_user(store, user, address, PasswordHash(payload["password_hash"]))
        profile = self._own_columns.parse(payload["profile"]) if "profile" in payload else None
        await self._own_columns.add(store, user, self._own_columns.new(profile))
        await self._audit.record(store, EventType.ACCOUNT_REGISTERED, user_id=user.id)
        await self._email_tokens.send(store, user, MailKind.CONFIRM)
        return True

    async def _provision(self, store: Store, payload: Payload, is_over_limit: bool) -> bool:
        address, provider = EmailAddress(payload["original"], payload["email"]), payload["provider"]
        await store.users.lock_addresses(address.canonical)
        owner = await _lock_owner(store, address.canonical)
        if owner is not None and owner.email_confirmed_at is None:
            return await self._send_confirmation(store, payload, is_over_limit)
        if is_over_limit:
            return False
        if owner is not None:
            if owner.is_active:
                await self._mail.queue(
                    store, MailKind.IDENTITY_WANTED, owner, provider=payload["title"]
                )
            return owner.is_active
        user = new_user(address, name=None)
        if await store.email_tokens.is_reserved(address.canonical, except_user=user.id, now=now()):
            return False
        await add_user(store, user, address, None)
        await self._own_columns.add(store, user, self._own_columns.new(None))
        await self._audit.record(
            store, EventType.ACCOUNT_REGISTERED, user_id=user.id, provider=provider
        )
        await self._email_tokens.send(store, user, MailKind.CONFIRM)
        return True

    async def _send_change(self, store: Store, payload: Payload, is_over_limit: bool) -> bool:
        address = EmailAddress(payload["original"], payload["email"])
        user_id = UUID(payload["user_id"])
        holder = await store.users.find_by_email(address.canonical)
        # Both users at once: `lock_all` locks in the order of ids.
        locked = await store.users.lock_all({user_id} | ({holder.id} if holder else set()))
        user, owner = locked.get(user_id), locked.get(holder.id) if holder else None
        if user is None or not user.is_active:
            return False
        row = await store.users.find_credentials(user.id)
        if row is None or row.version != payload.get("credentials_version"):
            # The request was authorized by the earlier password, or without the second factor.
            return False
        if owner is not None and owner.id != user.id and _has_address(owner, address.canonical):
            return not is_over_limit and await self._send_address_taken(store, owner)
        if await store.email_tokens.is_reserved(address.canonical, except_user=user.id, now=now()):
            return False
        # An attacker can register any number of accounts with unconfirmed addresses.
        if is_over_limit and (
            user.email_confirmed_at is None
            or await _has_link(store, user, Purpose.CHANGE, address.canonical)
        ):
            return False
        await self._email_tokens.send(store, user, MailKind.CHANGE, email=address)
        return True

    async def _send_address_taken(self, store: Store, owner: User) -> bool:
        if owner.is_active:
            await self._mail.queue(store, MailKind.ADDRESS_TAKEN, owner)
        return owner.is_active


def _payload(email: EmailAddress, details: Mapping[str, Any]) -> Payload:
    client = current_client()
    origin = {"ip": client.ip, "user_agent": client.user_agent, "request_id": client.request_id}
    return {"email": email.canonical, "original": email.original, "client": origin, **details}


def _has_address(user: User, email: str) -> bool:
    return stored_email(user.email).canonical == email


async def _has_link(store: Store, user: User, purpose: Purpose, email: str) -> bool:
    return await store.email_tokens.has_valid(user.id, purpose, email, now=now())


async def _lock_owner(store: Store, email: str) -> User | None:
    """Locks and returns the account with this canonical address."""
    found = await store.users.find_by_email(email)
    if found is None:
        return None
    row = await store.users.lock(found.id)
    # The address may have changed before the lock.
    return row[0] if row is not None and _has_address(row[0], email) else None
