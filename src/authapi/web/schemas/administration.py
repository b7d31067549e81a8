"""Models of the administration API: accounts and events for superusers."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, SerializeAsAny

from authapi.domain.events import Event
from authapi.domain.user import User
from authapi.services.accounts.administration import AccountChanges, UserPage
from authapi.web.schemas.event import EventOut
from authapi.web.schemas.fields import (
    Email,
    Input,
    Name,
    NewUserName,
    Output,
    OwnUserName,
    limit,
    no_duplicates,
)
from authapi.web.schemas.user import UserOut

Role = Annotated[str, Field(max_length=40, pattern="^[a-z][a-z0-9_-]*$", examples=["editor"])]
Roles = Annotated[
    list[Role],
    Field(
        max_length=20,
        description="Names of roles. The operator defines the roles and their scopes.",
        json_schema_extra={"uniqueItems": True, **limit("roles")},
    ),
    AfterValidator(no_duplicates),
]
Cursor = Annotated[
    str | None, Field(description="Value of `after` for the next page; null on the last page.")
]


class Invitation(Input):
    """A new account. Its owner receives an invitation by mail."""

    email: Email
    name: Name | None = None
    username: NewUserName = None
    roles: Roles = []  # noqa: RUF012  # pydantic copies it


class AccountChange(Input):
    """Changes of an account. Members that are left out keep their values."""

    name: Name | None = None
    username: OwnUserName = None
    is_active: Annotated[
        bool, Field(description="`false` deactivates the account and ends its sessions and tokens.")
    ] = True
    is_superuser: bool = False
    roles: Annotated[Roles, Field(description="Replaces all roles of the account.")] = []  # noqa: RUF012  # pydantic copies it

    def changes(self) -> AccountChanges:
        """The members that the client sent."""
        changes = AccountChanges()
        if "name" in self.model_fields_set:
            changes["name"] = self.name
        if "username" in self.model_fields_set:
            changes["username"] = self.username
        if "is_active" in self.model_fields_set:
            changes["is_active"] = self.is_active
        if "is_superuser" in self.model_fields_set:
            changes["is_superuser"] = self.is_superuser
        if "roles" in self.model_fields_set:
            changes["roles"] = frozenset(self.roles)
        return changes


class AccountOut(UserOut):
    """An account, as superusers see it."""

    roles: Annotated[
        list[str],
        Field(description="The roles of this account, without the default roles of all accounts."),
    ]

    @classmethod
    def of(cls, user: User) -> "AccountOut":
        """The representation of `user` for superusers, with own columns if it has them."""
        shown = dict(UserOut.of(user))
        return AccountWithProfileOut(**shown) if "profile" in shown else AccountOut(**shown)


class AccountWithProfileOut(AccountOut):
    """An account with own columns. The document has a model with the type of `profile`."""

    profile: SerializeAsAny[object]


class AccountPage(Output):
    """A page of accounts."""

    items: list[SerializeAsAny[AccountOut]]
    next: Cursor

    @classmethod
    def of(cls, page: UserPage) -> "AccountPage":
        """The representation of `page` for superusers."""
        return cls(items=[AccountOut.of(user) for user in page.items], next=page.next)


class AdminEventOut(EventOut):
    """An audit event, as superusers see it."""

    user_id: Annotated[
        UUID | None, Field(description="The account; null if the event has no account.")
    ]
    actor_id: Annotated[
        UUID | None,
        Field(description="The superuser who changed the account of another user; else null."),
    ]

    @classmethod
    def of(cls, event: Event) -> "AdminEventOut":
        """The representation of `event` for superusers."""
        members = EventOut.of(event).model_dump()
        members |= {"ip": event.client.ip, "user_agent": event.client.user_agent}
        return cls(**members, user_id=event.user_id, actor_id=event.actor_id)


class AdminEventPage(Output):
    """A page of audit events."""

    items: list[AdminEventOut]
    next: Annotated[
        UUID | None,
        Field(description="Value of `before` for the next page; null on the last page."),
    ]
