"""Leaked tokens: ended on the word of a secret scanner, which signs what it reports.

A scanner that finds one of our tokens in public tells us, and whoever else reads there has found it
too. So the session behind it ends at once, with everything of its own, and its owner finds out
where it lay from the event. Nothing in a report is trusted beyond that: it names texts, and a text
that is no live credential of ours changes nothing, however often it is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit
from uuid import UUID

from authapi.clock import now
from authapi.crypto.detached import DetachedKey
from authapi.crypto.refresh import REFRESH_PREFIX, parse_refresh_token
from authapi.crypto.secrets import OPAQUE_PREFIX, hash_secret, is_opaque_token
from authapi.errors import ReportNotSigned, SignatureMismatch, TokenError
from authapi.identity import EventType, Session, SessionKind
from authapi.services.audit import Audit
from authapi.services.keys import Keys
from authapi.services.tokens.scanners import read_scanners
from authapi.settings import Settings
from authapi.storage import Database

_MAX_SOURCE = 64
_MAX_URL = 1024
_UNQUOTED = frozenset(" \"'<>\\^`{|}")
"""What no URL may hold as it is (RFC 3986, section 2), and what may end one in a page."""


class Verdict(StrEnum):
    """What a reported text is, in the words of GitHub's secret scanning partner programme."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"


@dataclass(frozen=True, slots=True)
class Leak:
    """A text that a scanner takes for one of our tokens, and where it was found."""

    token: str = field(repr=False)
    url: str | None = None
    source: str | None = None

    @property
    def place(self) -> Mapping[str, str]:
        """What of that may stand in an event: bounded, printable, a link to https, no token.

        Whoever put the token there chose the name of the file as well.
        """
        place = {}
        if self.source is not None and _is_plain(self.source, _MAX_SOURCE):
            place["source"] = self.source
        if self.url is not None and _is_link(self.url):
            place["url"] = self.url
        return place


class Leaks:
    """Ends what has leaked."""

    def __init__(self, database: Database, keys: Keys, audit: Audit, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._path = settings.leak_report_keys
        self._audiences = frozenset({settings.jwt_audience, *settings.jwt_audiences})
        self._scanners: Mapping[str, DetachedKey] = {}

    def open(self) -> None:
        """Read the keys of the scanners. Raises ConfigurationError if they cannot be used."""
        if self._path is not None:
            self._scanners = read_scanners(self._path)

    def require_signed(self, report: bytes, *, identifier: str, signature: str) -> None:
        """Return if a scanner that is known here has signed these very bytes.

        Raises ReportNotSigned for every reason.
        """
        scanner = self._scanners.get(identifier)
        if scanner is None:
            raise ReportNotSigned
        try:
            scanner.verify(report, signature)
        except SignatureMismatch:
            raise ReportNotSigned from None

    async def end(self, leaks: Sequence[Leak]) -> Sequence[Verdict]:
        """End the sessions of all that are live credentials of ours, and say which those are.

        All are looked up before any is ended: an access token and the refresh token beside it are
        of one session, and both are real. Each session is ended in a transaction of its own, so
        that no two reports wait for one another, and a database that goes away keeps nothing alive
        that was found before.
        """
        sessions = {leak.token: await self._find(leak.token) for leak in leaks}
        ended: set[UUID] = set()
        for leak in leaks:
            session = sessions[leak.token]
            if session is not None and session.id not in ended:
                ended.add(session.id)
                await self._end(session, leak.place)
        return [
            Verdict.FALSE_POSITIVE if sessions[leak.token] is None else Verdict.TRUE_POSITIVE
            for leak in leaks
        ]

    async def _find(self, token: str) -> Session | None:
        """The session behind a token, or None. What has not the form of one costs no query."""
        if token.count(".") == 2:
            return await self._find_signed(token)
        if is_opaque_token(token):
            async with self._database.read() as store:
                found = await store.sessions.find_by_secret(hash_secret(token), SessionKind.TOKEN)
        elif (refresh := parse_refresh_token(token)) is not None:
            # Whichever of its family: who holds one that is used up has held the login.
            async with self._database.read() as store:
                family = await store.refresh_families.find(refresh.family_hash)
                if family is None:
                    return None
                found = await store.sessions.find_with_user(family.session_id)
        else:
            return None
        return None if found is None else found[0]

    async def _find_signed(self, token: str) -> Session | None:
        try:
            verified = await self._keys.verify_access_token(
                token, now=now(), audiences=self._audiences
            )
            claims = verified.claims
            session_id, subject = UUID(str(claims.get("sid"))), UUID(str(claims["sub"]))
        except (TokenError, ValueError):
            return None
        async with self._database.read() as store:
            found = await store.sessions.find_with_user(session_id)
        return None if found is None or found[1].id != subject else found[0]

    async def _end(self, session: Session, place: Mapping[str, str]) -> None:
        async with self._database.transaction() as store:
            if not await store.sessions.end(session.id):
                return  # somebody else has ended it meanwhile
            await self._audit.record(
                store,
                EventType.TOKEN_LEAKED,
                user_id=session.user_id,
                session_id=session.id,
                strategy=session.kind.value,
                **place,
            )


def _is_plain(text: str, longest: int) -> bool:
    if OPAQUE_PREFIX in text or REFRESH_PREFIX in text:
        return False
    return 0 < len(text) <= longest and text.isascii() and text.isprintable()


def _is_link(url: str) -> bool:
    if not _is_plain(url, _MAX_URL) or not _UNQUOTED.isdisjoint(url):
        return False
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        return False
