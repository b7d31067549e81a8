"""What goes wrong without anybody having asked for what may not be."""

from typing import ClassVar


class AuthAPIError(Exception):
    """Base of everything that authapi raises on purpose."""


class ConfigurationError(AuthAPIError):
    """The settings, the data folder or the routes do not fit; the text is one line for people."""


class TokenError(AuthAPIError):
    """A signed token was refused. One class and no text: a reason in an answer would be an oracle.

    `check` names what did not hold, for the log at DEBUG, and says nothing that is in the token.
    """

    def __init__(self, check: str = "") -> None:
        super().__init__()
        self.check = check


class UnknownKey(TokenError):
    """The token names a key that is not known here: newer keys may have come, or it is forged."""


class KeyRefused(AuthAPIError):
    """A key is of a kind, size or purpose that no token may be signed with."""


class SealBroken(AuthAPIError):
    """What was sealed was sealed under another secret, for another place, or has been changed."""


class SignatureMismatch(AuthAPIError):
    """A signature does not belong to the bytes that it came beside, or is none."""


class PasswordMismatch(AuthAPIError):
    """The password does not belong to the stored hash, or there is no hash to belong to."""


class HashRefused(AuthAPIError):
    """A password hash of another system is not one that is verified here; the text says why."""


class LineRefused(AuthAPIError):
    """A line of an import describes no account that can be made here."""

    def __init__(self, *faults: tuple[str, str]) -> None:
        super().__init__("; ".join(": ".join(filter(None, fault)) for fault in faults))
        self.faults = faults
        """Which field, or nothing for the whole line, and why; no values, but the names of what is
        no field."""


class DeliveryFailed(AuthAPIError):
    """Something from the outbox did not get through; the text is kept, so it names nobody."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
        """Whether trying again has no sense."""


class Unavailable(AuthAPIError):
    """Something that a request needs is away or full; the same request may succeed later."""

    code: ClassVar[str] = "unavailable"
    title: ClassVar[str] = "Temporarily unavailable"
    retry_after: int = 1
    """Seconds after which a client may try again."""


class StorageUnavailable(Unavailable):
    """The database cannot be reached, is locked, or has no free connection."""

    code = "database_unavailable"
    title = "The database is temporarily unavailable"


class Overloaded(Unavailable):
    """More password hashes are asked for than may wait."""

    code = "overloaded"
    title = "Too much work is waiting"


class ShuttingDown(Unavailable):
    """The process ends soon: `/health/ready` sends balancers elsewhere."""

    code = "shutting_down"
    title = "The process is about to end"


class IssuerUnavailable(Unavailable):
    """The issuer of a credential cannot be asked: nobody can tell whether it is good."""

    code = "issuer_unavailable"
    title = "The issuer of the credential is temporarily unavailable"

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after
