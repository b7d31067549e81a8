"""The single use of flows, tickets and codes, and the end of those that are sealed."""

import hashlib
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.crypto.ids import first_id_at
from authapi.domain.factors.passkeys import UsedChallenge
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.domain.identity import Identity
from authapi.errors import InvalidCredential, LoginFlowInvalid
from authapi.storage import Database


def check_flow(
    flow: Flow, intent: FlowIntent, person: Person, identity: Identity | None = None
) -> None:
    """Checks that `flow` is for `intent`, and has led to the provider of `person`.

    With `identity`, also that the same account and session has begun it. Raises LoginFlowInvalid.
    """
    is_own = identity is None or (
        flow.user_id == identity.user.id and flow.session_id == identity.session_id
    )
    is_current = flow.expires_at > now()
    if flow.intent is not intent or person.provider != flow.provider:
        raise LoginFlowInvalid
    if not is_own or not is_current:
        raise LoginFlowInvalid


def check_unchanged(flow: Flow, credentials_version: int) -> None:
    """Checks that the credentials of the account are as they were when `flow` began.

    A person with a copied credential may have begun it before the owner has changed the password.
    Raises InvalidCredential.
    """
    if flow.credentials_version not in {None, credentials_version}:
        raise InvalidCredential


def once_of(flow: Flow) -> UsedChallenge:
    """Returns what the end of a flow uses up: the hash of its `state`."""
    return used_text(flow.state, flow.expires_at)


async def is_used(database: Database, flow: Flow) -> bool:
    """Whether a login or a link has used a flow up.

    Raises StorageUnavailable if the database does not answer.
    """
    async with database.read() as store:
        return await store.used_challenges.has(once_of(flow).digest)


def used_text(text: str, expires_at: datetime) -> UsedChallenge:
    """Returns what using `text` up stores, until it expires: its hash."""
    return UsedChallenge(hashlib.sha256(text.encode()).digest(), expires_at)


async def has_ended(database: Database, sealed_at: datetime, lifetime: timedelta) -> bool:
    """Whether all logins have ended since a text was sealed, which the database does not have.

    `lifetime` is that of the text. Raises StorageUnavailable if the database does not answer.
    """
    since = first_id_at(now() - lifetime)
    async with database.read() as store:
        return any(sealed_at <= end for end in await store.events.ends_of_all(since=since))
