"""Secret scanning: ends tokens that a scanner has found in public.

A secret scanner, such as that of GitHub, posts a signed report of strings that look like tokens of
this service. A live token among them is compromised: an attacker can read it where the scanner
did. So its session ends at once, with all other tokens of it, and an event tells the owner of the
account where the token was found. A report is trusted for nothing else: a string that is not a
live token changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from authapi.crypto.refresh_tokens import REFRESH_PREFIX
from authapi.crypto.secrets import OPAQUE_PREFIX
from authapi.crypto.signatures.detached import P256PublicKey
from authapi.domain.events import EventType
from authapi.domain.session import Session
from authapi.errors import ReportNotSigned, SignatureMismatch
from authapi.services.audit import Audit
from authapi.services.tokens.introspection import TokenLookup
from authapi.services.tokens.revocation import TokenRevocation
from authapi.services.tokens.scanner_keys import read_scanner_keys
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.database import retry_on_conflict

_MAX_SOURCE_LENGTH = 64
_MAX_URL_LENGTH = 1024
_NOT_IN_URLS = frozenset(" \"'<>\\^`{|}")
"""Characters that a URL must percent-encode (RFC 3986, section 2). Raw, they could end an attribute
of HTML where the URL is shown."""


class Verdict(StrEnum):
    """Whether a reported string is a token: the labels of GitHub's secret scanning programme."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"


@dataclass(frozen=True, slots=True)
class ReportedToken:
    """A string that a scanner takes for a token of this service, and where it found it."""

    token: str = field(repr=False)
    url: str | None = None
    source: str | None = None

    @property
    def location(self) -> Mapping[str, str]:
        """The parts of `source` and `url` that are safe in an event.

        An attacker may have chosen them, for example as the name of a file. So each is bounded in
        length, printable ASCII, and free of tokens; a URL is absolute and https.
        """
        location = {}
        if self.source is not None and _is_printable(self.source, _MAX_SOURCE_LENGTH):
            location["source"] = self.source
        if self.url is not None and _is_https_url(self.url):
            location["url"] = self.url
        return location


class SecretScanning:
    """Verifies reports of secret scanners and ends the tokens in them."""

    def __init__(
        self,
        database: Database,
        lookup: TokenLookup,
        revocation: TokenRevocation,
        audit: Audit,
        settings: Settings,
    ) -> None:
        self._database = database
        self._lookup = lookup
        self._revocation = revocation
        self._audit = audit
        self._key_file = settings.leak_report_keys
        self._keys: Mapping[str, P256PublicKey] = {}

    def open(self) -> None:
        """Reads the public keys of the scanners from the file that the settings name, if any.

        Raises ConfigurationError if the file cannot be read or holds an unusable key.
        """
        if self._key_file is not None:
            self._keys = read_scanner_keys(self._key_file)

    def verify_signature(self, report: bytes, *, identifier: str, signature: str) -> None:
        """Verifies the signature of a scanner over `report`, the body of the request.

        `identifier` selects the key. Raises ReportNotSigned if no key has it or the signature does
        not match.
        """
        key = self._keys.get(identifier)
        if key is None:
            raise ReportNotSigned
        try:
            key.verify(report, signature)
        except SignatureMismatch:
            raise ReportNotSigned from None

    async def revoke_leaked(self, reports: Sequence[ReportedToken]) -> Sequence[Verdict]:
        """Ends the sessions of all live tokens in `reports`; one verdict for each report.

        All tokens are looked up before the first session ends: an access token and a refresh token
        of one session are both true positives. A refresh token that was already used counts as
        live, because its holder has had the session. A JWT for another service ends alone: the
        credential that was exchanged for it has not leaked.

        Each session ends in a transaction of its own. So two reports never wait for each other,
        and if the database fails midway, the sessions ended until then stay ended.

        Raises StorageUnavailable if the database does not answer, Overloaded if a session stores
        too many revoked JWTs.
        """
        found = {report.token: await self._lookup.find(report.token) for report in reports}
        ended: set[UUID] = set()
        for report in reports:
            token = found[report.token]
            if token is not None and token.is_exchanged:
                await self._revocation.revoke_exchanged(
                    token, EventType.TOKEN_LEAKED, **report.location
                )
            elif token is not None and token.session.id not in ended:
                ended.add(token.session.id)
                await self._end_session(token.session, report.location)
        return [
            Verdict.FALSE_POSITIVE if found[report.token] is None else Verdict.TRUE_POSITIVE
            for report in reports
        ]

    @retry_on_conflict
    async def _end_session(self, session: Session, location: Mapping[str, Any]) -> None:
        async with self._database.transaction() as store:
            if not await store.sessions.end(session.id):
                return  # another request has ended it
            await self._audit.record(
                store,
                EventType.TOKEN_LEAKED,
                user_id=session.user_id,
                session_id=session.id,
                strategy=session.kind.value,
                **location,
            )


def _is_printable(text: str, max_length: int) -> bool:
    if OPAQUE_PREFIX in text or REFRESH_PREFIX in text:
        return False
    return 0 < len(text) <= max_length and text.isascii() and text.isprintable()


def _is_https_url(url: str) -> bool:
    if not _is_printable(url, _MAX_URL_LENGTH) or not _NOT_IN_URLS.isdisjoint(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
