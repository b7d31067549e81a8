"""The JSON of administration: accounts and events as superusers see and change them."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from authapi.identity import Event, User
from authapi.services.accounts.administration import Changes, UserPage
from authapi.web.schemas.fields import Email, Input, Name, Output, limit, no_duplicates
from authapi.web.schemas.outputs import EventOut, UserOut

Role = Annotated[str, Field(max_length=40, pattern="^[a-z][a-z0-9_-]*$", examples=["editor"])]
Roles = Annotated[
    list[Role],
    Field(
        max_length=20,
        description="Names of roles that the settings have.",
        json_schema_extra={"uniqueItems": True, **limit("roles")},
    ),
    AfterValidator(no_duplicates),
]
Cursor = Annotated[str | None, Field(description="For `after`; null on the last page.")]


class Invitation(Input):
    """An account to be, whose owner is invited to it by mail."""

    email: Email
    name: Name | None = None
    roles: Roles = []  # noqa: RUF012  # pydantic copies it


class AccountChange(Input):
    """What to change of an account; what is left out stays."""

    name: Name | None = None
    is_active: Annotated[bool, Field(description="False ends all its sessions and tokens.")] = True
    is_superuser: bool = False
    roles: Annotated[Roles, Field(description="In place of those that it has.")] = []  # noqa: RUF012  # pydantic copies it

    def changes(self) -> Changes:
        """Those that were sent."""
        sent = Changes()
        if "name" in self.model_fields_set:
            sent["name"] = self.name
        if "is_active" in self.model_fields_set:
            sent["is_active"] = self.is_active
        if "is_superuser" in self.model_fields_set:
            sent["is_superuser"] = self.is_superuser
        if "roles" in self.model_fields_set:
            sent["roles"] = frozenset(self.roles)
        return sent


class AccountOut(UserOut):
    """An account, with what its owner need not see."""

    roles: Annotated[list[str], Field(description="Besides those that everybody has.")]

    @classmethod
    def of(cls, user: User) -> "AccountOut":
        """The account as superusers see it."""
        return cls(**UserOut.of(user).model_dump())


class AccountPage(Output):
    """Some accounts, and where to go on."""

    items: list[AccountOut]
    next: Cursor

    @classmethod
    def of(cls, page: UserPage) -> "AccountPage":
        """The page as superusers see it."""
        return cls(items=[AccountOut.of(user) for user in page.items], next=page.next)


class AnyEventOut(EventOut):
    """Something that happened to an account, or was tried."""

    user_id: Annotated[UUID | None, Field(description="Whose account; null: nobody's.")]
    actor_id: Annotated[UUID | None, Field(description="The superuser who did it to them.")]

    @classmethod
    def of(cls, event: Event) -> "AnyEventOut":
        """The event as superusers see it."""
        shown = EventOut.of(event).model_dump()
        shown |= {"ip": event.client.ip, "user_agent": event.client.user_agent}
        return cls(**shown, user_id=event.user_id, actor_id=event.actor_id)


class AnyEventPage(Output):
    """Some events, and where to go on."""

    items: list[AnyEventOut]
    next: Annotated[UUID | None, Field(description="For `before`; null on the last page.")]
