"""Models of a new authenticator app, its confirmation, and recovery codes."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from authapi.services.factors.totp import NewEnrolment
from authapi.web.schemas.fields import Code, Input, Output, Time

FirstRecoveryCodes = Annotated[
    list[str] | None,
    Field(
        description="The recovery codes, with the first second factor of the account. They are "
        "not shown again.",
        examples=[["7K2M-Q4XP-9RTD-3WHN"]],
    ),
]


class EnrolmentOut(Output):
    """The secret of a new authenticator app. It is not shown again."""

    id: UUID
    secret: Annotated[
        str,
        Field(
            description="In base32, to be typed into the app.",
            examples=["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"],
        ),
    ]
    uri: Annotated[
        str,
        Field(
            description="The `otpauth:` URI for the app: the content of the QR code.",
            examples=[
                "otpauth://totp/Example:a@example.com?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
            ],
        ),
    ]
    qr_svg: Annotated[
        str | None,
        Field(description="The QR code as an SVG element; null without the extra `mfa`."),
    ]
    expires_at: Annotated[Time, Field(description="When the enrolment ends without a code.")]

    @classmethod
    def of(cls, enrolment: NewEnrolment, qr_svg: str | None) -> "EnrolmentOut":
        """The representation of `enrolment`, with its QR code."""
        return cls(
            id=enrolment.id,
            secret=enrolment.secret,
            uri=enrolment.uri,
            qr_svg=qr_svg,
            expires_at=enrolment.expires_at,
        )


class Confirmation(Input):
    """The first code of an authenticator app."""

    code: Code


class RecoveryCodesOut(Output):
    """New recovery codes. They are not shown again."""

    recovery_codes: Annotated[
        list[str],
        Field(
            description="Each proves the second factor once.", examples=[["7K2M-Q4XP-9RTD-3WHN"]]
        ),
    ]


class ConfirmedOut(Output):
    """The result of a confirmation."""

    recovery_codes: FirstRecoveryCodes = None
