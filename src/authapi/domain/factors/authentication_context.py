"""How strong a login is: authentication methods (`amr`, RFC 8176) and context classes (`acr`)."""

from collections.abc import Collection, Mapping
from typing import Final

SINGLE_FACTOR: Final = "urn:authapi:acr:1"
"""One factor, such as a password."""
TWO_FACTORS: Final = "urn:authapi:acr:2"
"""Two factors, such as a password and a code of an authenticator app."""
PHISHING_RESISTANT: Final = "phr"
"""Two factors, one of which a phishing site cannot relay: a passkey (OpenID EAP ACR Values 1.0)."""

ACR_VALUES: Final = (SINGLE_FACTOR, TWO_FACTORS, PHISHING_RESISTANT)
"""The context classes, the weakest first. A stronger one meets the requirement of a weaker one."""

MFA: Final = "mfa"
"""The method that stands for several factors (RFC 8176)."""
_PROOF_OF_POSSESSION: Final = "pop"


METHODS: Final = {
    SINGLE_FACTOR: ("pwd",),
    TWO_FACTORS: ("pwd", "otp", MFA),
    PHISHING_RESISTANT: (_PROOF_OF_POSSESSION, "user", MFA),
}
"""For each context class, the methods of a login that has it: a password, a password and a code,
and a passkey that has verified its user."""


def acr_of(amr: Collection[str]) -> str | None:
    """Returns the context class of a login by these methods; None without a method.

    A personal access token has no methods: creating one is not a login.
    """
    if MFA in amr:
        return PHISHING_RESISTANT if _PROOF_OF_POSSESSION in amr else TWO_FACTORS
    return SINGLE_FACTOR if amr else None


def acr_of_claims(claims: Mapping[str, object], amr: Collection[str]) -> str | None:
    """Returns the context class of a caller whom another issuer vouches for; None if unknown.

    `claims` are those of the token, and `amr` the methods in it. A class that is none of
    `ACR_VALUES` has no place in their order. Without the claim `acr`, the methods count, but never
    as `PHISHING_RESISTANT`: other issuers write `pop` for keys of any kind.
    """
    if not amr:
        return None
    named = claims.get("acr")
    if named is None:
        return TWO_FACTORS if MFA in amr else SINGLE_FACTOR
    return next((acr for acr in ACR_VALUES if acr == named), None)


def strongest(acr: str, other: str) -> str:
    """Returns the stronger one of two context classes. Raises ValueError if one is unknown."""
    return max(acr, other, key=ACR_VALUES.index)


def meets_acr(acr: str | None, wanted: str) -> bool:
    """Whether the context class `acr` is `wanted`, or a stronger one. None meets none.

    Raises ValueError if one of them is unknown.
    """
    return acr is not None and ACR_VALUES.index(acr) >= ACR_VALUES.index(wanted)
