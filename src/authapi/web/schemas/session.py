"""Models of login sessions, and of the data in them."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, JsonValue

from authapi.domain.identity import Identity
from authapi.domain.session import OF_PAGES, Session, SessionKind
from authapi.web.schemas.fields import Output, Time


class SessionOut(Output):
    """A login session of the caller."""

    id: UUID
    kind: SessionKind
    current: Annotated[bool, Field(description="Whether this request belongs to the session.")]
    created_at: Time
    last_seen_at: Time
    idle_expires_at: Annotated[
        Time | None, Field(description="When the session expires if it is not used.")
    ]
    expires_at: Time
    ip: str | None
    user_agent: str | None

    @classmethod
    def of(cls, session: Session, identity: Identity) -> "SessionOut":
        """The representation of `session`; `current` is set if it is the session of `identity`."""
        return cls(
            id=session.id,
            kind=session.kind,
            current=session.id == identity.session_id,
            created_at=session.created_at,
            last_seen_at=session.last_seen_at,
            idle_expires_at=session.idle_expires_at,
            expires_at=session.expires_at,
            ip=session.client.ip,
            user_agent=session.client.user_agent,
        )


class SessionDataOut(Output):
    """The current session, and the data that the application stores in it."""

    id: UUID
    expires_at: Time
    data: dict[str, JsonValue]


def session_data_out(identity: Identity, data: Mapping[str, Any]) -> SessionDataOut:
    """The representation of the session of `identity`, with `data` except for what is of the pages.

    Raises TypeError if `identity` has no session.
    """
    if identity.session_id is None or identity.expires_at is None:
        raise TypeError("this identity has no session")
    own = {name: value for name, value in data.items() if name not in OF_PAGES}
    return SessionDataOut(id=identity.session_id, expires_at=identity.expires_at, data=own)
