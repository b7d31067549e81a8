"""Which accounts must have a second factor, and which logins without one are refused.

All rules are computed at use, from the user and the methods of the credential, without a query. A
personal access token has no methods (`amr`): no login has issued it. `domain/scopes.py` has what a
login by one factor lacks.
"""

from collections.abc import Collection
from typing import Literal, Protocol

from authapi.domain.factors.authentication_context import MFA
from authapi.domain.user import User


class PolicySettings(Protocol):
    """The settings that require second factors."""

    @property
    def mfa(self) -> Literal["off", "optional", "required"]:
        """Whether accounts may or must have a second factor."""

    @property
    def mfa_required_roles(self) -> tuple[str, ...]:
        """Roles that count only in logins with a second factor."""

    @property
    def mfa_required_superusers(self) -> bool:
        """Whether the rank of a superuser counts only in logins with a second factor."""

    @property
    def default_roles(self) -> tuple[str, ...]:
        """Roles that every user has."""


def must_have_factor(user: User, settings: PolicySettings) -> bool:
    """Whether the account must have a second factor.

    Its logins are then not complete without one, and its last one cannot be removed.
    """
    if settings.mfa == "required":
        return True
    if settings.mfa_required_superusers and user.is_superuser:
        return True
    required = settings.mfa_required_roles
    return bool(required) and not user.roles.union(settings.default_roles).isdisjoint(required)


def asks_for_factor(user: User, settings: PolicySettings) -> bool:
    """Whether a login of the account by one factor is not complete.

    It goes on with the second factor that the account has, or with adding the one that it must
    have.
    """
    return user.mfa or must_have_factor(user, settings)


def is_too_weak(amr: Collection[str], settings: PolicySettings) -> bool:
    """Whether a login by these methods is worth nothing, because `mfa=required` asks for two.

    Such a login is older than the setting. Personal access tokens are never too weak.
    """
    return settings.mfa == "required" and bool(amr) and MFA not in amr
