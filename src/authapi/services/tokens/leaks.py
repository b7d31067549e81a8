"""Leaked tokens: ended on the word of a secret scanner, which signs what it reports.

A scanner that finds one of our tokens in public tells us, and whoever else reads there has found it
too. So the session behind it ends at once, with everything of its own, and its owner finds out
where it lay from the event. Nothing in a report is trusted beyond that: it names texts, and a text
that is no live credential of ours changes nothing, however often it is sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from authapi.crypto.detached import DetachedKey
from authapi.crypto.refresh import REFRESH_PREFIX
from authapi.crypto.secrets import OPAQUE_PREFIX
from authapi.errors import ReportNotSigned, SignatureMismatch
from authapi.identity import EventType, Session, SessionKind
from authapi.services.audit import Audit
from authapi.services.tokens.exchanged import end_exchanged
from authapi.services.tokens.presented import Presented, PresentedTokens
from authapi.services.tokens.scanners import read_scanners
from authapi.settings import Settings
from authapi.storage import Database
from authapi.storage.conflicts import retried

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

    def __init__(
        self, database: Database, presented: PresentedTokens, audit: Audit, settings: Settings
    ) -> None:
        self._database = database
        self._presented = presented
        self._audit = audit
        self._path = settings.leak_report_keys
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
        of one session, and both are real. A refresh token that is used up is one of them, too: who
        holds it has held the login. A JWT for another service ends alone: what it was exchanged
        for has not leaked. Each session is ended in a transaction of its own, so
        that no two reports wait for one another, and a database that goes away keeps nothing alive
        that was found before.
        """
        found = {leak.token: await self._presented.find(leak.token) for leak in leaks}
        ended: set[UUID] = set()
        for leak in leaks:
            token = found[leak.token]
            if token is not None and token.is_exchanged:
                await self._end_exchanged(token, leak.place)
            elif token is not None and token.session.id not in ended:
                ended.add(token.session.id)
                await self._end(token.session, leak.place)
        return [
            Verdict.FALSE_POSITIVE if found[leak.token] is None else Verdict.TRUE_POSITIVE
            for leak in leaks
        ]

    @retried
    async def _end_exchanged(self, token: Presented, place: Mapping[str, Any]) -> None:
        async with self._database.transaction() as store:
            if await end_exchanged(store, token):
                await self._audit.record(
                    store,
                    EventType.TOKEN_LEAKED,
                    user_id=token.user.id,
                    session_id=token.session.id,
                    strategy=SessionKind.JWT.value,
                    audience=token.audience,
                    **place,
                )

    @retried
    async def _end(self, session: Session, place: Mapping[str, Any]) -> None:
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
