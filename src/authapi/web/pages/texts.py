"""The sentences for codes: errors, and outcomes that an address such as `?done=reset` names.

The sentences are the ids of the catalogues in `locale`. Texts that belong to one page are in its
template.
"""

from collections.abc import Mapping

ERRORS: Mapping[str, str] = {
    "account_in_use": "The application still uses this account. Nothing was changed.",
    "account_deactivated": "The account is deactivated. Activate it first.",
    "account_exists": "There is an account with this address already.",
    "account_unknown": "No account has this address or id.",
    "addresses_missing": "Enter at least one address.",
    "body_too_large": "The form contains too much text. Nothing was changed. Open the form again "
    "and enter less text.",
    "code_invalid": "Enter the six digits that the app shows now.",
    "database_unavailable": "That did not work, and it is our fault. Try again in a moment.",
    "duplicate_header": "Your browser, or a program between it and this website, sent the same "
    "information twice. Nothing was changed. Try another browser or another network.",
    "email_in_use": "There is an account with this address. Sign in, or request a new password.",
    "email_invalid": "Enter one e-mail address, such as name@example.com.",
    "day_invalid": "Enter a day, such as 2026-11-28.",
    "email_mismatch": "The e-mail was not sent to this address. Nothing was changed. Check the "
    "address and try again.",
    "email_not_confirmed": "Confirm your e-mail address first.",
    "email_taken": "Another account uses this address now.",
    "enrolment_required": "Your account must add a second step before you can sign in. Ask the "
    "operator of this service how.",
    "factor_exists": "This was added already.",
    "expires_in_invalid": "Choose how long the token works: at least until the end of "
    "today (UTC), at most until the last day that can be chosen.",
    "foreign_origin": "The form was not sent from this website, or your browser does not say "
    "where it was sent from. Nothing was changed. You can continue with the link below.",
    "headers_too_large": "Your browser sent too much data with the request. Nothing was changed. "
    "Delete the cookies of this website and try again.",
    "https_required": "This page requires an encrypted connection. Its address must begin with "
    "https://.",
    "inactive_account": "The account that you are signed in to is deactivated. Contact the "
    "operator of this service.",
    "insufficient_authentication": "Prove your second step to go on.",
    "internal_error": "An error occurred on the server. Try again later.",
    "invalid_credentials": "E-mail address or password is not right.",
    "invalid_login": "User name or password is not right.",
    "invalid_one_time_secret": "This link is no longer valid: it was already used, has expired, "
    "or was replaced by a newer one.",
    "ip_invalid": "This is no IP address.",
    "last_factor": "Your account must have a second step, so the last one stays.",
    "last_way_in": "It is your only way to sign in. Choose a password first.",
    "mail_disabled": "This service sends no e-mails. Ask its operator.",
    "key_not_published": "Verifiers may not have read the next key yet. Nothing was changed. Try "
    "again in ten minutes.",
    "kid_unknown": "Type the key as the table shows it.",
    "last_superuser": "You are the only administrator. Make another one first.",
    "malformed_request": "The form arrived damaged or incomplete. Nothing was changed. Open the "
    "form again and fill it in.",
    "method_not_allowed": "This address cannot be used in this way. Nothing was changed. Open the "
    "link in the e-mail again.",
    "mfa_disabled": "This service has no second steps.",
    "name_empty": "Enter a name, so that you know later what the token is for.",
    "name_for_one": "Leave it empty if there are several addresses.",
    "name_invalid": "Enter a name of at most 200 characters, on one line.",
    "not_found": "There is no page at this address. Check that you opened the complete link from "
    "the e-mail.",
    "other": "This is not possible at the moment. Try again later.",
    "overloaded": "Too many people are signing in at this moment. Try again.",
    "not_invited": "This account cannot be invited: it has a password or a confirmed address, or "
    "it is deactivated.",
    "own_account": "Ask another administrator to change your own account.",
    "passkey_name_invalid": "Enter a name of at most 100 characters, on one line.",
    "passkey_refused": "That passkey was not accepted. Try again, or sign in with your password.",
    "passkeys_unavailable": "Passkeys do not work at this address.",
    "password_breached": "This password appeared in a data breach of another service. Choose "
    "another one.",
    "password_common": "This password is too common. Choose another one.",
    "password_control_character": "The password contains a control character, such as a tab. "
    "Enter it without that character.",
    "password_guessable": "The password is too similar to your address or to the name of this "
    "service.",
    "password_missing": "Enter your password.",
    "password_needed": "Enter the password, or confirm without a password below.",
    "password_too_long": "The password is too long.",
    "password_too_short": "The password is too short. It must have at least %(min_length)s "
    "characters.",
    "password_unchanged": "The new password must differ from the current one.",
    "precondition_failed": "This was changed meanwhile, perhaps in another window. Look again.",
    "proof_required": "Sign in to the account that requested this e-mail, or enter its password.",
    "recovery_code_invalid": "Enter one recovery code as it was shown to you.",
    "refused": "The request was not accepted. Nothing was changed.",
    "registration_closed": "Accounts are made by invitation.",
    "request_timeout": "The form took too long to arrive. Nothing was changed. Check your "
    "connection and send the form again.",
    "scope_not_allowed": "You cannot give one of these permissions any longer. Choose again.",
    "second_factor_refused": "That code is not right.",
    "stale_authentication": "Enter your password to go on.",
    "target_too_long": "The address is too long. Open the link in the e-mail without changing it.",
    "token_name_invalid": "Enter a name of at most 100 characters, on one line.",
    "too_many_addresses": "Enter at most 50 addresses.",
    "too_many_scopes": "Choose at most 100 permissions.",
    "too_many_tokens": "You have %(max_tokens)s access tokens, the most there may be. End one "
    "first.",
    "too_many_attempts": "Too many attempts. Try again later.",
    "too_many_factors": "You have as many passkeys as an account can have. Remove one first.",
    "unsupported_media_type": "The data that was sent does not come from the form on this page. "
    "Nothing was changed. Open the form again and fill it in.",
    "username_invalid": "Enter a user name of letters, digits and . _ - without spaces.",
    "username_required": "Enter a user name.",
    "username_taken": "Another account has this user name. Choose another one.",
    "wrong_code": "That code is not right.",
    "wrong_destination": "This form cannot be used inside another page. Nothing was changed. Open "
    "it in its own window.",
    "wrong_passkey": "That passkey was not accepted. Try again.",
    "wrong_address": "That is not the address of this account.",
    "wrong_own_address": "That is not the address of your account.",
    "wrong_password": "The password is wrong.",
}
"""By code of an error, or of an error of a field."""

ALIASES: Mapping[str, str] = {
    "lifetime_too_long": "expires_in_invalid",
    "string_too_long": "password_too_long",
}
"""Codes of fields whose text is that of another code."""

BY_STATUS: Mapping[int, str] = {
    408: "request_timeout",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_attempts",
    431: "headers_too_large",
    503: "database_unavailable",
}
"""Codes whose text is shown for codes without a text, such as those of errors of the framework."""

OUTCOMES: Mapping[str, str] = {
    "confirmed": "Your e-mail address is confirmed.",
    "console": "The console opens only after a second step. Add one here, and open it again.",
    "console-closed": "The console opens only after a second step, and this service has none. "
    "Its operator allows them with AUTHAPI_MFA.",
    "connected": "That account signs you in from now on.",
    "created": "Your account is ready. Sign in with your password.",
    "deleted": "Your account is deleted.",
    "disowned": "This login has ended. The attacker may know your password, so choose a new one "
    "now: all devices are then signed out, and all access tokens stop working.",
    "ended": "You were signed out. Sign in to go on.",
    "expired": "The sign-in took too long. Begin again.",
    "identity-taken": "That account is connected to another account here. Nothing was changed.",
    "invited": "Welcome. Sign in with the password that you have chosen.",
    "inactive-account": "This account is deactivated. Contact the operator of this service.",
    "link-required": "There is an account with the e-mail address of that account. Sign in as you "
    "did before, and connect the other one then.",
    "login-flow-invalid": "This sign-in was not begun in this browser, has taken too long, or is "
    "over already. Begin again.",
    "no-cookie": "Your browser did not keep the cookie. Allow cookies for this site and try again.",
    "proved": "Thank you. You can go on.",
    "provider-answer-refused": "The answer of the other website was not accepted. Try again, or "
    "sign in another way.",
    "provider-failed": "You could not be signed in with that account. Sign in another way.",
    "provider-refused": "The other website did not sign you in. Try again or sign in another way.",
    "provider-unavailable": "The other website does not answer. Try again later, or sign in "
    "another way.",
    "registration-closed": "Accounts are made by invitation, and none is connected to that one.",
    "reset": "Your password is changed. Sign in with the new one.",
    "sent": "If there is an account with this address, an e-mail is on its way.",
    "sent-again": "If the address can have an account, another e-mail is on its way.",
    "session-changed": "Your sign-in has changed meanwhile. Nothing was connected. Try again.",
    "signed-out": "You are signed out.",
    "too-many-attempts": "Too many attempts. Try again later.",
    "taken-over": "Your e-mail address is confirmed. An e-mail to choose a password is on its way.",
    "undone": "Your account has its previous e-mail address again. An e-mail to choose a password "
    "is on its way.",
    "welcome": "Your account is ready. We sent an e-mail to confirm the address.",
    "welcome-silently": "Your account is ready.",
}
"""By the value of `done` in an address. Other values show nothing."""

TOO_MANY = (
    "Too many attempts. Try again in %(num)s minute.",
    "Too many attempts. Try again in %(num)s minutes.",
)
"""The sentence with the time to wait, for one minute and for several."""

ATTEMPTS_LEFT = ("%(num)s attempt is left.", "%(num)s attempts are left.")
"""The sentence about a second step, for one attempt and for several."""

PROBLEMS = frozenset(
    {
        *("console", "console-closed", "expired", "no-cookie"),
        *("identity-taken", "inactive-account", "link-required"),
        *("login-flow-invalid", "provider-answer-refused", "provider-failed", "provider-refused"),
        *("provider-unavailable", "registration-closed", "session-changed", "too-many-attempts"),
    }
)
"""The outcomes that are no success."""


def sentences() -> frozenset[str | tuple[str, str]]:
    """Returns all ids of this module, for the catalogues."""
    return frozenset({*ERRORS.values(), *OUTCOMES.values(), TOO_MANY, ATTEMPTS_LEFT})


def error_code(code: str, status: int) -> str:
    """Returns the code whose text is shown for `code`, the code of an error with this `status`."""
    code = ALIASES.get(code, code)
    if code in ERRORS:
        return code
    return BY_STATUS.get(status, "other" if status >= 500 else "refused")
