"""Scopes: those that the operator names, and one that is built in; and who may do what of them.

Whoever asks what a credential may do asks here, at the time of its use: roles and ranks change, and
what was written down when the credential was made says only what it was given then.
"""

from collections.abc import Mapping

from authapi.identity import User
from authapi.settings import EdgeSettings, Settings

INTROSPECT = "introspect"
"""Lets its holder ask of any token whether it is alive, and whose (RFC 7662)."""


def existing_scopes(settings: EdgeSettings) -> Mapping[str, str]:
    """Every scope that a credential can hold, with what it means."""
    return {INTROSPECT: "Ask whether tokens are alive, and whose"} | settings.scopes


def scopes_of_login(user: User, settings: Settings) -> frozenset[str]:
    """What a login of `user` may do: what their roles say, or, without roles, all that is named.

    A superuser's may introspect as well; everybody's, where the settings name that. To be a
    superuser gives no other scope: it is a rank that gates ask for by itself.
    """
    named = frozenset(settings.scopes)
    if settings.roles:
        held = user.roles.union(settings.default_roles)
        # A role that the settings do not have any more gives nothing.
        named = frozenset().union(*(settings.roles.get(role, frozenset()) for role in held))
    return named | {INTROSPECT} if user.is_superuser else named


def effective_scopes(
    given: frozenset[str] | None, user: User, settings: Settings
) -> frozenset[str]:
    """What a credential of `user` may do now that was `given` these scopes; None stands for all.

    Never more than it was given, and never more than `user`, as they are now, may do themselves.
    Without roles everybody may do the same, so what an operator gave a token beyond that stands.
    """
    if given is None:
        return scopes_of_login(user, settings)
    return given & scopes_of_login(user, settings) if settings.roles else given
