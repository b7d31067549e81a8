"""Scopes, roles and the rank of a superuser: what a credential of a user may do now.

The scopes of a credential are computed at each use, as the roles and the superuser flag of its user
may have changed. The scopes stored with the credential are those granted when it was created.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.policy import PolicySettings
from authapi.domain.user import User

INTROSPECT = "introspect"
"""Permits introspection of any token (RFC 7662)."""


class ScopeSettings(Protocol):
    """The settings that define scopes."""

    @property
    def scopes(self) -> Mapping[str, str]:
        """Scopes with their descriptions."""


class RoleSettings(ScopeSettings, PolicySettings, Protocol):
    """The settings that define scopes and roles, and when a role counts."""

    @property
    def roles(self) -> Mapping[str, frozenset[str]]:
        """Names of roles, with the scopes of each. If empty, a login has all scopes."""


def supported_scopes(settings: ScopeSettings) -> Mapping[str, str]:
    """All scopes that a credential can have, with their descriptions."""
    return {INTROSPECT: "Ask whether tokens are alive, and whose"} | dict(settings.scopes)


def counting_roles(user: User, amr: Collection[str], settings: PolicySettings) -> Collection[str]:
    """Returns the roles of the user that count in a credential with these methods."""
    roles = user.roles.union(settings.default_roles)
    return roles if MFA in amr else roles.difference(settings.mfa_required_roles)


def has_rank(user: User, amr: Collection[str], settings: PolicySettings) -> bool:
    """Whether the user is a superuser, and a login by these methods counts as one."""
    return user.is_superuser and (MFA in amr or not settings.mfa_required_superusers)


def login_scopes(user: User, settings: RoleSettings, *, amr: Collection[str]) -> frozenset[str]:
    """The scopes of a login of `user` by the methods `amr`; empty for a personal access token.

    These are the scopes of the user's roles, or all scopes of the settings if these define no
    roles. Roles that require a second factor count only with the method `mfa`. A superuser also has
    `introspect`, but no other additional scope: routes for superusers check the flag itself. With
    `mfa_required_superusers`, a login by one factor lacks it. A personal access token keeps it, as
    the login that created the token had it.
    """
    scopes = frozenset(settings.scopes)
    if settings.roles:
        roles = counting_roles(user, amr, settings)
        # A role that was removed from the settings has no scopes.
        scopes = frozenset().union(*(settings.roles.get(role, frozenset()) for role in roles))
    if user.is_superuser and (not amr or has_rank(user, amr, settings)):
        return scopes | {INTROSPECT}
    return scopes


def effective_scopes(
    granted: frozenset[str] | None,
    user: User,
    settings: RoleSettings,
    own: frozenset[str] | None = None,
    *,
    amr: Collection[str],
) -> frozenset[str]:
    """The scopes that a credential of `user` has now. None for `granted` means all of a login.

    `amr` are the methods of the login that has the credential; empty for a personal access token.

    With roles, these are the granted scopes that a login of the user has as well. Without roles,
    all users have the same scopes, and the granted ones remain valid: an operator may have granted
    a token more than a login has.

    `own` are the scopes that the application gives to the user now; None if the application adds no
    scopes. A granted scope that is not one of the settings ends when the application withdraws it.
    """
    held = login_scopes(user, settings, amr=amr) | (own or frozenset())
    if granted is None:
        return held
    if settings.roles:
        return granted & held
    return granted if own is None else granted & held.union(supported_scopes(settings))
