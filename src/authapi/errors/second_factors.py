"""Refusals that concern second factors: of a login, of a gate, and of a change of factors."""

from collections.abc import Sequence
from datetime import datetime

from authapi.errors.refusals import Forbidden, Refusal, Unauthenticated


class InsufficientAuthentication(Unauthenticated):
    """The login is not strong enough for this operation, and perhaps too old (RFC 9470)."""

    code = "insufficient_authentication"
    title = "A stronger login is required"

    def __init__(self, *, acr: str, max_age: int | None) -> None:
        super().__init__()
        self.acr = acr
        """The context class that the login must have."""
        self.max_age = max_age
        """The maximum age of the authentication, in seconds; None if the age suffices."""


class IncompleteLogin:
    """The members of a refusal of a login whose first factor is right.

    `headers` are added to the response: the cookie of a browser in which the login goes on.
    """

    def __init__(
        self,
        *,
        ticket: str | None,
        methods: Sequence[str],
        expires_at: datetime,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self.ticket = ticket
        """What the login goes on with; None if the browser has a cookie for it."""
        self.methods = tuple(methods)
        """How the second factor can be proved, or which factors the account can add."""
        self.expires_at = expires_at
        """When the login has to begin again."""
        self.headers = tuple(headers)


class SecondFactorRequired(IncompleteLogin, Unauthenticated):
    """The account has a second factor, which the login must prove."""

    code = "second_factor_required"
    title = "A second factor is required"


class EnrolmentRequired(IncompleteLogin, Unauthenticated):
    """The account must have a second factor, which the login must add."""

    code = "enrolment_required"
    title = "The account must add a second factor"


class SecondFactorRefused(Unauthenticated):
    """The second factor of a login is wrong, or was used before."""

    code = "second_factor_refused"
    title = "The second factor is wrong"

    def __init__(self, *, attempts_left: int) -> None:
        super().__init__()
        self.attempts_left = attempts_left
        """How many attempts this login has left."""


class PasskeyRefused(Unauthenticated):
    """The passkey of a login is unknown, or its proof is wrong or was used before."""

    code = "passkey_refused"
    title = "The passkey was refused"

    def __init__(self, *, is_unknown: bool = False) -> None:
        super().__init__()
        self.is_unknown = is_unknown
        """Whether no account has this passkey, so that its owner can remove it."""


class LoginExpired(Unauthenticated):
    """The login that waited for a second factor has ended: it must begin again."""

    code = "login_expired"
    title = "The login has expired: begin again"


class WrongCode(Forbidden):
    """The code of a second factor that an authenticated caller sent is wrong, or was used."""

    code = "wrong_code"
    title = "The code is wrong"


class WrongPasskey(Forbidden):
    """The proof of a passkey that an authenticated caller sent is wrong, or was used before."""

    code = "wrong_passkey"
    title = "The passkey could not be verified"


class PasskeysUnavailable(Forbidden):
    """Passkeys cannot be used here; `detail` says what the operator or the user can do."""

    code = "passkeys_unavailable"
    title = "Passkeys are not available"


class MFADisabled(Forbidden):
    """The operator has disabled second factors (`mfa=off`)."""

    code = "mfa_disabled"
    title = "This service has no second factors"


class FactorExists(Refusal):
    """The account has an authenticator app already, or an account has this passkey."""

    code = "factor_exists"
    title = "This factor exists already: remove it first"


class TooManyFactors(Refusal):
    """The account has `max_passkeys` passkeys already."""

    code = "too_many_factors"
    title = "The account has too many passkeys: remove one first"


class LastFactor(Refusal):
    """The account must have a second factor, and has no other one."""

    code = "last_factor"
    title = "The account must have a second factor, and has no other one"


class LastWayIn(Refusal):
    """Without this passkey, the owner could not log in any longer."""

    code = "last_way_in"
    title = "This is the only way to log in to the account"
