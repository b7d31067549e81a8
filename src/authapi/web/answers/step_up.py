"""What a login lacks, to be completed or for a route: in problem documents and challenges.

Routes state it in the OpenAPI document too. See RFC 9470. A browser cannot read `WWW-Authenticate`
of another origin, and a challenge for a cookie has no such parameters, so the problem document
repeats them.
"""

from collections.abc import Mapping

from authapi.domain.factors.authentication_context import PHISHING_RESISTANT, TWO_FACTORS
from authapi.errors import (
    AuthAPIError,
    EmailNeeded,
    InsufficientAuthentication,
    LinkRequired,
    PasskeyRefused,
    SecondFactorRefused,
    StaleAuthentication,
)
from authapi.errors.second_factors import IncompleteLogin
from authapi.web.schemas.fields import format_time

REQUIRES = "x-authapi-requires"
"""The member of an operation in the OpenAPI document: `login_requirements` of its gates."""


def login_members(error: AuthAPIError) -> dict[str, object]:
    """Returns how a login goes on, or what a refused one tells; empty for other errors.

    A browser has a cookie instead of `ticket`. A refused second factor tells how many attempts are
    left, and a refused passkey, that no account has it.
    """
    members: dict[str, object] = {}
    if isinstance(error, IncompleteLogin | EmailNeeded) and error.ticket is not None:
        members["ticket"] = error.ticket
    if isinstance(error, IncompleteLogin | LinkRequired):
        members["methods"] = list(error.methods)
    if isinstance(error, IncompleteLogin | EmailNeeded):
        members["expires_at"] = format_time(error.expires_at)
    if isinstance(error, SecondFactorRefused):
        members["attempts_left"] = error.attempts_left
    if isinstance(error, PasskeyRefused) and error.is_unknown:
        members["unknown"] = True
    return members


def step_up_members(error: AuthAPIError) -> dict[str, str | int]:
    """Returns `acr_values` and `max_age` as far as a login lacks them; empty for other errors."""
    members: dict[str, str | int] = {}
    if isinstance(error, InsufficientAuthentication):
        members["acr_values"] = error.acr
    if isinstance(error, InsufficientAuthentication | StaleAuthentication) and (
        error.max_age is not None
    ):
        members["max_age"] = error.max_age
    return members


def step_up_parameters(error: AuthAPIError) -> dict[str, str]:
    """Returns the parameters of a challenge (RFC 9470, section 3); empty for other errors."""
    members = step_up_members(error)
    if not members:
        return {}
    texts = {name: str(value) for name, value in members.items()}
    return {"error": "insufficient_user_authentication", **texts}


def describe_requirements(required: Mapping[str, object]) -> str:
    """Returns a sentence for the description of an operation with these `login_requirements`."""
    acr, age, mfa_age = (required.get(name) for name in ("acr", "max_age", "mfa_max_age"))
    login = "a login"
    if acr == PHISHING_RESISTANT:
        login = "a login that resists phishing (`phr`)"
    elif acr == TWO_FACTORS:
        login = "a login with two factors"
    elif required.get("mfa") == "enrolled":
        login = "a login with a second factor if the account has one"
    parts = [login]
    if age is not None:
        parts.append(f"at most {age} seconds ago")
    if mfa_age is not None:
        parts.append(f"with the second factor at most {mfa_age} seconds ago")
    return f"Requires {', '.join(parts)}."
