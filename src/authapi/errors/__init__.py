"""All errors that authapi raises, as one tree.

    AuthAPIError
    ├── ConfigurationError            the operator must change the configuration
    ├── TokenError                    a signed token was rejected; the error has no text
    │   └── UnknownKey                the key set has no key for the token
    ├── UnsupportedKey                a key cannot be used to sign tokens
    ├── DecryptionFailed              a ciphertext has another key or context, or was modified
    ├── ReadOnlyRow                   an application changed an account through its ORM session
    ├── SignatureMismatch             a detached signature does not match the signed bytes
    ├── PasswordMismatch              a password does not match the stored hash
    ├── PasskeyMismatch               the answer of an authenticator does not prove its passkey
    ├── PasswordRefused               a password rule of the application refuses a password
    ├── UnsupportedHash               a password hash of another system cannot be verified
    ├── InvalidImportLine             a line of an import file does not describe an account
    ├── DeliveryFailed                a mail or webhook was not delivered
    ├── Unavailable                   unavailable: a backend is unreachable or full; try again
    │   ├── StorageUnavailable        database_unavailable
    │   ├── Overloaded                overloaded
    │   ├── ShuttingDown              shutting_down
    │   ├── IssuerUnavailable         issuer_unavailable
    │   └── ProviderUnavailable       provider_unavailable
    └── Refusal                       the response tells the client; `code` is stable
        ├── Unauthenticated           unauthenticated
        │   ├── InvalidCredential     unauthenticated: a strategy rejected the credential
        │   │   └── UnrecognizedCredential  it may belong to another strategy
        │   ├── InvalidCredentials    invalid_credentials: wrong name or password at a login
        │   ├── InvalidClient         invalid_client: OAuth client authentication failed
        │   ├── InactiveAccount       inactive_account
        │   ├── StaleAuthentication   stale_authentication
        │   ├── InsufficientAuthentication  insufficient_authentication (RFC 9470)
        │   ├── SecondFactorRequired  second_factor_required
        │   ├── EnrolmentRequired     enrolment_required
        │   ├── SecondFactorRefused   second_factor_refused
        │   ├── PasskeyRefused        passkey_refused
        │   ├── LoginExpired          login_expired
        │   └── EmailNeeded           email_needed: a login at a provider without an address
        ├── Forbidden                 forbidden
        │   ├── InsufficientScope     insufficient_scope
        │   ├── UnconfirmedEmail      email_not_confirmed
        │   ├── SuperuserRequired     superuser_required
        │   ├── OwnAccount            own_account
        │   ├── MailDisabled          mail_disabled
        │   ├── RegistrationClosed    registration_closed
        │   ├── WrongPassword         wrong_password
        │   ├── WrongCode             wrong_code
        │   ├── WrongPasskey          wrong_passkey
        │   ├── PasskeysUnavailable   passkeys_unavailable
        │   ├── MFADisabled           mfa_disabled
        │   ├── ProofRequired         proof_required
        │   ├── ForeignOrigin         foreign_origin
        │   ├── WrongDestination      wrong_destination
        │   ├── ReportNotSigned       report_not_signed
        │   ├── HTTPSRequired         https_required
        │   ├── ProviderRefused       provider_refused
        │   └── ProviderAnswerRefused  provider_answer_refused: a check of the answer failed
        ├── TooManyAttempts           too_many_attempts
        ├── TooManyRequests           too_many_requests
        ├── NotFound                  not_found
        │   └── ProviderUnknown       provider_unknown
        ├── LoginFlowInvalid          login_flow_invalid
        ├── LinkRequired              link_required
        ├── IdentityTaken             identity_taken
        ├── EmailTaken                email_taken
        ├── UsernameTaken             username_taken
        ├── TooManyTokens             too_many_tokens
        ├── AccountInUse              account_in_use
        ├── FactorExists              factor_exists
        ├── TooManyFactors            too_many_factors
        ├── LastFactor                last_factor
        ├── LastWayIn                 last_way_in
        ├── LastSuperuser             last_superuser
        ├── NotInvited                not_invited
        ├── AccountDeactivated        account_deactivated
        ├── KeyNotPublished           key_not_published
        ├── FormAlreadySent           form_already_sent
        ├── PreconditionFailed        precondition_failed
        ├── InvalidOneTimeSecret      invalid_one_time_secret
        ├── PreflightRefused          preflight_refused
        ├── InvalidInput              validation_failed
        │   └── ProfileTaken          profile_taken
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

The tree is independent of HTTP: `web/problems.py` maps classes to status codes. Codes are stable:
clients can compare them. An error never contains input of the client, so it cannot leak it.
"""

from authapi.errors.failures import (
    AuthAPIError,
    ConfigurationError,
    DecryptionFailed,
    DeliveryFailed,
    InvalidImportLine,
    IssuerUnavailable,
    Overloaded,
    PasskeyMismatch,
    PasswordMismatch,
    PasswordRefused,
    ReadOnlyRow,
    ShuttingDown,
    SignatureMismatch,
    StorageUnavailable,
    TokenError,
    Unavailable,
    UnknownKey,
    UnsupportedHash,
    UnsupportedKey,
)
from authapi.errors.federation import (
    EmailNeeded,
    IdentityTaken,
    LinkRequired,
    LoginFlowInvalid,
    ProviderAnswerRefused,
    ProviderRefused,
    ProviderUnavailable,
    ProviderUnknown,
)
from authapi.errors.refusals import (
    AccountDeactivated,
    AccountInUse,
    EmailTaken,
    Forbidden,
    ForeignOrigin,
    FormAlreadySent,
    HTTPSRequired,
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
    KeyNotPublished,
    LastSuperuser,
    MailDisabled,
    NotFound,
    NotInvited,
    OwnAccount,
    PreconditionFailed,
    ProfileTaken,
    ProofRequired,
    Refusal,
    RegistrationClosed,
    ReportNotSigned,
    StaleAuthentication,
    SuperuserRequired,
    TooManyAttempts,
    TooManyRequests,
    TooManyTokens,
    Unauthenticated,
    UnconfirmedEmail,
    UnrecognizedCredential,
    UnsupportedGrantType,
    UsernameTaken,
    WrongDestination,
    WrongPassword,
)
from authapi.errors.second_factors import (
    EnrolmentRequired,
    FactorExists,
    InsufficientAuthentication,
    LastFactor,
    LastWayIn,
    LoginExpired,
    MFADisabled,
    PasskeyRefused,
    PasskeysUnavailable,
    SecondFactorRefused,
    SecondFactorRequired,
    TooManyFactors,
    WrongCode,
    WrongPasskey,
)
from authapi.errors.unreadable import (
    BodyTooLarge,
    DuplicateHeader,
    HeadersTooLarge,
    HTTPVersionNotSupported,
    MalformedJSON,
    MalformedRequest,
    PreflightRefused,
    RequestTimeout,
    TargetTooLong,
    UnsupportedMediaType,
)

__all__ = [
    "AccountDeactivated",
    "AccountInUse",
    "AuthAPIError",
    "BodyTooLarge",
    "ConfigurationError",
    "DecryptionFailed",
    "DeliveryFailed",
    "DuplicateHeader",
    "EmailNeeded",
    "EmailTaken",
    "EnrolmentRequired",
    "FactorExists",
    "Forbidden",
    "ForeignOrigin",
    "FormAlreadySent",
    "HTTPSRequired",
    "HTTPVersionNotSupported",
    "HeadersTooLarge",
    "IdentityTaken",
    "InactiveAccount",
    "InputError",
    "InsufficientAuthentication",
    "InsufficientScope",
    "InvalidClient",
    "InvalidCredential",
    "InvalidCredentials",
    "InvalidGrant",
    "InvalidImportLine",
    "InvalidInput",
    "InvalidOneTimeSecret",
    "InvalidScope",
    "InvalidTokenRequest",
    "IssuerUnavailable",
    "KeyNotPublished",
    "LastFactor",
    "LastSuperuser",
    "LastWayIn",
    "LinkRequired",
    "LoginExpired",
    "LoginFlowInvalid",
    "MFADisabled",
    "MailDisabled",
    "MalformedJSON",
    "MalformedRequest",
    "NotFound",
    "NotInvited",
    "Overloaded",
    "OwnAccount",
    "PasskeyMismatch",
    "PasskeyRefused",
    "PasskeysUnavailable",
    "PasswordMismatch",
    "PasswordRefused",
    "PreconditionFailed",
    "PreflightRefused",
    "ProfileTaken",
    "ProofRequired",
    "ProviderAnswerRefused",
    "ProviderRefused",
    "ProviderUnavailable",
    "ProviderUnknown",
    "ReadOnlyRow",
    "Refusal",
    "RegistrationClosed",
    "ReportNotSigned",
    "RequestTimeout",
    "SecondFactorRefused",
    "SecondFactorRequired",
    "ShuttingDown",
    "SignatureMismatch",
    "StaleAuthentication",
    "StorageUnavailable",
    "SuperuserRequired",
    "TargetTooLong",
    "TokenError",
    "TooManyAttempts",
    "TooManyFactors",
    "TooManyRequests",
    "TooManyTokens",
    "Unauthenticated",
    "Unavailable",
    "UnconfirmedEmail",
    "UnknownKey",
    "UnrecognizedCredential",
    "UnsupportedGrantType",
    "UnsupportedHash",
    "UnsupportedKey",
    "UnsupportedMediaType",
    "UsernameTaken",
    "WrongCode",
    "WrongDestination",
    "WrongPasskey",
    "WrongPassword",
]
