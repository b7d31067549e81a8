"""Models of the second factors of the caller, and of their changes."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from authapi.domain.factors import RecoveryCodesLeft, TOTPFactor
from authapi.services.factors.changes import AccountFactors
from authapi.services.factors.totp import NewEnrolment
from authapi.web.schemas.fields import Input, Output, Time
from authapi.web.schemas.second_factor import Code


class TOTPOut(Output):
    """The authenticator app of an account."""

    id: UUID
    created_at: Time
    confirmed_at: Time
    last_used_at: Annotated[Time, Field(description="When a code was last accepted.")]

    @classmethod
    def of(cls, factor: TOTPFactor) -> "TOTPOut":
        """The representation of a confirmed factor. Raises ValueError for another."""
        if factor.confirmed_at is None or factor.last_used_at is None:
            raise ValueError("the factor is not confirmed")
        return cls(
            id=factor.id,
            created_at=factor.created_at,
            confirmed_at=factor.confirmed_at,
            last_used_at=factor.last_used_at,
        )


class RecoveryCodesLeftOut(Output):
    """How many recovery codes are unused. The codes themselves are shown once."""

    left: Annotated[int, Field(examples=[10])]
    made_at: Time

    @classmethod
    def of(cls, codes: RecoveryCodesLeft) -> "RecoveryCodesLeftOut":
        """The representation of `codes`."""
        return cls(left=codes.left, made_at=codes.made_at)


class FactorsOut(Output):
    """The second factors of an account, without secrets."""

    mfa: Annotated[bool, Field(description="Whether a login must prove a second factor.")]
    required: Annotated[bool, Field(description="Whether the account must have a second factor.")]
    totp: Annotated[TOTPOut | None, Field(description="The authenticator app.")]
    passkeys: Annotated[list[UUID], Field(description="Empty: there are no passkeys yet.")]
    recovery_codes: RecoveryCodesLeftOut | None

    @classmethod
    def of(cls, factors: AccountFactors) -> "FactorsOut":
        """The representation of `factors`."""
        totp, codes = factors.totp, factors.recovery_codes
        return cls(
            mfa=totp is not None,
            required=False,
            totp=None if totp is None else TOTPOut.of(totp),
            passkeys=[],
            recovery_codes=None if codes is None else RecoveryCodesLeftOut.of(codes),
        )


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

    recovery_codes: Annotated[
        list[str] | None,
        Field(
            description="The recovery codes, with the first second factor of the account. They are "
            "not shown again.",
            examples=[["7K2M-Q4XP-9RTD-3WHN"]],
        ),
    ] = None
