"""What the arrival of a person leads to, whom no account is linked to."""

from enum import StrEnum
from typing import Literal

from authapi.domain.user import User

Linking = Literal["ask", "verified", "never"]
"""The values of the setting `federation_linking`."""
Registration = Literal["open", "confirm", "invite", "closed"]
"""The values of the setting `registration`."""


class End(StrEnum):
    """What an arrival leads to."""

    SIGN_UP = "sign_up"
    """A new account. Its address is confirmed if the provider is trusted to decide whose it is."""
    LINK = "link"
    """A link to the account with the address, once the login is complete."""
    TAKE_OVER = "take_over"
    """The same for an account whose address was never confirmed, which loses all that another
    person may have put there."""
    LINK_REQUIRED = "link_required"
    """A refusal: the account with the address has to log in another way, and to link."""
    EMAIL_NEEDED = "email_needed"
    """The person enters an address, which a mail confirms if registration asks for it."""
    CLOSED = "closed"
    """A refusal: no account is created or linked. It does not depend on the accounts."""
    REFUSED = "refused"
    """A refusal: the account is deactivated."""


def end_of_arrival(
    account: User | None,
    *,
    has_address: bool,
    is_authoritative: bool,
    linking: Linking,
    registration: Registration,
) -> End:
    """Returns what the arrival of a person leads to.

    `account` has the address that the provider sent; None if it sent none, or no account has it.
    `is_authoritative` is whether the provider is trusted to decide whose the address is.
    """
    if linking == "never":
        return End.CLOSED
    allows_sign_up = registration in {"open", "confirm"}
    if has_address and is_authoritative:
        if account is None:
            return End.SIGN_UP if allows_sign_up else End.CLOSED
        if linking == "ask":
            # Also if the address was never confirmed: nothing is linked or dropped without asking,
            # and the answer tells nothing about the account.
            return End.LINK_REQUIRED
        if not account.is_active:
            return End.REFUSED
        return End.TAKE_OVER if account.email_confirmed_at is None else End.LINK
    # The provider proves nothing about the address, so an answer that depends on the accounts
    # would reveal which addresses have one. Only an open registration reveals that anyway.
    if not allows_sign_up:
        return End.CLOSED
    if not has_address or registration == "confirm":
        return End.EMAIL_NEEDED
    return End.SIGN_UP if account is None else End.LINK_REQUIRED
