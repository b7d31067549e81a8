"""Logins of people whose provider gives no address that an account can be created with.

Such a login waits in a sealed text, the ticket: the database has nothing of it. The person enters
an address. With open registration, the account is created at once. With `registration=confirm`, the
usual mail goes there; its link together with the ticket proves that one person has the identity and
reads the mail. Neither is enough alone: an attacker could enter the address of another person, who
follows the link.
"""

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from authapi.clock import now
from authapi.crypto import base64url
from authapi.crypto.encryption import Cipher
from authapi.domain.federation.flow import Flow
from authapi.domain.federation.person import NO_CLAIMS, Person
from authapi.domain.federation.proof import person_as_json, person_of_json
from authapi.errors import DecryptionFailed, EmailNeeded, LoginExpired

TICKET_USE = "federation tickets 2"
"""The use of the cipher of tickets, which gives it a key of its own."""
LIFETIME = timedelta(hours=1)
"""How long a ticket works after the beginning of its flow: a mail may take a while."""
_CONTEXT = "email ticket"
_MAX_PACKED = 2800
"""Bytes of the compressed members of a ticket: a cookie has room for 4096, sealed."""
_MAX_TICKET = 8192


@dataclass(frozen=True, slots=True)
class OpenedTicket:
    """What a login waits with."""

    person: Person
    """Without claims if they are too long for a ticket."""
    strategy: str
    remember: bool
    continue_to: str | None
    state: str
    """The `state` of the flow: it is used up with the login."""
    sealed_at: datetime
    expires_at: datetime


class EmailTickets:
    """Seals and opens tickets."""

    def __init__(self, cipher: Callable[[], Cipher]) -> None:
        self._cipher = cipher

    def needed(self, person: Person, flow: Flow) -> EmailNeeded:
        """Returns the refusal with a ticket for this login."""
        # Of the flow: all its tickets, of which one can be used, end at the same time.
        expires_at = flow.began_at + LIFETIME
        members = {
            "strategy": flow.strategy,
            "remember": flow.remember,
            "continue": flow.continue_to,
            "state": flow.state,
            "sealed_at": now().isoformat(),
            "expires_at": expires_at.isoformat(),
        }
        texts = (_packed({**members, "person": person_as_json(it)}) for it in _shorter(person))
        # One that is too long for a cookie is good for a client that gets the ticket itself.
        packed = next((it for it in texts if len(it) <= _MAX_PACKED), None)
        if packed is None:
            packed = _packed({**members, "person": person_as_json(_shortest(person))})
        sealed = self._cipher().encrypt(packed, context=_CONTEXT)
        return EmailNeeded(ticket=base64url.encode(sealed), expires_at=expires_at)

    def open(self, ticket: str) -> OpenedTicket:
        """Returns what a ticket has. Raises LoginExpired if it is not valid any longer."""
        if len(ticket) > _MAX_TICKET:
            raise LoginExpired
        try:
            sealed = base64url.decode(ticket)
            plaintext = self._cipher().decrypt(sealed, context=_CONTEXT)
        except (DecryptionFailed, ValueError):
            raise LoginExpired from None
        members = json.loads(zlib.decompress(plaintext))
        expires_at = datetime.fromisoformat(members["expires_at"])
        if expires_at <= now():
            raise LoginExpired
        return OpenedTicket(
            person=person_of_json(members["person"]),
            strategy=members["strategy"],
            remember=members["remember"],
            continue_to=members["continue"],
            state=members["state"],
            sealed_at=datetime.fromisoformat(members["sealed_at"]),
            expires_at=expires_at,
        )


def _packed(members: object) -> bytes:
    return zlib.compress(json.dumps(members, separators=(",", ":")).encode(), 9)


def _shorter(person: Person) -> Iterator[Person]:
    """Yields `person`, then with less and less of what no account needs."""
    yield person
    yield (bare := replace(person, claims=NO_CLAIMS))
    yield replace(bare, name=None)
    yield _shortest(person)


def _shortest(person: Person) -> Person:
    return replace(
        person,
        claims=NO_CLAIMS,
        name=None,
        email=None,
        email_verified=False,
        is_authoritative=False,
    )
