"""Every refusal and failure that authapi can express, as one tree.

    AuthAPIError
    ├── ConfigurationError            the operator must change something; one line says what
    ├── TokenError                    a self-contained token was refused; it never says why
    │   └── UnknownKey                it names a key that nobody here knows
    ├── KeyRefused                    a key is not one that tokens may be signed with
    ├── SealBroken                    what was sealed was sealed under another secret, or changed
    ├── SignatureMismatch             a signature does not belong to what it came beside
    ├── PasswordMismatch              a password does not belong to a stored hash
    ├── HashRefused                   a password hash of another system is not verified here
    ├── LineRefused                   a line of an import describes no account
    ├── DeliveryFailed                mail or a webhook did not get through this time
    ├── Unavailable                   something behind us is away or full; try again later
    │   ├── StorageUnavailable        database_unavailable
    │   ├── Overloaded                overloaded
    │   ├── ShuttingDown              shutting_down
    │   └── IssuerUnavailable         issuer_unavailable
    └── Refusal                       a caller can be told this, with a stable code
        ├── Unauthenticated           unauthenticated
        │   ├── InvalidCredential     unauthenticated, "mine, and not good"
        │   ├── InvalidCredentials    invalid_credentials, from a login
        │   ├── InvalidClient         invalid_client, of an OAuth client
        │   ├── InactiveAccount       inactive_account
        │   └── StaleAuthentication   stale_authentication
        ├── Forbidden                 forbidden
        │   ├── InsufficientScope     insufficient_scope
        │   ├── UnconfirmedEmail      email_not_confirmed
        │   ├── SuperuserRequired     superuser_required
        │   ├── OwnAccount            own_account
        │   ├── MailDisabled          mail_disabled
        │   ├── RegistrationClosed    registration_closed
        │   ├── WrongPassword         wrong_password
        │   ├── ProofRequired         proof_required
        │   ├── ForeignOrigin         foreign_origin
        │   ├── WrongDestination      wrong_destination
        │   ├── ReportNotSigned       report_not_signed
        │   └── HTTPSRequired         https_required
        ├── TooManyAttempts           too_many_attempts
        ├── TooManyRequests           too_many_requests
        ├── NotFound                  not_found
        ├── EmailTaken                email_taken
        ├── TooManyTokens             too_many_tokens
        ├── LastSuperuser             last_superuser
        ├── NotInvited                not_invited
        ├── PreconditionFailed        precondition_failed
        ├── InvalidOneTimeSecret      invalid_one_time_secret
        ├── InvalidInput              validation_failed
        ├── MalformedRequest          malformed_request
        │   ├── MalformedJSON         malformed_json
        │   └── DuplicateHeader       duplicate_header
        ├── UnsupportedMediaType      unsupported_media_type
        ├── BodyTooLarge              body_too_large
        ├── RequestTimeout            request_timeout
        ├── HeadersTooLarge           headers_too_large
        ├── TargetTooLong             target_too_long
        ├── HTTPVersionNotSupported   http_version_not_supported
        └── InvalidGrant              invalid_grant (RFC 6749, section 5.2)
            ├── InvalidScope          invalid_scope
            ├── InvalidTokenRequest   invalid_request
            └── UnsupportedGrantType  unsupported_grant_type

The tree knows no HTTP: `web/errors.py` maps classes to status codes. Codes are stable; clients may
compare them. No error carries what the caller sent, so that none can leak it.
"""

from authapi.errors.failures import (
    AuthAPIError,
    ConfigurationError,
    DeliveryFailed,
    HashRefused,
    IssuerUnavailable,
    KeyRefused,
    LineRefused,
    Overloaded,
    PasswordMismatch,
    SealBroken,
    ShuttingDown,
    SignatureMismatch,
    StorageUnavailable,
    TokenError,
    Unavailable,
    UnknownKey,
)
from authapi.errors.refusals import (
    BodyTooLarge,
    DuplicateHeader,
    EmailTaken,
    Forbidden,
    ForeignOrigin,
    HeadersTooLarge,
    HTTPSRequired,
    HTTPVersionNotSupported,
    InactiveAccount,
    InputError,
    InsufficientScope,
    InvalidClient,
    InvalidCredential,
    InvalidCredentials,
    InvalidGrant,
    InvalidInput,
    InvalidOneTimeSecret,
    InvalidScope,
    InvalidTokenRequest,
    LastSuperuser,
    MailDisabled,
    MalformedJSON,
    MalformedRequest,
    NotFound,
    NotInvited,
    OwnAccount,
    PreconditionFailed,
    PreflightRefused,
    ProofRequired,
    Refusal,
    RegistrationClosed,
    ReportNotSigned,
    RequestTimeout,
    StaleAuthentication,
    SuperuserRequired,
    TargetTooLong,
    TooManyAttempts,
    TooManyRequests,
    TooManyTokens,
    Unauthenticated,
    UnconfirmedEmail,
    UnsupportedGrantType,
    UnsupportedMediaType,
    WrongDestination,
    WrongPassword,
)

__all__ = [
    "AuthAPIError",
    "BodyTooLarge",
    "ConfigurationError",
    "DeliveryFailed",
    "DuplicateHeader",
    "EmailTaken",
    "Forbidden",
    "ForeignOrigin",
    "HTTPSRequired",
    "HTTPVersionNotSupported",
    "HashRefused",
    "HeadersTooLarge",
    "InactiveAccount",
    "InputError",
    "InsufficientScope",
    "InvalidClient",
    "InvalidCredential",
    "InvalidCredentials",
    "InvalidGrant",
    "InvalidInput",
    "InvalidOneTimeSecret",
    "InvalidScope",
    "InvalidTokenRequest",
    "IssuerUnavailable",
    "KeyRefused",
    "LastSuperuser",
    "LineRefused",
    "MailDisabled",
    "MalformedJSON",
    "MalformedRequest",
    "NotFound",
    "NotInvited",
    "Overloaded",
    "OwnAccount",
    "PasswordMismatch",
    "PreconditionFailed",
    "PreflightRefused",
    "ProofRequired",
    "Refusal",
    "RegistrationClosed",
    "ReportNotSigned",
    "RequestTimeout",
    "SealBroken",
    "ShuttingDown",
    "SignatureMismatch",
    "StaleAuthentication",
    "StorageUnavailable",
    "SuperuserRequired",
    "TargetTooLong",
    "TokenError",
    "TooManyAttempts",
    "TooManyRequests",
    "TooManyTokens",
    "Unauthenticated",
    "Unavailable",
    "UnconfirmedEmail",
    "UnknownKey",
    "UnsupportedGrantType",
    "UnsupportedMediaType",
    "WrongDestination",
    "WrongPassword",
]
