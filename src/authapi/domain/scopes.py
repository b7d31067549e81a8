"""Scopes: those of the settings and the built-in `introspect`, and which of them a user has.

The scopes of a credential are computed at each use, as the roles and the superuser flag of its user
may have changed. The scopes stored with the credential are those granted when it was created.
"""

from collections.abc import Mapping

from authapi.domain.user import User
from authapi.settings import EdgeSettings, Settings

INTROSPECT = "introspect"
"""Permits introspection of any token (RFC 7662)."""


def supported_scopes(settings: EdgeSettings) -> Mapping[str, str]:
    """All scopes that a credential can have, with their descriptions."""
    return {INTROSPECT: "Ask whether tokens are alive, and whose"} | settings.scopes


def login_scopes(user: User, settings: Settings) -> frozenset[str]:
    """The scopes of a login of `user`.

    These are the scopes of the user's roles, or all scopes of the settings if these define no
    roles. A superuser also has `introspect`, but no other additional scope: routes for superusers
    check the flag itself.
    """
    scopes = frozenset(settings.scopes)
    if settings.roles:
        roles = user.roles.union(settings.default_roles)
        # A role that was removed from the settings has no scopes.
        scopes = frozenset().union(*(settings.roles.get(role, frozenset()) for role in roles))
    return scopes | {INTROSPECT} if user.is_superuser else scopes


def effective_scopes(
    granted: frozenset[str] | None, user: User, settings: Settings
) -> frozenset[str]:
    """The scopes that a credential of `user` has now. None for `granted` means all of a login.

    With roles, these are the granted scopes that a login of the user has as well. Without roles,
    all users have the same scopes, and the granted ones remain valid: an operator may have granted
    a token more than a login has.
    """
    if granted is None:
        return login_scopes(user, settings)
    return granted & login_scopes(user, settings) if settings.roles else granted
