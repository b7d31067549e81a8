"""The JSON that goes in and out: `fields` are its parts, `inputs` and `outputs` its documents."""

from authapi.web.schemas.fields import Input, Output
from authapi.web.schemas.inputs import LoginRequest, NewToken, PasswordChange, Profile, Registration
from authapi.web.schemas.outputs import (
    EventOut,
    EventPage,
    HealthOut,
    IdentityOut,
    JWKSetOut,
    LoginOut,
    NewTokenOut,
    PersonalTokenOut,
    Problem,
    ProblemError,
    SessionDataOut,
    SessionOut,
    TokenOut,
    UserOut,
    session_data_out,
)

__all__ = [
    "EventOut",
    "EventPage",
    "HealthOut",
    "IdentityOut",
    "Input",
    "JWKSetOut",
    "LoginOut",
    "LoginRequest",
    "NewToken",
    "NewTokenOut",
    "Output",
    "PasswordChange",
    "PersonalTokenOut",
    "Problem",
    "ProblemError",
    "Profile",
    "Registration",
    "SessionDataOut",
    "SessionOut",
    "TokenOut",
    "UserOut",
    "session_data_out",
]
