"""Queries on `login_tickets`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authapi.crypto.secrets import SecretHash
from authapi.domain.factors.values import LoginTicket, TicketPurpose
from authapi.domain.federation.proof import FederatedProof
from authapi.storage.models import Tables
from authapi.storage.tables.statements import delete_expired

_COLUMNS = (
    "id",
    "user_id",
    "purpose",
    "strategy",
    "remember",
    "scopes",
    "amr",
    "credentials_version",
    "attempts",
    "created_at",
    "expires_at",
    "federated",
)


class LoginTicketTable:
    """Logins that wait for a second factor, in one transaction.

    A ticket with a browser is found by the cookie of that browser only, one without by its secret
    only.
    """

    def __init__(self, connection: AsyncConnection, tables: Tables) -> None:
        self._connection = connection
        self._table = tables.login_tickets
        self._columns = tuple(self._table.c[name] for name in _COLUMNS)

    async def add(
        self, ticket: LoginTicket, secret: SecretHash, *, browser: SecretHash | None
    ) -> None:
        """Inserts `ticket`. The user must be locked."""
        await self._connection.execute(
            sa.insert(self._table).values(
                id=ticket.id,
                user_id=ticket.user_id,
                secret_hash=secret,
                purpose=ticket.purpose,
                strategy=ticket.strategy,
                remember=ticket.remember,
                scopes=None if ticket.scopes is None else sorted(ticket.scopes),
                amr=list(ticket.amr),
                credentials_version=ticket.credentials_version,
                attempts=ticket.attempts,
                browser_hash=browser,
                created_at=ticket.created_at,
                expires_at=ticket.expires_at,
                federated=None if ticket.federated is None else ticket.federated.as_json(),
            )
        )

    async def find_by_secret(self, secret: SecretHash, *, now: datetime) -> LoginTicket | None:
        """Returns the unexpired ticket without a browser that has this secret, or None."""
        return await self._find(
            self._table.c.secret_hash == secret, self._table.c.browser_hash.is_(None), now=now
        )

    async def find_by_browser(self, browser: SecretHash, *, now: datetime) -> LoginTicket | None:
        """Returns the newest unexpired ticket of the browser with this cookie, or None."""
        return await self._find(self._table.c.browser_hash == browser, now=now)

    async def _find(self, *conditions: sa.ColumnElement[bool], now: datetime) -> LoginTicket | None:
        statement = (
            sa.select(*self._columns)
            .where(*conditions, self._table.c.expires_at > now)
            .order_by(self._table.c.id.desc())
            .limit(1)
        )
        return _ticket((await self._connection.execute(statement)).one_or_none())

    async def count_attempt(
        self, ticket_id: UUID, *, limit: int, now: datetime
    ) -> LoginTicket | None:
        """Counts an attempt, and returns the ticket with it; None if no attempt is left.

        Call it in a transaction of its own, before the code is compared: the attempt stays counted
        if the login fails.
        """
        attempts = self._table.c.attempts
        statement = (
            sa.update(self._table)
            .where(
                self._table.c.id == ticket_id,
                attempts < limit,
                self._table.c.expires_at > now,
            )
            .values(attempts=attempts + 1)
            .returning(*self._columns)
        )
        return _ticket((await self._connection.execute(statement)).one_or_none())

    async def consume(self, ticket_id: UUID, *, now: datetime) -> bool:
        """Deletes a ticket; False if it was used, has ended or has expired.

        Of several concurrent transactions, one gets True.
        """
        result = await self._connection.execute(
            sa.delete(self._table).where(
                self._table.c.id == ticket_id, self._table.c.expires_at > now
            )
        )
        return result.rowcount == 1

    async def end_of_browser(self, browser: SecretHash) -> None:
        """Deletes the tickets of the browser with this cookie."""
        await self._connection.execute(
            sa.delete(self._table).where(self._table.c.browser_hash == browser)
        )

    async def end_all(self, user_id: UUID) -> None:
        """Deletes all tickets of a user, who must be locked."""
        await self._connection.execute(
            sa.delete(self._table).where(self._table.c.user_id == user_id)
        )

    async def prune(self, *, now: datetime, limit: int) -> int:
        """Deletes up to `limit` expired tickets; returns their number."""
        return await delete_expired(self._connection, self._table.c.id, now=now, limit=limit)


def _ticket(row: Sequence[Any] | None) -> LoginTicket | None:
    if row is None:
        return None
    key, user_id, purpose, strategy, remember, scopes, amr, version, attempts, *rest = row
    created_at, expires_at, federated = rest
    return LoginTicket(
        id=key,
        user_id=user_id,
        purpose=TicketPurpose(purpose),
        strategy=strategy,
        remember=remember,
        scopes=None if scopes is None else frozenset(scopes),
        amr=tuple(amr),
        credentials_version=version,
        attempts=attempts,
        created_at=created_at,
        expires_at=expires_at,
        federated=None if federated is None else FederatedProof.of_json(federated),
    )
