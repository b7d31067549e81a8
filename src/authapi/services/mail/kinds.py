"""The kinds of mail."""

from enum import StrEnum


class MailKind(StrEnum):
    """What a mail is about. The value is also the name of its template."""

    CONFIRM = "confirm"
    """Asks the recipient to confirm that the address of the account is theirs."""
    RESET = "reset"
    """Contains a link that sets a new password."""
    CHANGE = "change"
    """To a new address: asks the recipient to confirm it as the address of the account."""
    EMAIL_CHANGED = "email_changed"
    """To the old address: tells the owner of the change, with a link that reverts it."""
    PASSWORD_CHANGED = "password_changed"
    TOKEN_CREATED = "token_created"
    REFRESH_REUSE = "refresh_reuse"
    """A refresh token was used twice, so it may have been stolen."""
    NEW_DEVICE = "new_device"
    """Tells of a login from a device and network that are new, with a link that ends that login."""
    INVITATION = "invitation"
    """An operator has created the account: contains a link that accepts it."""
    ADDRESS_TAKEN = "address_taken"
    """A client tried to register with the address of this account, or to change to it."""
    FACTOR_ADDED = "factor_added"
    FACTOR_REMOVED = "factor_removed"
    FACTORS_RESET = "factors_reset"
    """An administrator has removed the second factors of the account."""
    RECOVERY_CODES_MADE = "recovery_codes_made"
    """The recovery codes of the account were replaced."""
    RECOVERY_CODE_USED = "recovery_code_used"
    SECOND_FACTOR_REFUSED = "second_factor_refused"
    """A client that knows the password has failed at the second factor."""
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    IDENTITY_WANTED = "identity_wanted"
    """A person at a provider whose address this account has tried to log in."""
    TEST = "test"
    """Sent by an operator to check that mail arrives."""


PERSONALISED = frozenset(
    {
        MailKind.PASSWORD_CHANGED,
        MailKind.TOKEN_CREATED,
        MailKind.REFRESH_REUSE,
        MailKind.FACTOR_ADDED,
        MailKind.FACTOR_REMOVED,
        MailKind.FACTORS_RESET,
        MailKind.RECOVERY_CODES_MADE,
        MailKind.RECOVERY_CODE_USED,
        MailKind.SECOND_FACTOR_REFUSED,
        MailKind.IDENTITY_LINKED,
        MailKind.IDENTITY_UNLINKED,
        MailKind.NEW_DEVICE,
    }
)
"""Notices that contain the name of the user. They require a login to the account, or its password,
and are sent to its own address. An unauthenticated client can cause every other kind of mail, to
any address: with a name in it, an attacker could send text of their choice to a victim."""
