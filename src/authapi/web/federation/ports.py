"""What the routes of logins at other providers need of the services."""

from typing import Protocol
from uuid import UUID

from authapi.crypto.secrets import SecretHash
from authapi.domain.federation.flow import Flow
from authapi.domain.federation.person import LinkedIdentity, Person
from authapi.domain.identity import Identity
from authapi.services.logins.proved import Proved


class Federation(Protocol):
    """Logs people in whom a provider has authenticated, and links them to accounts."""

    async def arrive(self, person: Person, flow: Flow, *, request: object = None) -> Proved:
        """Returns the account of a person, which it may create, and uses the flow up.

        Raises LoginFlowInvalid if the flow was used, LinkRequired, EmailNeeded, and the refusals of
        a registration and of a login.
        """

    async def is_used(self, flow: Flow) -> bool:
        """Whether a login or a link has used the flow up."""

    async def link(self, person: Person, flow: Flow) -> LinkedIdentity:
        """Links a person to the account that has begun the flow, whose session must be live.

        Raises LoginFlowInvalid, InvalidCredential, IdentityTaken, and as the gate of the start.
        """

    async def step_up(
        self, person: Person, flow: Flow, *, new_secret_hash: SecretHash | None
    ) -> Identity:
        """Makes the session that has begun the flow a recent login."""

    async def code_for(self, proved: Proved, flow: Flow) -> str:
        """Returns a code that stands for a login for a minute, once."""

    async def redeem(self, code: str) -> tuple[Proved, str, bool]:
        """Returns the login of a code, its strategy, and whether it is remembered, once.

        Raises InvalidOneTimeSecret.
        """

    async def linked_to(self, user_id: UUID) -> tuple[LinkedIdentity, ...]:
        """Returns the persons who may log in to an account."""
