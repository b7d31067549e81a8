"""Which accounts must have a second factor, for each setting, role, rank and kind of credential."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from authapi import Settings
from authapi.domain.factors.policy import asks_for_factor, is_too_weak, must_have_factor
from authapi.domain.user import User
from tests.storage.rows import a_user

ONE, TWO, NONE = ("pwd",), ("pwd", "otp", "mfa"), ()
SCOPES = {"reports:read": "Read", "reports:write": "Write"}
ROLES = {
    "reader": frozenset({"reports:read"}),
    "editor": frozenset({"reports:read", "reports:write"}),
}


def settings_of(**changes: object) -> Settings:
    return Settings(scopes=SCOPES, roles=ROLES, **changes)  # type: ignore[arg-type]


def user_of(*roles: str, superuser: bool = False) -> User:
    return replace(a_user(), roles=frozenset(roles), is_superuser=superuser)


@pytest.mark.parametrize(
    ("settings", "required"),
    [
        ({}, set()),
        ({"mfa": "off"}, set()),
        ({"mfa": "required"}, {"plain", "reader", "editor", "root"}),
        ({"mfa_required_roles": ("editor",)}, {"editor"}),
        ({"mfa_required_roles": ("reader", "editor")}, {"reader", "editor"}),
        ({"mfa_required_superusers": True}, {"root"}),
        ({"mfa_required_roles": ("editor",), "mfa_required_superusers": True}, {"editor", "root"}),
        (
            {"mfa_required_roles": ("reader",), "default_roles": ("reader",)},
            {"plain", "reader", "editor", "root"},
        ),
    ],
    ids=range(8),
)
def test_accounts_that_must_have_a_factor(settings: dict[str, object], required: set[str]) -> None:
    people = {
        "plain": user_of(),
        "reader": user_of("reader"),
        "editor": user_of("editor"),
        "root": user_of(superuser=True),
    }
    found = settings_of(**settings)
    assert {name for name, user in people.items() if must_have_factor(user, found)} == required
    assert {name for name, user in people.items() if asks_for_factor(user, found)} == required
    with_factor = replace(user_of(), mfa_since=datetime.now(UTC))
    assert asks_for_factor(with_factor, found), "an account that has one is asked, also with off"


@pytest.mark.parametrize("mfa", ["off", "optional", "required"])
def test_only_old_logins_by_one_factor_are_too_weak(mfa: str) -> None:
    settings = settings_of(mfa=mfa)
    assert is_too_weak(ONE, settings) == (mfa == "required")
    assert not is_too_weak(TWO, settings)
    assert not is_too_weak(NONE, settings), "a personal access token"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mfa_required_roles": ("absent",)}, "contains an unknown role: absent"),
        ({"mfa": "off", "mfa_required_roles": ("editor",)}, "mfa=off contradicts"),
        ({"mfa": "off", "mfa_required_superusers": True}, "mfa=off contradicts"),
        ({"mfa": "sometimes"}, "mfa"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_of(**changes)
