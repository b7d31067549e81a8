"""Models of visits to other providers."""

from typing import Annotated
from uuid import UUID

from pydantic import ConfigDict, Field

from authapi.domain.federation.person import LinkedIdentity
from authapi.web.schemas.fields import (
    Email,
    Input,
    OneTimeSecret,
    Output,
    Remember,
    StrategyName,
    Time,
)

MAX_CONTINUE = 2000
"""Characters of an address to which a login leads."""
CONTINUE = "Where the browser goes after the login: a path of this host, or a URL of an origin that"
CONTINUE += " the operator allows. Tokens are never in it: it gets a code in its fragment."


class ProviderOut(Output):
    """A provider at which people can log in."""

    name: Annotated[str, Field(examples=["google"])]
    title: Annotated[str, Field(description="For a button.", examples=["Google"])]
    start: Annotated[
        str,
        Field(
            description="The path to which the page sends a form, or leads by a link.",
            examples=["/login/with/google"],
        ),
    ]


class FlowRequest(Input):
    """How a login at a provider ends. Every member may be left out."""

    model_config = ConfigDict(validate_by_name=False, validate_by_alias=True)

    continue_to: Annotated[
        str | None,
        Field(alias="continue", max_length=MAX_CONTINUE, description=CONTINUE, examples=["/home"]),
    ] = None
    strategy: StrategyName = None
    remember: Remember = False
    hint: Annotated[
        Email | None,
        Field(description="The address of the account, for the form of the provider."),
    ] = None


class LinkRequest(Input):
    """Where the browser goes when it has come back from the provider."""

    model_config = ConfigDict(validate_by_name=False, validate_by_alias=True)

    continue_to: Annotated[
        str | None,
        Field(alias="continue", max_length=MAX_CONTINUE, description=CONTINUE, examples=["/home"]),
    ] = None


class FlowOut(Output):
    """The address at the provider to which the page leads the browser."""

    url: Annotated[
        str, Field(examples=["https://accounts.google.com/o/oauth2/v2/auth?client_id=a"])
    ]


class LoginCode(Input):
    """The code from the fragment of the address to which a login has led."""

    code: Annotated[
        str,
        Field(
            min_length=1,
            max_length=8192,
            pattern=r"^[\x21-\x7e]+$",
            description="It can be used once, for a minute.",
            examples=["vGf5C2n1q0bIu3Jp8mX7sYkLw4TzRdEaHhNoPiQrStU"],
        ),
    ]


AddressTicket = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=8192,
        pattern=r"^[\x21-\x7e]+$",
        examples=["vGf5C2n1q0bIu3Jp8mX7sYkLw4TzRdEaHhNoPiQrStU"],
        description="The ticket of the refusal `email_needed`. A browser has a cookie instead.",
    ),
]


class LoginAddress(Input):
    """The address of a person whose provider has told none that an account can have."""

    email: Email
    ticket: AddressTicket = None


class LoginAddressConfirmation(Input):
    """The token from the mail to the address that was entered."""

    token: OneTimeSecret
    ticket: AddressTicket = None


class LinkedIdentityOut(Output):
    """A person at a provider who may log in to the account."""

    id: UUID
    provider: Annotated[str, Field(description="The name of the provider.", examples=["google"])]
    issuer: Annotated[str, Field(examples=["https://accounts.google.com"])]
    subject: Annotated[
        str,
        Field(
            description="The identifier of the person at the issuer. Both together never change.",
            examples=["110169484474386276334"],
        ),
    ]
    email: Annotated[
        str | None,
        Field(
            description="The address that the provider sent last. It is not that of the account.",
            examples=["user@example.com"],
        ),
    ]
    email_verified: Annotated[
        bool, Field(description="Whether the provider says that it has verified the address.")
    ]
    name: str | None
    created_at: Annotated[Time, Field(description="When the person was linked.")]
    last_login_at: Time | None

    @classmethod
    def of(cls, linked: LinkedIdentity) -> "LinkedIdentityOut":
        """The representation of `linked`."""
        return cls(
            id=linked.id,
            provider=linked.provider,
            issuer=linked.issuer,
            subject=linked.subject,
            email=linked.email,
            email_verified=linked.email_verified,
            name=linked.name,
            created_at=linked.created_at,
            last_login_at=linked.last_login_at,
        )
