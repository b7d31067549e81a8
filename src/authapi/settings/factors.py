"""Settings of second factors."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from authapi.settings.credentials import CredentialSettings
from authapi.settings.field_types import Rates, ShortDuration


class FactorSettings(CredentialSettings):
    """Settings of second factors, and of logins that wait for one."""

    mfa: Literal["off", "optional"] = "optional"
    """Second factors. `optional`: an account may add one, and its logins must prove it then. `off`:
    no account can add one; accounts that have one are still asked for it."""
    totp_issuer: str | None = Field(default=None, min_length=1, max_length=64, pattern="^[^:]+$")
    """The name of this service in authenticator apps. Default: the name in `mail_from`, or the
    host of `public_url`."""
    login_ticket_lifetime: ShortDuration = timedelta(minutes=5)
    """How long a login waits for its second factor."""
    recovery_codes: int = Field(default=10, ge=8, le=16)
    """Recovery codes that an account gets with its first second factor."""
    limit_second_factor: Rates = "5/5 minutes;30/day"
    """Wrong codes of authenticator apps for one account, from networks that it does not know."""
    limit_second_factor_known: Rates = "20/5 minutes;60/day"
    """Wrong codes of authenticator apps for one account, from networks that it was logged in to
    recently."""
