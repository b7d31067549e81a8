"""What a login at a provider has proved, in a form that a ticket or a sealed text keeps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from authapi.domain.federation.person import NO_CLAIMS, Person

FED = "fed"
"""The authentication method of a login at a provider."""


@dataclass(frozen=True, slots=True)
class FederatedProof:
    """The identity that a login began with, until its session begins."""

    identity_id: UUID
    """The id of the linked identity, also of one that is linked with the session."""
    provider: str
    """The name of the provider in the settings."""
    auth_time: datetime
    """When the person authenticated at the provider: never later than the callback."""
    person: Person
    """The person whom the provider has authenticated, without claims."""
    is_linked: bool = True
    """Whether the identity is linked. If not, it is linked once the login is complete."""

    def as_json(self) -> dict[str, Any]:
        """Returns the members of a JSON object, which `of_json` reads."""
        return {
            "identity_id": str(self.identity_id),
            "provider": self.provider,
            "auth_time": self.auth_time.isoformat(),
            "person": person_as_json(replace(self.person, claims=NO_CLAIMS)),
            "is_linked": self.is_linked,
        }

    @classmethod
    def of_json(cls, members: Mapping[str, Any]) -> "FederatedProof":
        """Returns the proof of the members that `as_json` has returned."""
        return cls(
            identity_id=UUID(members["identity_id"]),
            provider=members["provider"],
            auth_time=datetime.fromisoformat(members["auth_time"]),
            person=person_of_json(members["person"]),
            is_linked=members["is_linked"],
        )


def person_as_json(person: Person) -> dict[str, Any]:
    """Returns the members of a JSON object, which `person_of_json` reads."""
    at = person.auth_time
    return {
        "provider": person.provider,
        "issuer": person.issuer,
        "subject": person.subject,
        "email": person.email,
        "email_verified": person.email_verified,
        "is_authoritative": person.is_authoritative,
        "name": person.name,
        "auth_time": None if at is None else at.isoformat(),
        "has_proved_mfa": person.has_proved_mfa,
        "claims": dict(person.claims),
    }


def person_of_json(members: Mapping[str, Any]) -> Person:
    """Returns the person of the members that `person_as_json` has returned."""
    at = members["auth_time"]
    return Person(**{**members, "auth_time": None if at is None else datetime.fromisoformat(at)})
