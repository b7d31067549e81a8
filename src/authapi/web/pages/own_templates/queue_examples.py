"""Example values for the templates of the queues and the keys of the console."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.outbox import OutboxEntry
from authapi.domain.signing_key import KeyState, StoredKey
from authapi.services.queues.administration import QueueState
from authapi.web.pages.own_templates.values import EMAIL, needs_example

_STATES = {
    "next": KeyState.NEXT,
    "active": KeyState.ACTIVE,
    "retiring": KeyState.RETIRED,
    "retired": KeyState.RETIRED,
}


def _state(*, is_full: bool) -> QueueState:
    at = now()
    return QueueState(3, at, 2, at, at) if is_full else QueueState()


def _receivers() -> list[SimpleNamespace]:
    configured = {"id": "a", "number": 1, "origin": "https://example.com"}
    other = {"id": "b", "number": 0, "origin": ""}
    return [
        SimpleNamespace(**configured, state=_state(is_full=False)),
        SimpleNamespace(**other, state=_state(is_full=True)),
    ]


def _listing(*, is_full: bool) -> SimpleNamespace:
    return SimpleNamespace(
        entries=[_entry(has_failed=True), _entry(has_failed=False)] if is_full else [],
        shown="waiting" if is_full else "",
        next="mail" if is_full else None,
        first="mail" if is_full else None,
        clear="mail" if is_full else "",
    )


def _entry(*, has_failed: bool) -> OutboxEntry:
    at = now()
    error = "the mail server refused the mail (550)"
    return OutboxEntry(
        *(new_id(), "mail", "reset", None, b"", at, at, at),
        attempts=3,
        error=error if has_failed else None,
        failed_at=at if has_failed else None,
        receiver="a" if has_failed else "",
    )


def _key(state: str) -> SimpleNamespace:
    at = now()
    has_signed = state in {"retiring", "retired"}
    stored = StoredKey(
        *("x" * 43, "ES256", _STATES[state], {}, None, at),
        activated_at=None if state == "next" else at,
        retired_at=at if has_signed else None,
        published_until=at if has_signed else None,
    )
    return SimpleNamespace(stored=stored, state=state)


OF_QUEUES: Mapping[str, Callable[[bool], Mapping[str, Any]]] = {
    "console-mail": lambda full: {
        "needs": needs_example(is_full=full),
        "sends_mail": full,
        "state": _state(is_full=full),
        "list": _listing(is_full=full),
        "email": EMAIL,
    },
    "console-webhooks": lambda full: {
        "needs": needs_example(is_full=full),
        "receivers": _receivers() if full else [],
        "origins": {"a": "https://example.com"} if full else {},
        "list": _listing(is_full=full),
    },
    "console-keys": lambda full: {
        "needs": needs_example(is_full=full),
        "prove": "prove",
        "signs": True,
        "keys": [_key(state) for state in (_STATES if full else ("next", "active"))],
        "jwks": "https://example.com/.well-known/jwks.json" if full else None,
    },
}
"""The pages of the queues and of the keys."""
