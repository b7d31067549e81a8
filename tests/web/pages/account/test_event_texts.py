"""The sentences about events."""

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from authapi import Settings
from authapi.clock import now
from authapi.crypto.ids import new_id
from authapi.domain.client import Client
from authapi.domain.events import REFUSALS, Event, EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.web.pages.account.event_texts import (
    CHANGES,
    EVENTS,
    SIGN_INS,
    event_sentence,
    sentences,
)
from authapi.web.pages.site import Site


@pytest.fixture(scope="module")
def site() -> Site:
    return Site(Settings.isolated())


def event(kind: EventType, detail: Mapping[str, object]) -> Event:
    return Event(new_id(), now(), kind, new_id(), None, None, Client(), detail)


def test_every_event_has_one_sentence_of_its_own(site: Site) -> None:
    assert EVENTS.keys() == set(EventType)
    for language in ("en", "ko"):
        texts = {event_sentence(site, language, event(kind, {})) for kind in EventType}
        assert len(texts) == len(EventType)
    # A missing translation would be the English sentence.
    assert not any(re.search("[a-z]", site.text(text, "ko", **VALUES)) for text in sentences())


VALUES = {"roles": "", "left": "", "count": "", "name": "", "host": ""}


def test_every_event_is_in_one_filter() -> None:
    assert {*SIGN_INS, *CHANGES, *REFUSALS} == set(EventType)
    assert len(SIGN_INS) + len(CHANGES) + len(REFUSALS) == len(EventType)


@pytest.mark.parametrize(
    ("kind", "detail", "sentence"),
    [
        (EventType.LOGIN, {"amr": ["pwd", "otp", MFA]}, "Signed in to your account"),
        (EventType.LOGIN, {"amr": ["pop", "user", MFA]}, "Signed in with a passkey"),
        (EventType.FACTOR_ADDED, {"method": "passkey"}, "Passkey added"),
        (EventType.FACTOR_REMOVED, {"because": "x"}, "Second steps removed"),
        (EventType.TOKEN_CREATED, {"name": "100%(x)s <b>"}, "Access token made: 100%(x)s <b>"),
        (EventType.ROLES_CHANGED, {"roles": ["editor", "reader"]}, "Roles changed: editor, reader"),
        (EventType.ROLES_CHANGED, {"roles": []}, "Roles changed"),
        (EventType.SESSIONS_ENDED, {"count": 4}, "Sign-ins ended: 4"),
        (EventType.RECOVERY_CODE_USED, {"left": 0}, "A recovery code was used. Codes left: 0"),
        # Details of another release, or of an application that writes into the table.
        (EventType.LOGIN, {"amr": []}, "Signed in to your account"),
        (EventType.LOGIN, {"amr": [["pop"]]}, "Signed in to your account"),
        (EventType.FACTOR_ADDED, {"method": "smoke signal"}, "Second step added"),
        (EventType.FACTOR_ADDED, {"method": {"a": 1}}, "Second step added"),
        (EventType.SESSIONS_ENDED, {"count": True}, "Devices were signed out"),
        (EventType.ROLES_CHANGED, {"roles": [1, None]}, "Roles changed"),
        (EventType.TOKEN_CREATED, {"name": None}, "Access token made"),
    ],
    ids=range(16),
)
def test_details_are_in_the_sentence(
    site: Site, kind: EventType, detail: Mapping[str, object], sentence: str
) -> None:
    assert event_sentence(site, "en", event(kind, detail)) == sentence
    unknown = replace(event(kind, detail), detail={**detail, "secret": "never"})
    assert event_sentence(site, "en", unknown) == sentence
