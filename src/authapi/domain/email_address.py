"""Parses e-mail addresses into a canonical form, by which accounts are looked up.

If one mailbox has two accounts, or two mailboxes have one account, an attacker can take over an
account. Known causes are a dotless i that is mapped to i, full-width letters, a display name before
the address, and a domain in two scripts. Therefore the local part must be ASCII, and the domain
must be valid under IDNA 2008 without any mapping. The canonical form is in lower case, with the
domain as A-labels; only this module computes it.

No mail reaches a reserved domain (RFC 6761, RFC 6762), so such an address is refused, unless the
setting `allow_reserved_addresses` permits it for development and tests.
"""

import re
import string
from dataclasses import dataclass
from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from authapi.errors import InputError, InvalidInput

MAX_LENGTH = 254
_MAX_LOCAL_LENGTH = 64
"""RFC 5321, section 4.5.3.1.1."""
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_OTHER_DOTS = frozenset("\u3002\uff0e\uff61")
_RESERVED = (".test", ".local", ".localhost")
_MAX_DOMAINS = 1000
"""Domains that an `EmailParser` remembers."""
_PLAIN_LOCAL = re.compile(
    r"(?=.{1,64}@)[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@", re.ASCII
)
"""A dot-atom (RFC 5322, section 3.2.3) before the at sign: it is valid with every domain."""
_PLAIN_LENGTH = 200
"""Characters of an address that is far from every limit of length."""


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """An address as its owner spelled it (`original`), and its `canonical` form."""

    original: str
    canonical: str


def parse_email(
    text: str, *, loc: tuple[str, ...] = ("body", "email"), allow_reserved: bool = False
) -> EmailAddress:
    """Parses `text`, without trimming or mapping it.

    With `allow_reserved`, the domain may be `localhost`, or end with `.test`, `.local` or
    `.localhost`. Raises InvalidInput with the location `loc` if `text` is not exactly one valid
    address.
    """
    try:
        return EmailAddress(original=text, canonical=_canonical(text, allow_reserved))
    except ValueError:
        message = "must be one e-mail address, with an ASCII local part and a public domain"
        raise InvalidInput(InputError(loc, "email_invalid", message)) from None


class EmailParser:
    """Parses many addresses as `parse_email` does, in a fraction of its time.

    Most addresses of an import have one of few domains, so each domain is checked once. Requests
    use `parse_email`: its time does not tell which domains other people have used.
    """

    def __init__(self, *, allow_reserved: bool = False) -> None:
        self._allow_reserved = allow_reserved
        self._canonical_domain = lru_cache(_MAX_DOMAINS)(self._check_domain)

    def parse(self, text: str) -> EmailAddress:
        """Parses `text`. Raises InvalidInput if it is not exactly one valid address."""
        plain = _PLAIN_LOCAL.match(text)
        if plain is None or len(text) > _PLAIN_LENGTH or not _is_plain(text[plain.end() :]):
            return parse_email(text, allow_reserved=self._allow_reserved)
        domain = self._canonical_domain(text[plain.end() :])
        return EmailAddress(original=text, canonical=plain[0].lower() + domain)

    def _check_domain(self, domain: str) -> str:
        checked = parse_email(f"a@{domain}", allow_reserved=self._allow_reserved)
        return checked.canonical.removeprefix("a@")


def stored_email(text: str) -> EmailAddress:
    """Parses the address of an account. It may be reserved, also while the setting is off.

    Raises InvalidInput if `text` is not a valid address, which no account has.
    """
    return parse_email(text, allow_reserved=True)


def canonical_prefix(text: str) -> str:
    """The canonical form of `text`, the beginning of an address.

    Canonical addresses that begin with the result are those that match `text`. Internationalized
    labels of the domain match only if they are complete. A text that no address can begin with is
    returned unchanged and matches no address.
    """
    local, at, domain = text.partition("@")
    labels = domain.translate(_ASCII_LOWER).split(".")
    try:
        encoded = [
            label if label.isascii() else idna.encode(label).decode("ascii") for label in labels
        ]
    except (ValueError, idna.IDNAError):
        return text
    return f"{local.translate(_ASCII_LOWER)}{at}{'.'.join(encoded)}"


def _canonical(text: str, allow_reserved: bool) -> str:
    if len(text) > MAX_LENGTH or text.count("@") != 1:
        raise ValueError
    local, _, domain = text.partition("@")
    if not local.isascii() or len(local) > _MAX_LOCAL_LENGTH or not _OTHER_DOTS.isdisjoint(domain):
        raise ValueError
    try:
        # Only ASCII letters are changed to lower case: `str.lower` maps the Kelvin sign to k, and a
        # capital sigma to one of two letters. IDNA 2008 rejects all other capitals.
        lower = domain.translate(_ASCII_LOWER)
        ascii_domain = idna.encode(lower).decode("ascii") if domain else ""
        # The library refuses all reserved domains. Below a public one, it checks their labels.
        suffix = ".com" if allow_reserved and _is_reserved(ascii_domain) else ""
        checked = validate_email(f"{local}@{ascii_domain}{suffix}", check_deliverability=False)
    except (idna.IDNAError, EmailNotValidError) as error:
        raise ValueError from error
    domain = checked.ascii_domain.removesuffix(suffix)
    canonical = f"{checked.ascii_local_part or local}@{domain}".lower()
    if len(canonical) > MAX_LENGTH:
        raise ValueError
    return canonical


def _is_reserved(domain: str) -> bool:
    return domain == "localhost" or domain.endswith(_RESERVED)


def _is_plain(domain: str) -> bool:
    """Whether the domain has no label in another script, whose two forms differ in length."""
    return domain.isascii() and "xn--" not in domain.lower()
