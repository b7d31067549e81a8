"""Models of the account of the caller: its changes, its password, and the export of its data."""

from typing import Annotated
from uuid import UUID

from pydantic import Field, SerializeAsAny

from authapi.domain.user import User, UserWithProfile
from authapi.web.schemas.event import EventOut
from authapi.web.schemas.factors.overview import FactorsOut
from authapi.web.schemas.federation.flows import LinkedIdentityOut
from authapi.web.schemas.fields import (
    Input,
    Name,
    NewPassword,
    Output,
    OwnLocale,
    OwnUserName,
    Password,
    Time,
)
from authapi.web.schemas.session import SessionOut
from authapi.web.schemas.token import PersonalTokenOut


class UserOut(Output):
    """An account."""

    id: UUID
    email: Annotated[
        str, Field(description="In the spelling of its owner.", examples=["alice@example.com"])
    ]
    name: str | None
    username: Annotated[
        str | None,
        Field(
            description="In the case that its owner chose; null without one.", examples=["alice"]
        ),
    ]
    is_active: bool
    is_superuser: bool
    email_confirmed_at: Time | None
    created_at: Time
    updated_at: Time
    locale: Annotated[
        str | None,
        Field(description="The language of mails; null for the default language of the service."),
    ]
    roles: list[str]

    @classmethod
    def of(cls, user: User) -> "UserOut":
        """The representation of `user`, with own columns if it has them."""
        shown = UserOut(
            id=user.id,
            email=user.email,
            name=user.name,
            username=user.username,
            is_active=user.is_active,
            is_superuser=user.is_superuser,
            email_confirmed_at=user.email_confirmed_at,
            created_at=user.created_at,
            updated_at=user.updated_at,
            locale=user.locale,
            roles=sorted(user.roles),
        )
        if isinstance(user, UserWithProfile):
            return WithProfileOut(**dict(shown), profile=user.profile)
        return shown


class WithProfileOut(UserOut):
    """An account with own columns. The document has a model with the type of `profile`."""

    profile: SerializeAsAny[object]


class OwnChange(Input):
    """Changes of the own account. Members that are left out keep their values."""

    name: Name | None = None
    username: OwnUserName = None
    locale: OwnLocale = None


class PasswordChange(Input):
    """The current password, and the new password."""

    current_password: Password
    new_password: Annotated[NewPassword, Field(examples=["another horse, another battery"])]


class ExportOut(Output):
    """All data of the account of the caller."""

    exported_at: Time
    account: SerializeAsAny[UserOut]
    sessions: Annotated[list[SessionOut], Field(description="The active login sessions.")]
    tokens: list[PersonalTokenOut]
    factors: Annotated[FactorsOut, Field(description="The second factors, without secrets.")]
    identities: Annotated[
        list[LinkedIdentityOut], Field(description="The people at providers who may log in.")
    ]
    events: list[EventOut]
