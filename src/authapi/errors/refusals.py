"""What a caller can be told: each with a stable code, and words for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from authapi.errors.failures import AuthAPIError


class Refusal(AuthAPIError):
    """A request was understood and refused. `code` is stable; `detail` is for people."""

    code: ClassVar[str] = "refused"
    title: ClassVar[str] = "Refused"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail


class Unauthenticated(Refusal):
    """No good credential for this route."""

    code = "unauthenticated"
    title = "Authentication is required"


class InvalidCredential(Unauthenticated):
    """A strategy recognised a credential as its own kind, and it is not good.

    Answered exactly like no credential at all, whatever the reason: the answer tells nothing.
    `headers` are response headers by which the client drops a credential that is dead.
    """

    def __init__(
        self, detail: str | None = None, *, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.headers = tuple(headers)


class InvalidCredentials(Unauthenticated):
    """A login named an account or a password that does not fit."""

    code = "invalid_credentials"
    title = "E-mail address or password is wrong"


class InvalidClient(Unauthenticated):
    """An OAuth endpoint does not know a client by this id and secret (RFC 6749, section 5.2)."""

    code = "invalid_client"
    title = "The client is unknown, or its secret is wrong"


class InactiveAccount(Unauthenticated):
    """The credential is good, the account is deactivated."""

    code = "inactive_account"
    title = "The account is deactivated"


class StaleAuthentication(Unauthenticated):
    """The login lies too far back for this operation (RFC 9470)."""

    code = "stale_authentication"
    title = "A more recent login is required"

    def __init__(self, *, max_age: int) -> None:
        super().__init__()
        self.max_age = max_age
        """Seconds that a login may lie back."""


class Forbidden(Refusal):
    """The caller is known and may not do this."""

    code = "forbidden"
    title = "Not allowed"


class InsufficientScope(Forbidden):
    """The credential lacks scopes of this route (RFC 6750, section 3.1)."""

    code = "insufficient_scope"
    title = "The credential lacks a scope"

    def __init__(self, *, required: Sequence[str]) -> None:
        super().__init__("Required: " + " ".join(required))
        self.required = tuple(required)


class UnconfirmedEmail(Forbidden):
    """The route wants a confirmed e-mail address."""

    code = "email_not_confirmed"
    title = "The e-mail address is not confirmed"


class SuperuserRequired(Forbidden):
    """The route is for superusers."""

    code = "superuser_required"
    title = "Only a superuser may do this"


class OwnAccount(Forbidden):
    """A superuser may not do this to their own account."""

    code = "own_account"
    title = "Another superuser has to do this"


class MailDisabled(Forbidden):
    """It needs mail, and this service sends none."""

    code = "mail_disabled"
    title = "This service sends no mail"


class RegistrationClosed(Forbidden):
    """The operator has closed registration."""

    code = "registration_closed"
    title = "Registration is closed"


class WrongPassword(Forbidden):
    """A logged-in caller gave a wrong current password."""

    code = "wrong_password"
    title = "The current password is wrong"


class ProofRequired(Forbidden):
    """A link from a mail says whose mailbox it was read in, and not whose the account is."""

    code = "proof_required"
    title = "Log in to the account first, or send its password or address along"


class ForeignOrigin(Forbidden):
    """A browser sent its cookie or HTTP Basic from a page of another origin."""

    code = "foreign_origin"
    title = "The request comes from another origin"


class WrongDestination(Forbidden):
    """A browser wants to use an answer as something that it is not, such as a script."""

    code = "wrong_destination"
    title = "The answer is not meant for this use"


class ReportNotSigned(Forbidden):
    """No secret scanner whose key is configured has signed this report of leaked tokens."""

    code = "report_not_signed"
    title = "The report is not signed by a scanner that is known here"


class HTTPSRequired(Forbidden):
    """The request travelled in the clear, and so did what it carried."""

    code = "https_required"
    title = "Use https"


class TooManyAttempts(Refusal):
    """A limit on guessing is reached; the same for accounts that exist and that do not."""

    code = "too_many_attempts"
    title = "Too many attempts"

    def __init__(self, *, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Seconds."""


class TooManyRequests(Refusal):
    """An account has made as many changes as `limit_writes` allows, or exports too much at once."""

    code = "too_many_requests"
    title = "Too many requests of this account"

    def __init__(self, *, retry_after: int = 60) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Seconds."""


class NotFound(Refusal):
    """There is no such thing, or it is somebody else's: the answer is the same."""

    code = "not_found"
    title = "Not found"


class EmailTaken(Refusal):
    """Another account has this e-mail address."""

    code = "email_taken"
    title = "The e-mail address is taken"


class LastSuperuser(Refusal):
    """Nobody would be left who can look after the accounts."""

    code = "last_superuser"
    title = "There is no other superuser: make another one first"


class NotInvited(Refusal):
    """The account does not wait for somebody to take it over: it is somebody's, or deactivated."""

    code = "not_invited"
    title = "The account does not wait for its owner"


class TooManyTokens(Refusal):
    """The account has as many personal access tokens as it may have."""

    code = "too_many_tokens"
    title = "There are too many personal access tokens: end one first"


class PreconditionFailed(Refusal):
    """`If-Match` names a state that is gone (RFC 9110, section 13.1.1)."""

    code = "precondition_failed"
    title = "The resource has changed"


@dataclass(frozen=True, slots=True)
class InputError:
    """One thing wrong with the input: where (`loc`), which rule (`code`), and words for people."""

    loc: tuple[str | int, ...]
    code: str
    message: str


class InvalidInput(Refusal):
    """The input has the right form and breaks a rule."""

    code = "validation_failed"
    title = "The input is not valid"

    def __init__(self, *errors: InputError) -> None:
        super().__init__()
        self.errors = errors


class MalformedRequest(Refusal):
    """The request can be read in more than one way, or in none."""

    code = "malformed_request"
    title = "The request is malformed"

    def __init__(self, detail: str | None = None, *, websocket_version: str | None = None) -> None:
        super().__init__(detail)
        self.websocket_version = websocket_version
        """The version that is understood, if another one was the reason (RFC 6455, section 4.4)."""


class MalformedJSON(MalformedRequest):
    """The body is not JSON that has exactly one meaning (RFC 8259, RFC 7493)."""

    code = "malformed_json"
    title = "The body is not valid JSON"


class DuplicateHeader(MalformedRequest):
    """A header that may come once came twice."""

    code = "duplicate_header"
    title = "A header was sent more than once"


class InvalidOneTimeSecret(Refusal):
    """What came by mail is unknown, used, too old, or overtaken by what happened since."""

    code = "invalid_one_time_secret"
    title = "The link does not work any more"


class PreflightRefused(Refusal):
    """A page asks leave for a request that its origin may not make (Fetch, CORS preflight)."""

    code = "preflight_refused"
    title = "The origin, method or headers are not allowed here"


class UnsupportedMediaType(Refusal):
    """The body has another media type, charset or content coding than the route reads."""

    code = "unsupported_media_type"
    title = "The content type is not supported"

    def __init__(self, detail: str | None = None, *, accept_encoding: str | None = None) -> None:
        super().__init__(detail)
        self.accept_encoding = accept_encoding
        """Codings to name in `Accept-Encoding`, if the coding was the reason and nothing else."""


class BodyTooLarge(Refusal):
    """The body is longer than the configured limit."""

    code = "body_too_large"
    title = "The body is too large"


class RequestTimeout(Refusal):
    """The head or the body of the request did not arrive in time."""

    code = "request_timeout"
    title = "The request took too long to arrive"


class HeadersTooLarge(Refusal):
    """The request headers are longer than the configured limits."""

    code = "headers_too_large"
    title = "The request headers are too large"


class TargetTooLong(Refusal):
    """The request target is longer than the configured limit (RFC 9110, section 15.5.15)."""

    code = "target_too_long"
    title = "The request target is too long"


class HTTPVersionNotSupported(Refusal):
    """The request is of another version than HTTP/1.0 and 1.1 (RFC 9110, section 15.6.6)."""

    code = "http_version_not_supported"
    title = "The version of HTTP is not supported"


class InvalidGrant(Refusal):
    """The token endpoint refused a grant; `code` is also its `error` (RFC 6749, section 5.2)."""

    code = "invalid_grant"
    title = "The grant was refused"


class InvalidScope(InvalidGrant):
    """The scope of a token request is malformed, or names what there is not (RFC 6749, 5.2)."""

    code = "invalid_scope"
    title = "The scope is malformed or unknown"


class InvalidTokenRequest(InvalidGrant):
    """A field of a token request is missing, repeated or malformed."""

    code = "invalid_request"
    title = "The token request is not valid"


class UnsupportedGrantType(InvalidGrant):
    """The token endpoint does not know this grant, or it is switched off."""

    code = "unsupported_grant_type"
    title = "The grant type is not supported"
