"""Values for each template as its page gives them, to find a template that cannot be rendered.

Each template is rendered twice: with every value that is optional, and without. The tests compare
the names with those that the pages use.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from markupsafe import Markup

from authapi.clock import now
from authapi.domain.session import SessionKind
from authapi.services.accounts.email_change import PendingEmailChange
from authapi.services.accounts.passwords import PasswordState
from authapi.web.pages.own_templates.console_examples import OF_CONSOLE
from authapi.web.pages.own_templates.values import (
    EMAIL,
    TEXT,
    connected_example,
    device_example,
    events_example,
    factors_example,
    form_example,
    identity_example,
    needs_example,
    passkey_example,
    providers_example,
    session_example,
    token_example,
    user_example,
)
from authapi.web.pages.site import Site

Values = Mapping[str, Any]

_LINKS = ("confirm", "reset", "undo", "disown", "invitation")
"""The pages that links in mails lead to."""


def examples(site: Site, name: str, language: str) -> Iterator[Values]:
    """Yields values for the template `name`, in an offered language: all, then the fewest."""
    for is_full in (True, False):
        for values in _values(name, is_full=is_full):
            yield {**_common(site, language, name, is_full=is_full), **values}


def _common(site: Site, language: str, name: str, *, is_full: bool) -> dict[str, Any]:
    is_signed_in = is_full or name in _OF_ACCOUNT or name in OF_CONSOLE
    of_console = {"entries": ["people", "events"]} if name in OF_CONSOLE else {}
    return {
        **of_console,
        "language": language,
        "languages": site.languages.names if is_full else {language: language},
        "kept": {"next": "/"} if is_full else {},
        "lang_query": f"?lang={language}" if is_full else "",
        "base": "account/",
        "root": "account",
        "versions": {file: asset.version for file, asset in site.assets.items()},
        "brand": site.name,
        "home": "account",
        "sign_in": "sign-in" if is_full or name in _OF_SIGN_IN else None,
        "user": user_example(is_full=is_full) if is_signed_in else None,
        "has_sign_out": is_full,
        "console": "console/" if is_full or name in OF_CONSOLE else None,
        "has_tokens": is_full,
        "passkey_origins": site.passkey_origins,
        "min_length": 15,
        "terms_url": "https://example.com/terms" if is_full else None,
        "privacy_url": "https://example.com/privacy" if is_full else None,
        "support_url": "https://example.com/help" if is_full else None,
        "form": form_example(is_full=is_full),
        "outcome": {"text": TEXT, "is_problem": False} if is_full else None,
        "token": "x" * 43 if is_full else "",
    }


def _filters() -> Values:
    return dict.fromkeys(("all", "sign-ins", "changes", "refused"), "activity")


def _only_needs(full: bool) -> Values:  # as the other entries of the tables
    return {"needs": needs_example(is_full=full)}


_CODES = {"codes": ["7K2M-Q4XP"], "download": "data:text/plain,x", "file_name": "codes.txt"}
_KEY = {"qr": Markup("<svg></svg>"), "key": "ABCD EFGH"}

_OF_ACCOUNT: Mapping[str, Callable[[bool], Values]] = {
    "account": lambda full: {
        "changing": "name" if full else "",
        "version": "x",
        "needs": needs_example(is_full=full),
        "pending": PendingEmailChange("new@example.com", now()) if full else None,
        "sends_mail": full,
        "identifier": "both" if full else "email",
        "since": "1 January 2026",
        "locales": {"en": "English", "ko": "한국어"} if full else {},
    },
    "security": lambda full: {
        "password": PasswordState(full, now() if full else None),
        "factors": factors_example(is_full=full),
        "can_add": full,
        "needs_confirmation": full,
        "offers_passkeys": full,
        "connected": connected_example(is_full=full),
        "connectable": [("google", "Google")] if full else [],
        "events": events_example(is_full=full),
    },
    "password": lambda full: {
        "needs": needs_example(is_full=full),
        "has_password": full,
        "sends_mail": not full,
        "email": EMAIL,
    },
    "app-start": _only_needs,
    "app": lambda full: _KEY if full else {**_KEY, "qr": None},
    "app-confirm": lambda _: {},
    "app-remove": lambda full: {
        "needs": needs_example(is_full=full),
        "is_last": full,
        "is_required": not full,
    },
    "codes-new": _only_needs,
    "codes": lambda _: _CODES,
    "passkey-new": lambda full: {"needs": needs_example(is_full=full), "prove": "prove"},
    "passkey": lambda full: {
        "passkey": passkey_example(is_full=full),
        "needs": needs_example(is_full=full),
        "is_removal": full,
    },
    "provider": lambda full: {
        "key": "google",
        "provider": "Google",
        "needs": needs_example(is_full=full),
    },
    "identity": lambda full: {
        "identity": identity_example(is_full=full),
        "provider": "Google",
        "needs": needs_example(is_full=full),
    },
    "devices": lambda full: {
        "devices": [device_example(kind, is_full=full) for kind in SessionKind],
        "others": 2 if full else 0,
        "newer": 1 if full else 0,
        "older": 3 if full else 0,
    },
    "tokens": lambda full: {
        "tokens": [token_example(is_full=True), token_example(is_full=False)] if full else [],
        "newer": 1 if full else 0,
        "older": 3 if full else 0,
    },
    "token-new": lambda full: {
        "form": form_example(is_full=full, expires="30", date="2026-12-31"),
        "form_id": "x",
        "presets": [7, 30] if full else [],
        "first_day": "2026-01-01",
        "last_day": "2026-12-31",
        "scopes": {"reports:read": "Read reports", "reports:write": ""} if full else {},
        "scope_name": "scope ",
        "needs": needs_example(is_full=full),
    },
    "token-made": lambda full: {
        "token": session_example(SessionKind.TOKEN, is_full=full),
        "secret": "x",
        "issuer": "https://example.com",
    },
    "activity": lambda full: {
        "shown": "all" if full else "refused",
        "filters": _filters(),
        "events": events_example(is_full=full),
        "newest": "activity" if full else None,
        "older": "activity" if full else None,
    },
    "data": lambda _: {},
    "delete": lambda full: {
        "has_password": full,
        "needs": needs_example(is_full=full),
        "keeps_events": full,
    },
    "frame": lambda _: {"here": ""},
    "task": lambda _: {"here": ""},
}
"""The pages of a person who is signed in."""

_OF_SIGN_IN: Mapping[str, Callable[[bool], Values]] = {
    "sign-in": lambda full: {
        "identifier": "both" if full else "email",
        "offers_reset": True,
        "offers_sign_up": full,
        "is_stuck": full,
        "forgot": "forgot",
        "sign_up": "sign-up",
        "focus": "password" if full else "email",
        "has_passkeys": full,
        "unknown": [{"id": "x", "rp": "example.com"}] if full else [],
        "providers": providers_example(is_full=full),
    },
    "signed-in": lambda full: {"email": EMAIL, "next": "/" if full else None},
    "second-step": lambda full: {"has_app": full, "has_codes": True, "has_passkey": full},
    "enrol": lambda full: {"has_passkey": full},
    "enrol-app": lambda full: _KEY if full else {**_KEY, "qr": None},
    "enrol-confirm": lambda _: {},
    "enrol-codes": lambda _: {"go_on": "sign-in", **_CODES},
    "sign-up": lambda full: {
        "identifier": "both" if full else "email",
        "providers": providers_example(is_full=full),
    },
    "sign-up-closed": lambda _: {},
    "check-mail": lambda full: {
        "sent_to": "u***@example.com" if full else None,
        "address": EMAIL if full else "",
        "sign_up": "sign-up",
    },
    "sign-out": lambda _: {"email": EMAIL},
    "prove": lambda full: {
        "account": EMAIL,
        "needs": needs_example(is_full=full, password=True),
        "has_password": full,
        "has_passkey": True,
        "providers": [("google", "Google")] if full else [],
    },
    "address": lambda full: {"confirms": full},
    "going": lambda _: {"url": "https://example.com/login", "provider": "Google"},
}
"""The pages that an installation has only together with the page to sign in."""

_OTHERS: Mapping[str, Callable[[bool], Values]] = {
    "try-again": lambda full: {
        "problem": TEXT,
        "values": {"email": EMAIL} if full else {},
        "secrets": ["password", "new_password", "current_password", "code"] if full else [],
    },
    "forgot": lambda _: {},
    "done": lambda full: {
        "is_mailed": full,
        "offers_reset": not full,
        "sent_to": "u***@example.com" if full else None,
        "send_again": EMAIL if full else None,
    },
    "confirm": lambda full: {
        "account": EMAIL,
        "is_owner": not full,
        "email": EMAIL,
        "can_take_over": full,
        "has_ticket": full,
    },
    **dict.fromkeys(("reset", "undo", "disown", "invitation"), lambda _: {"account": EMAIL}),
}


def _values(name: str, *, is_full: bool) -> Iterator[Values]:
    if name == "dead-link":
        yield from ({"kind": kind, "problem": TEXT} for kind in _LINKS)
    elif name == "error":
        for kind in ("again", "forgot", "sign_in"):
            link = {"href": "sign-in", "kind": kind}
            yield {"is_missing": is_full, "problem": TEXT, "link": link, "reference": "x"}
    else:
        values = {**_OF_ACCOUNT, **_OF_SIGN_IN, **OF_CONSOLE, **_OTHERS}.get(name)
        yield {} if values is None else values(is_full)
