"""Models of the second step of a login."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from authapi.web.schemas.fields import Input

MAX_TICKET = 128
_MAX_CODE = 64

Code = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_MAX_CODE,
        examples=["123456"],
        description="The six digits that the authenticator app shows.",
    ),
]
RecoveryCode = Annotated[
    str,
    Field(
        min_length=1,
        max_length=_MAX_CODE,
        examples=["7K2M-Q4XP-9RTD-3WHN"],
        description="A recovery code. Case, dashes and spaces do not matter.",
    ),
]


class SecondFactor(Input):
    """The code of an authenticator app, or a recovery code: exactly one of the two."""

    # A null member stands for one that is left out.
    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("code", "recovery_code")
            ]
        }
    )

    ticket: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_TICKET,
            description="The ticket of the first step. A browser has a cookie instead.",
        ),
    ] = None
    code: Code | None = None
    recovery_code: RecoveryCode | None = None

    @model_validator(mode="after")
    def _check_one_code(self) -> Self:
        if (self.code is None) == (self.recovery_code is None):
            raise PydanticCustomError("one_code", "send either code or recovery_code")
        return self
