"""Why somebody is written to."""

from enum import StrEnum


class Occasion(StrEnum):
    """Why somebody is written to; also the name of the template."""

    CONFIRM = "confirm"
    """Confirm that the address of your account is yours."""
    RESET = "reset"
    """Choose another password."""
    CHANGE = "change"
    """To a new address: confirm that your account is to have it."""
    EMAIL_CHANGED = "email_changed"
    """To the old address: your account has another one; undo it if that was not you."""
    PASSWORD_CHANGED = "password_changed"
    TOKEN_CREATED = "token_created"
    REFRESH_REUSE = "refresh_reuse"
    """A refresh token was used twice: somebody may have stolen it."""
    INVITATION = "invitation"
    """An account was made for you: accept it."""
    ADDRESS_TAKEN = "address_taken"
    """Somebody wants to register, or take, the address that your account has."""
    TEST = "test"
    """An operator tries whether mail arrives."""
