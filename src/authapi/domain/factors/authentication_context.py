"""How strong a login is: authentication methods (`amr`, RFC 8176) and context classes (`acr`)."""

from collections.abc import Collection
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


def acr_of(amr: Collection[str]) -> str | None:
    """Returns the context class of a login by these methods; None without a method.

    A personal access token has no methods: creating one is not a login.
    """
    if MFA in amr:
        return PHISHING_RESISTANT if _PROOF_OF_POSSESSION in amr else TWO_FACTORS
    return SINGLE_FACTOR if amr else None


def meets_acr(amr: Collection[str], wanted: str) -> bool:
    """Whether a login by these methods has the context class `wanted`, or a stronger one.

    Raises ValueError if `wanted` is none of `ACR_VALUES`.
    """
    needed, acr = ACR_VALUES.index(wanted), acr_of(amr)
    return acr is not None and ACR_VALUES.index(acr) >= needed
