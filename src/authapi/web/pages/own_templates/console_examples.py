"""Example values for the templates of the console."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.session import SessionKind
from authapi.web.pages.own_templates.queue_examples import OF_QUEUES
from authapi.web.pages.own_templates.status_examples import status
from authapi.web.pages.own_templates.values import (
    EMAIL,
    TEXT,
    device_example,
    factors_example,
    needs_example,
    session_example,
    user_example,
)


def _event_rows(*, is_full: bool) -> list[SimpleNamespace]:
    if not is_full:
        return []
    row = {"at": now(), "type": "login", "sentence": "Signed in", "user": EMAIL, "actor": EMAIL}
    place = "Chrome on Windows, 192.0.2.1"
    return [
        SimpleNamespace(**row, user_id=new_id(), actor_id=new_id(), is_refused=True, place=place),
        SimpleNamespace(**row, user_id=None, actor_id=None, is_refused=False, place=""),
    ]


def _chart() -> SimpleNamespace:
    return SimpleNamespace(
        path="M1 60v-60h8v60z",
        width=10,
        height=60,
        days=[(now().date(), 1)],
        total=1,
        counted_since=now(),
    )


OF_CONSOLE: Mapping[str, Callable[[bool], Mapping[str, Any]]] = {
    "console-frame": lambda _: {"here": ""},
    "console-status": status,
    "console-settings": lambda _: {"settings": {"env": "production"}},
    "console-people": lambda full: {
        "filters": SimpleNamespace(
            **dict.fromkeys(("email", "username", "active", "confirmed", "superuser", "role"), ""),
            sort="email",
        ),
        "has_usernames": full,
        "roles": {"": "All", "editor": "editor"} if full else {},
        "people": [user_example(is_full=True), user_example(is_full=False)] if full else [],
        "invited": [],
        "can_invite": full,
        "clear": "people" if full else "",
        "next": "people" if full else None,
        "first": "people" if full else None,
    },
    "console-person": lambda full: {
        "changing": "",
        "person": user_example(is_full=full),
        "is_own": not full,
        "version": "x",
        "is_invited": full,
        "identifier": "both" if full else "email",
        "sends_mail": full,
        "roles": {"editor": True, "reader": False} if full else {},
        "old_roles": ["old"] if full else [],
        "role_name": "role ",
        "needs": needs_example(is_full=full),
        "prove": "prove",
        "logins": [device_example(kind, is_full=full) for kind in SessionKind] if full else [],
        "more_logins": (1, 3) if full else (0, 0),
        "tokens": [session_example(SessionKind.TOKEN, is_full=full)] if full else [],
        "more_tokens": (1, 3) if full else (0, 0),
        "factors": factors_example(is_full=True) if full else None,
        "events": _event_rows(is_full=full),
    },
    "console-prove": lambda full: {
        "person": user_example(is_full=full),
        "action": "deactivate",
        "values": {"action": "deactivate", "id": "", "email": ""},
        "needs": needs_example(is_full=full, password=True),
    },
    "console-invite": lambda full: {
        "sends_mail": full,
        "has_usernames": full,
        "roles": {"editor": True} if full else {},
        "role_name": "role ",
        "needs": needs_example(is_full=full),
    },
    "console-invited": lambda full: {
        "results": [SimpleNamespace(text=EMAIL, user_id=new_id() if full else None, problem=TEXT)],
    },
    "console-event-days": lambda full: {
        "filters": ["login"] if full else [],
        "chart": _chart() if full else None,
        "back": "events",
    },
    "console-events": lambda full: {
        "filters": dict.fromkeys(("user", "actor", "type", "ip", "since", "until"), ""),
        "errors": {} if full else {"ip": TEXT},
        "groups": {"sign-ins": ["login"], "changes": [], "refused": []},
        "events": _event_rows(is_full=full),
        "chart": _chart() if full else None,
        "days": "events/days",
        "is_cut": not full,
        "clear": "events" if full else "",
        "files": {"csv": "events", "jsonl": "events"},
        "next": "events" if full else None,
        "first": "events" if full else None,
    },
    **OF_QUEUES,
}
"""The pages of superusers."""
