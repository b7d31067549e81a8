"""E-mail addresses with exactly one spelling each.

Two accounts for one mailbox, or one account for two, is how accounts get stolen: a dotless i that
becomes an i, a full-width letter, a display name before the address, one domain in two scripts. So
the local part is ASCII, the domain is valid under IDNA 2008 without any mapping, and the canonical
form is lower case with the domain as A-labels, computed here and nowhere else.
"""

from dataclasses import dataclass

import idna
from email_validator import EmailNotValidError, validate_email

from authapi.errors import InputError, InvalidInput

MAX_LENGTH = 254
_DOTS = frozenset("\u3002\uff0e\uff61")
"""What IDNA reads as a dot besides the dot: a mapping too, so another spelling."""


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address as its owner wrote it (`given`), and the one spelling it is found by."""

    given: str
    canonical: str


def parse_email(text: str, *, loc: tuple[str, ...] = ("body", "email")) -> EmailAddress:
    """`text` as an address. Raises InvalidInput, naming `loc`, for anything that is not just one.

    Nothing is trimmed or mapped: what is not already an address is refused.
    """
    try:
        return EmailAddress(given=text, canonical=_canonical(text))
    except ValueError:
        message = "must be one e-mail address, with an ASCII local part and a public domain"
        raise InvalidInput(InputError(loc, "email_invalid", message)) from None


def _canonical(text: str) -> str:
    if len(text) > MAX_LENGTH or text.count("@") != 1:
        raise ValueError
    local, _, domain = text.partition("@")
    if not local.isascii() or not _DOTS.isdisjoint(domain):
        raise ValueError
    try:
        ascii_domain = idna.encode(domain.lower()).decode("ascii") if domain else ""
        checked = validate_email(f"{local}@{ascii_domain}", check_deliverability=False)
    except (idna.IDNAError, EmailNotValidError) as error:
        raise ValueError from error
    canonical = f"{checked.ascii_local_part or local}@{checked.ascii_domain}".lower()
    if len(canonical) > MAX_LENGTH:
        raise ValueError
    return canonical
