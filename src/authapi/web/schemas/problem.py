"""Models of error responses: problem documents (RFC 9457), and errors of OAuth endpoints."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue

from authapi.web.schemas.fields import Output

_NOT_FOUND: dict[str, JsonValue] = {
    "type": "urn:authapi:error:not_found",
    "title": "Not found",
    "status": 404,
    "detail": "Not found",
    "code": "not_found",
    "request_id": "1480654407de3e54000004199bcaf119",
}
_INVALID_GRANT: dict[str, JsonValue] = {
    **_NOT_FOUND,
    "type": "urn:authapi:error:invalid_grant",
    "title": "The grant is not valid",
    "status": 400,
    "detail": "The grant is not valid",
    "code": "invalid_grant",
    "error": "invalid_grant",
    "error_description": "The grant is not valid",
}


class ProblemError(Output):
    """One invalid value of the input."""

    loc: list[str | int]
    code: str
    message: str


class Problem(Output):
    """An error, as a problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_NOT_FOUND]})

    type: Annotated[str, Field(examples=["urn:authapi:error:not_found"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Any
    code: Annotated[
        str,
        Field(
            description="The stable code of the error; see docs/errors.md.", examples=["not_found"]
        ),
    ]
    request_id: str
    errors: list[ProblemError] | None = None
    acr_values: Annotated[
        str | None,
        Field(
            description="How strong the login must be (RFC 9470); for a login that is too weak.",
            examples=["urn:authapi:acr:2"],
        ),
    ] = None
    max_age: Annotated[
        int | None,
        Field(
            ge=0,
            description="How old the login may be, in seconds; for a login that is too old.",
            examples=[300],
        ),
    ] = None


class OAuthError(Problem):
    """An error of an OAuth endpoint (RFC 6749, section 5.2)."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_INVALID_GRANT]})

    error: Annotated[
        str,
        Field(
            description="The error code of RFC 6749 or RFC 6750.",
            examples=["invalid_grant"],
            pattern=r"^[a-z_]+$",
        ),
    ]
    error_description: Annotated[
        str,
        Field(
            description="A description for developers. It may change.",
            pattern=r"^[\x20\x21\x23-\x5b\x5d-\x7e]+$",
        ),
    ]
