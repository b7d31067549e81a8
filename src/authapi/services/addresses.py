"""E-mail addresses with exactly one spelling each.

Two accounts for one mailbox, or one account for two, is how accounts get stolen: a dotless i that
becomes an i, a full-width letter, a display name before the address, one domain in two scripts. So
the local part is ASCII, the domain is valid under IDNA 2008 without any mapping, and the canonical
form is lower case with the domain as A-labels, computed here and nowhere else.
"""

import string
from dataclasses import dataclass

import idna
from email_validator import EmailNotValidError, validate_email

from authapi.errors import InputError, InvalidInput

MAX_LENGTH = 254
_MAX_LOCAL_LENGTH = 64
"""RFC 5321, section 4.5.3.1.1."""
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OTHER_DOTS = frozenset("\u3002\uff0e\uff61")


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


def email_prefix(text: str) -> str:
    """What the canonical form of addresses begins with that begin like `text`.

    In a domain, a label of another script is found once it is whole. What no address can begin with
    stays as it is, and begins none.
    """
    local, at, domain = text.partition("@")
    labels = domain.translate(_ASCII_LOWER).split(".")
    try:
        encoded = [x if x.isascii() else idna.encode(x).decode("ascii") for x in labels]
    except (ValueError, idna.IDNAError):
        return text
    return f"{local.translate(_ASCII_LOWER)}{at}{'.'.join(encoded)}"


def _canonical(text: str) -> str:
    if len(text) > MAX_LENGTH or text.count("@") != 1:
        raise ValueError
    local, _, domain = text.partition("@")
    if not local.isascii() or len(local) > _MAX_LOCAL_LENGTH or not _OTHER_DOTS.isdisjoint(domain):
        raise ValueError
    try:
        # Only ASCII has a lower case that is beyond doubt: `str.lower` turns a Kelvin sign into a k
        # and a capital sigma into either of two letters. IDNA 2008 refuses every other capital.
        lower = domain.translate(_ASCII_LOWER)
        ascii_domain = idna.encode(lower).decode("ascii") if domain else ""
        checked = validate_email(f"{local}@{ascii_domain}", check_deliverability=False)
    except (idna.IDNAError, EmailNotValidError) as error:
        raise ValueError from error
    canonical = f"{checked.ascii_local_part or local}@{checked.ascii_domain}".lower()
    if len(canonical) > MAX_LENGTH:
        raise ValueError
    return canonical
