"""The JSON that goes in and out: `fields` are its parts, the others its documents."""

from authapi.web.schemas.fields import Input, Output
from authapi.web.schemas.inputs import LoginRequest, NewToken, PasswordChange, Profile, Registration
from authapi.web.schemas.oauth import (
    INACTIVE,
    ActiveToken,
    AuthorizationServer,
    InactiveToken,
    ProtectedResource,
)
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
    "INACTIVE",
    "ActiveToken",
    "AuthorizationServer",
    "EventOut",
    "EventPage",
    "HealthOut",
    "IdentityOut",
    "InactiveToken",
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
    "ProtectedResource",
    "Registration",
    "SessionDataOut",
    "SessionOut",
    "TokenOut",
    "UserOut",
    "session_data_out",
]
