"""A single-use token in the link of a mail, and what it is for."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Purpose(StrEnum):
    """The one purpose that an e-mail token can be redeemed for."""

    CONFIRM = "confirm"
    """Confirms the address of the account."""
    RESET = "reset"
    """Resets the password."""
    CHANGE = "change"
    """Confirms the new address of the account, and changes to it."""
    REVERT_EMAIL_CHANGE = "revert_email_change"
    """Gives the account its previous address back."""
    INVITATION = "invitation"
    """Accepts an invitation: sets the first password of an account."""
    DISOWN = "disown"
    """Ends one login, which was not by the owner of the account."""


@dataclass(frozen=True, slots=True)
class EmailToken:
    """An issued e-mail token, without its secret text."""

    id: UUID
    """For `DISOWN`, the id of the session that the token ends: a login has at most one token."""
    user_id: UUID
    purpose: Purpose
    email: str
    """The canonical address that the token is bound to."""
    email_given: str
    """The same address, as its owner spelled it."""
    password_version: int
    """Of the account when the token was issued. Each change of the password increments it."""
    created_at: datetime
    expires_at: datetime
