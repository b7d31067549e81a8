"""Refusals of a request: each has a stable code for programs, and a title for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from authapi.errors.failures import AuthAPIError


class Refusal(AuthAPIError):
    """A request was understood and refused.

    `code` is stable; `title` describes the class. `detail` describes this case, for people.
    """

    code: ClassVar[str] = "refused"
    title: ClassVar[str] = "Refused"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail


class Unauthenticated(Refusal):
    """The request has no valid credential for this route."""

    code = "unauthenticated"
    title = "Authentication is required"


class InvalidCredential(Unauthenticated):
    """A strategy recognized the credential and rejected it.

    The response is the same as for a request without a credential, so it does not reveal the
    reason. `headers` are added to the response, for example to make the client delete its cookie.
    """

    def __init__(
        self, detail: str | None = None, *, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.headers = tuple(headers)


class UnrecognizedCredential(InvalidCredential):
    """A strategy rejected the credential, which may belong to another strategy.

    The resolver tries the next strategy of the route.
    """


class InvalidCredentials(Unauthenticated):
    """The e-mail address or user name, or the password, of a login is wrong."""

    code = "invalid_credentials"
    title = "The name or the password is wrong"


class InvalidClient(Unauthenticated):
    """Client authentication at an OAuth endpoint failed (RFC 6749, section 5.2)."""

    code = "invalid_client"
    title = "The client is unknown, or its secret is wrong"


class InactiveAccount(Unauthenticated):
    """The credential is valid, but the account is deactivated."""

    code = "inactive_account"
    title = "The account is deactivated"


class StaleAuthentication(Unauthenticated):
    """The last authentication is too old for this operation (RFC 9470)."""

    code = "stale_authentication"
    title = "A more recent login is required"

    def __init__(self, *, max_age: int) -> None:
        super().__init__()
        self.max_age = max_age
        """The maximum age of the authentication, in seconds."""


class Forbidden(Refusal):
    """The caller is authenticated, but not allowed to do this."""

    code = "forbidden"
    title = "Not allowed"


class InsufficientScope(Forbidden):
    """The credential lacks a scope that the route requires (RFC 6750, section 3.1)."""

    code = "insufficient_scope"
    title = "The credential lacks a required scope"

    def __init__(self, *, required: Sequence[str]) -> None:
        super().__init__("Required: " + " ".join(required))
        self.required = tuple(required)


class UnconfirmedEmail(Forbidden):
    """The route requires a confirmed e-mail address."""

    code = "email_not_confirmed"
    title = "The e-mail address is not confirmed"


class SuperuserRequired(Forbidden):
    """The route requires a superuser."""

    code = "superuser_required"
    title = "Only a superuser may do this"


class OwnAccount(Forbidden):
    """Superusers cannot do this to their own account."""

    code = "own_account"
    title = "A superuser cannot do this to their own account"


class MailDisabled(Forbidden):
    """The operation sends mail, and `mail_url` is not set."""

    code = "mail_disabled"
    title = "This service sends no mail"


class RegistrationClosed(Forbidden):
    """The operator has closed registration."""

    code = "registration_closed"
    title = "Registration is closed"


class WrongPassword(Forbidden):
    """The current password that an authenticated caller sent is wrong."""

    code = "wrong_password"
    title = "The current password is wrong"


class ProofRequired(Forbidden):
    """The link shows who owns the mailbox. The request must also show who owns the account."""

    code = "proof_required"
    title = "Log in to the account, or send its password or e-mail address"


class ForeignOrigin(Forbidden):
    """A page of another origin made the browser send a cookie or HTTP Basic credentials (CSRF)."""

    code = "foreign_origin"
    title = "The request comes from another origin"


class WrongDestination(Forbidden):
    """A browser requested the response as a script, image or frame (`Sec-Fetch-Dest`)."""

    code = "wrong_destination"
    title = "The response cannot be used as a script, image or frame"


class ReportNotSigned(Forbidden):
    """The report of leaked tokens has no valid signature by a configured scanner key."""

    code = "report_not_signed"
    title = "The report is not signed by a known scanner"


class HTTPSRequired(Forbidden):
    """The request arrived over plain HTTP, so its credentials were sent unencrypted."""

    code = "https_required"
    title = "HTTPS is required"


class TooManyAttempts(Refusal):
    """A limit on failed attempts is reached. It counts for unknown accounts in the same way."""

    code = "too_many_attempts"
    title = "Too many attempts"

    def __init__(self, *, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Seconds after which the client may try again (header `Retry-After`)."""


class TooManyRequests(Refusal):
    """The account exceeds `limit_writes`, or the maximum number of concurrent exports."""

    code = "too_many_requests"
    title = "Too many requests by this account"

    def __init__(self, *, retry_after: int = 60) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Seconds after which the client may try again (header `Retry-After`)."""


class NotFound(Refusal):
    """The resource does not exist, or belongs to another account. The response is the same."""

    code = "not_found"
    title = "Not found"


class EmailTaken(Refusal):
    """Another account has this e-mail address."""

    code = "email_taken"
    title = "The e-mail address is taken"


class AccountInUse(Refusal):
    """A row of the application refers to the account, and its foreign key refuses the deletion."""

    code = "account_in_use"
    title = "The account is in use"


class UsernameTaken(Refusal):
    """The user name is not free: another account has it, or had it until recently."""

    code = "username_taken"
    title = "The user name is taken"


class LastSuperuser(Refusal):
    """The last active superuser cannot be demoted, deactivated or deleted."""

    code = "last_superuser"
    title = "The last active superuser cannot be demoted, deactivated or deleted"


class NotInvited(Refusal):
    """The account is active under its owner, or deactivated, so it cannot be invited."""

    code = "not_invited"
    title = "The account cannot be invited"


class AccountDeactivated(Refusal):
    """A superuser cannot do this to a deactivated account: it must be activated first."""

    code = "account_deactivated"
    title = "The account is deactivated: activate it first"


class TooManyTokens(Refusal):
    """The account has the maximum number of personal access tokens (`max_personal_tokens`)."""

    code = "too_many_tokens"
    title = "The account has too many personal access tokens: delete one first"


class KeyNotPublished(Refusal):
    """Verifiers may not have read the next signing key yet, so it does not sign yet."""

    code = "key_not_published"
    title = "Verifiers may not have read the next key yet"


class FormAlreadySent(Refusal):
    """A form that must be sent once was sent again, such as by reloading the page after it."""

    code = "form_already_sent"
    title = "The form was sent before"


class PreconditionFailed(Refusal):
    """The entity tag in `If-Match` is out of date (RFC 9110, section 13.1.1)."""

    code = "precondition_failed"
    title = "The resource has changed"


@dataclass(frozen=True, slots=True)
class InputError:
    """One invalid value: its location, the code of the rule it breaks, and a message for people."""

    loc: tuple[str | int, ...]
    code: str
    message: str


class InvalidInput(Refusal):
    """The input is well-formed, but breaks a rule."""

    code = "validation_failed"
    title = "The input is not valid"

    def __init__(self, *errors: InputError) -> None:
        super().__init__()
        self.errors = errors


class ProfileTaken(InvalidInput):
    """Another account has a value of the profile that must be unique."""

    code = "profile_taken"
    title = "A value of the profile is in use"


class InvalidOneTimeSecret(Refusal):
    """The token from a mail is unknown, used, expired, or superseded by a later change."""

    code = "invalid_one_time_secret"
    title = "The link is no longer valid"


class InvalidGrant(Refusal):
    """The token endpoint refused the grant, with `code` as `error` (RFC 6749, section 5.2)."""

    code = "invalid_grant"
    title = "The grant was refused"


class InvalidScope(InvalidGrant):
    """The requested scope is malformed, unknown or not granted (RFC 6749, section 5.2)."""

    code = "invalid_scope"
    title = "The scope is malformed or unknown"


class InvalidTokenRequest(InvalidGrant):
    """A parameter of a token request is missing, repeated or malformed (RFC 6749, section 5.2)."""

    code = "invalid_request"
    title = "The token request is not valid"


class UnsupportedGrantType(InvalidGrant):
    """The grant type is unknown or disabled (RFC 6749, section 5.2)."""

    code = "unsupported_grant_type"
    title = "The grant type is not supported"
