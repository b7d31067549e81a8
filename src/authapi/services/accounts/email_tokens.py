"""Single-use tokens in the links of mails.

`EmailTokens.send` is the one place that issues a token and queues the mail with its link.
A token is bound to a purpose, an account, an address and a password: it stops working if one of
these changes, unless its purpose is in `INDEPENDENT`. The database stores its hash only. A token is
redeemed in the transaction that uses it, with the account locked. So one of several concurrent
requests succeeds, and a request that fails for another reason leaves the token usable.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.crypto.passwords import PasswordHash
from authapi.crypto.secrets import hash_secret, is_secret, new_secret
from authapi.domain.email_address import EmailAddress, stored_email
from authapi.domain.email_token import EmailToken, Purpose
from authapi.domain.user import User
from authapi.errors import InvalidOneTimeSecret
from authapi.services.jobs.pruning import prune_in_batches
from authapi.services.mail import Mail, MailKind
from authapi.settings import Settings
from authapi.storage import Database, Store

_PURPOSES = {
    MailKind.CONFIRM: Purpose.CONFIRM,
    MailKind.RESET: Purpose.RESET,
    MailKind.CHANGE: Purpose.CHANGE,
    MailKind.EMAIL_CHANGED: Purpose.REVERT_EMAIL_CHANGE,
    MailKind.NEW_DEVICE: Purpose.DISOWN,
    MailKind.INVITATION: Purpose.INVITATION,
}
"""The kinds of mail with a link, and what the token in the link can be redeemed for."""

INDEPENDENT = frozenset({Purpose.REVERT_EMAIL_CHANGE, Purpose.DISOWN})
"""Purposes of the tokens that survive changes of the account and further tokens. A token that
reverts a change of address, or ends a login, must: an attacker may have made the change, in that
login, and the first of several tokens is the one that helps the owner."""
REVOKED_ON_ACCOUNT_CHANGE = tuple(purpose for purpose in Purpose if purpose not in INDEPENDENT)
"""Purposes of the tokens that end when the password, address or owner of the account changes."""


@dataclass(frozen=True, slots=True)
class IssuedEmailToken:
    """A new token, to be put into a mail."""

    text: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RedeemedEmailToken:
    """A token that was just redeemed, and its account, locked."""

    token: EmailToken
    user: User
    password: PasswordHash | None


class EmailTokens:
    """Mails, issues and redeems e-mail tokens."""

    def __init__(self, database: Database, mail: Mail, settings: Settings) -> None:
        self._database = database
        self._mail = mail
        self._has_usernames = settings.login_identifier != "email"
        self._lifetimes: dict[Purpose, timedelta] = {
            Purpose.CONFIRM: settings.confirm_lifetime,
            Purpose.CHANGE: settings.confirm_lifetime,
            Purpose.RESET: settings.reset_lifetime,
            Purpose.REVERT_EMAIL_CHANGE: settings.undo_lifetime,
            Purpose.INVITATION: settings.invitation_lifetime,
            Purpose.DISOWN: settings.disown_lifetime,
        }

    def lifetime(self, purpose: Purpose) -> timedelta:
        """Returns the lifetime of tokens for `purpose`, from the settings."""
        return self._lifetimes[purpose]

    async def send(
        self,
        store: Store,
        user: User,
        kind: MailKind,
        *,
        email: EmailAddress | None = None,
        session_id: UUID | None = None,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        """Issues a token for `user`, who is locked or new, and queues a mail of `kind` with it.

        The token is bound to `email`, and the mail goes there; by default to the address of the
        account. The mail is sent once `store` is committed. Earlier tokens end as in `issue`, which
        `session_id` is for. `facts` are values for the template, as in `Mail.queue`.

        Raises KeyError if a mail of `kind` has no link, StorageUnavailable if the database does
        not answer.
        """
        issued = await self.issue(store, user, _PURPOSES[kind], email=email, session_id=session_id)
        about = dict(facts or {})
        if kind is MailKind.RESET and self._has_usernames and user.username is not None:
            about["username"] = user.username  # the owner may have forgotten it too
        await self._mail.queue(
            store,
            kind,
            user,
            to=email.original if email else None,
            secret=issued.text,
            expires_at=issued.expires_at,
            **about,
        )

    async def issue(
        self,
        store: Store,
        user: User,
        purpose: Purpose,
        *,
        email: EmailAddress | None = None,
        session_id: UUID | None = None,
    ) -> IssuedEmailToken:
        """Issues a token for `user`, who is locked; earlier tokens for `purpose` end.

        `email` is the address that the token is bound to, by default that of the account.
        `session_id` is the session that a token for `DISOWN` ends. Tokens for `INDEPENDENT`
        purposes do not end each other.
        """
        if purpose not in INDEPENDENT:
            await store.email_tokens.delete_for_user(user.id, [purpose])
        address, at, text = email or stored_email(user.email), now(), new_secret()
        token = EmailToken(
            id=session_id or new_id(),
            user_id=user.id,
            purpose=purpose,
            email=address.canonical,
            email_given=address.original,
            password_version=await store.users.password_version(user.id) or 0,
            created_at=at,
            expires_at=at + self._lifetimes[purpose],
        )
        await store.email_tokens.add(token, hash_secret(text))
        return IssuedEmailToken(text, token.expires_at)

    async def peek(self, text: str, *purposes: Purpose) -> tuple[EmailToken, User]:
        """Returns a token for one of `purposes` and its user, without redeeming it.

        Raises InvalidOneTimeSecret if it is unknown or expired, StorageUnavailable if the database
        does not answer.
        """
        async with self._database.read() as store:
            token = await _find(store, text, purposes)
            user = await store.users.find(token.user_id)
        if user is None:
            raise InvalidOneTimeSecret
        return token, user

    async def redeem(self, store: Store, text: str, *purposes: Purpose) -> RedeemedEmailToken:
        """Redeems a token in the transaction of `store`, which uses it. Locks the user.

        Also locks the sessions of the user, which most uses end: sessions are locked before tokens
        in every transaction. Raises InvalidOneTimeSecret if the token is unknown, expired, redeemed
        or bound to another password or address, or if the account is deactivated.
        """
        token = await _find(store, text, purposes)
        row = await store.users.lock(token.user_id)
        if row is None:
            raise InvalidOneTimeSecret
        user, password, _ = row
        if not user.is_active or not await _is_bound_to(store, token, user):
            raise InvalidOneTimeSecret
        await store.sessions.lock_for_user(user.id)
        if not await store.email_tokens.consume(token.id):
            raise InvalidOneTimeSecret  # a concurrent request has redeemed it
        return RedeemedEmailToken(token, user, password)

    async def prune(self) -> int:
        """Deletes expired tokens in batches. Returns their number. Raises StorageUnavailable."""
        return await prune_in_batches(
            self._database,
            "email tokens",
            lambda store, limit: store.email_tokens.prune(now=now(), limit=limit),
        )


@dataclass(frozen=True, slots=True)
class MailedLink:
    """A link that works. Its holder reads mail at the address, so these values are for them."""

    purpose: Purpose
    user_id: UUID
    email: str
    """The address that the mail was sent to, in the spelling of its owner."""
    name: str | None
    """The name of the account; None unless the link is an invitation."""


class MailedLinks:
    """Looks mailed links up, without using them up."""

    def __init__(self, email_tokens: EmailTokens) -> None:
        self._email_tokens = email_tokens

    async def find(self, token: str, *purposes: Purpose) -> MailedLink:
        """Returns the link with this `token`, which is for one of `purposes`.

        Raises InvalidOneTimeSecret if there is none or the account is deactivated, and
        StorageUnavailable if the database does not answer.
        """
        found, user = await self._email_tokens.peek(token, *purposes)
        if not user.is_active:
            raise InvalidOneTimeSecret
        # Before the first password, a superuser has entered the name. Later it is the owner's.
        name = user.name if found.purpose is Purpose.INVITATION else None
        return MailedLink(found.purpose, user.id, found.email_given, name)


async def _find(store: Store, text: str, purposes: tuple[Purpose, ...]) -> EmailToken:
    if not is_secret(text):
        raise InvalidOneTimeSecret
    token = await store.email_tokens.find(hash_secret(text), purposes, now=now())
    if token is None:
        raise InvalidOneTimeSecret
    return token


async def _is_bound_to(store: Store, token: EmailToken, user: User) -> bool:
    if token.purpose in INDEPENDENT:
        return True
    if token.password_version != await store.users.password_version(user.id):
        return False
    # A token for a change of address is bound to the new address, not to that of the account.
    return token.purpose is Purpose.CHANGE or token.email == stored_email(user.email).canonical
