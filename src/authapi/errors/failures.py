"""Errors that are not refusals of a request: failures of the process, its data or its backends."""

import re
from typing import ClassVar

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")


class AuthAPIError(Exception):
    """Base class of all errors that authapi raises deliberately."""


class ConfigurationError(AuthAPIError):
    """The settings, data folder or routes are not valid. The text is one line for operators.

    `hint` is what to do about it, if one thing helps. The text ends with it; a command prints
    `message` and the hint on lines of their own.
    """

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}: {hint}")
        self.message = message
        self.hint = hint


class TokenError(AuthAPIError):
    """A signed token was rejected. It has no text: a reason in the response would be an oracle.

    `check` names the check that failed, for the log at level DEBUG. It contains no part of the
    token.
    """

    def __init__(self, check: str = "") -> None:
        super().__init__()
        self.check = check


class UnknownKey(TokenError):
    """The key set has no key for the token: the set is out of date, or the token is forged."""


class UnsupportedKey(AuthAPIError):
    """The type, size or use of a key does not allow it to sign tokens."""


class DecryptionFailed(AuthAPIError):
    """A ciphertext was encrypted with another key, for another context, or was modified."""


class ReadOnlyRow(AuthAPIError):
    """An ORM session of the application flushes a change of `authapi.orm.UserRow`."""


class SignatureMismatch(AuthAPIError):
    """A detached signature is malformed, or does not match the signed bytes."""


class PasswordMismatch(AuthAPIError):
    """The password does not match the stored hash, or the account has no hash."""


class PasswordRefused(AuthAPIError):
    """A password rule of the application refuses a new password (`AuthAPI.password_policy`).

    The response is `validation_failed`, with `code` and `message` among its `errors`. `code` is
    stable, in snake_case; `message` is for people, and contains no part of the password. Raises
    ValueError if `code` is not snake_case.
    """

    def __init__(self, code: str, message: str) -> None:
        if not _CODE.fullmatch(code):
            raise ValueError(f"the code {code!r} is not snake_case")
        super().__init__(message)
        self.code = code
        self.message = message


class PasskeyMismatch(AuthAPIError):
    """The answer of an authenticator does not prove its passkey.

    `reason` is `counter`, `origin` or `user` if the signature counter, the page or the account is
    the wrong one, `unknown` if no account has the passkey, and None in all other cases.
    """

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason or "")
        self.reason = reason


class UnsupportedHash(AuthAPIError):
    """authapi cannot verify a password hash of another system. The text gives the reason."""


class InvalidImportLine(AuthAPIError):
    """A line of an import file does not describe an account that authapi can create."""

    def __init__(self, *field_errors: tuple[str, str]) -> None:
        super().__init__("; ".join(": ".join(filter(None, error)) for error in field_errors))
        self.field_errors = field_errors
        """Pairs of field and reason; the field is empty if the error concerns the whole line. They
        contain no values, but may contain the names of unknown fields."""


class DeliveryFailed(AuthAPIError):
    """A mail or webhook from the outbox was not delivered.

    The text is stored in the outbox, so it contains no recipient and no personal data.
    """

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
        """Whether another attempt cannot succeed."""


class Unavailable(AuthAPIError):
    """A resource that the request needs is unreachable or exhausted. The client can try again."""

    code: ClassVar[str] = "unavailable"
    title: ClassVar[str] = "Temporarily unavailable"
    retry_after: int = 1
    """Seconds after which the client may try again (header `Retry-After`)."""


class StorageUnavailable(Unavailable):
    """The database is unreachable or locked, or the pool has no free connection."""

    code = "database_unavailable"
    title = "The database is temporarily unavailable"


class Overloaded(Unavailable):
    """The queue of password hashes is full."""

    code = "overloaded"
    title = "Too many requests are waiting"


class ShuttingDown(Unavailable):
    """The process is about to exit. `/health/ready` answers with this error, so that load balancers
    stop sending requests to it.
    """

    code = "shutting_down"
    title = "The process is shutting down"


class IssuerUnavailable(Unavailable):
    """The issuer of a credential is unreachable, so the credential cannot be verified."""

    code = "issuer_unavailable"
    title = "The issuer of the credential is temporarily unavailable"

    def __init__(self, *, retry_after: int = 1) -> None:
        super().__init__()
        self.retry_after = retry_after
