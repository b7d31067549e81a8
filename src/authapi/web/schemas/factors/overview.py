"""Models of the second factors that an account has."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from authapi.domain.factors.values import RecoveryCodesLeft, TOTPFactor
from authapi.services.factors.changes import AccountFactors
from authapi.web.schemas.factors.passkeys import PasskeyOut
from authapi.web.schemas.fields import Output, Time


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
    passkeys: list[PasskeyOut]
    recovery_codes: RecoveryCodesLeftOut | None

    @classmethod
    def of(cls, factors: AccountFactors) -> "FactorsOut":
        """The representation of `factors`."""
        totp, codes = factors.totp, factors.recovery_codes
        return cls(
            mfa=totp is not None or bool(factors.passkeys),
            required=factors.required,
            totp=None if totp is None else TOTPOut.of(totp),
            passkeys=[PasskeyOut.of(passkey) for passkey in factors.passkeys],
            recovery_codes=None if codes is None else RecoveryCodesLeftOut.of(codes),
        )
