"""Scopes: those that the operator names, and one that is built in."""

from collections.abc import Mapping

from authapi.identity import User
from authapi.settings import EdgeSettings

INTROSPECT = "introspect"
"""Lets its holder ask of any token whether it is alive, and whose (RFC 7662)."""


def existing_scopes(settings: EdgeSettings) -> Mapping[str, str]:
    """Every scope that a credential can hold, with what it means."""
    return {INTROSPECT: "Ask whether tokens are alive, and whose"} | settings.scopes


def scopes_of_login(user: User, settings: EdgeSettings) -> frozenset[str]:
    """What a login of `user` may do: all that the settings name.

    A superuser's may introspect as well; everybody's, where the settings name that.
    """
    named = frozenset(settings.scopes)
    return named | {INTROSPECT} if user.is_superuser else named
