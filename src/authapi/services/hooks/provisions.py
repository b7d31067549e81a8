"""Checks of what hooks return about accounts for people at providers."""

from collections.abc import Set

from authapi.domain.display_names import is_display_name
from authapi.domain.federation.person import Provision
from authapi.services.hooks.running import HookError

_MAX_NAME = 200


def checked_answer(returned: object, hook: str) -> bool:
    """Returns what `hook` has returned, a Boolean. Raises HookError for every other value."""
    if not isinstance(returned, bool):
        raise HookError(f"the hook {hook} must return True or False")
    return returned


def merged_provision(decided: Provision, returned: object, hook: str) -> Provision:
    """Returns `decided` with what `hook` has returned in addition. Raises HookError.

    A hook returns None or a Provision, with a name that an account can have.
    """
    if returned is None:
        return decided
    if not isinstance(returned, Provision):
        raise HookError(f"the hook {hook} must return a Provision or None")
    if returned.name is not None and not _is_name(returned.name):
        raise HookError(f"the hook {hook} returned a name that no account can have")
    if returned.roles is not None and not _are_roles(returned.roles):
        raise HookError(f"the hook {hook} must return a set of roles")
    name, roles = returned.name, returned.roles
    return Provision(
        name=decided.name if name is None else name,
        roles=decided.roles if roles is None else frozenset(roles),
    )


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= _MAX_NAME and is_display_name(name)


def _are_roles(roles: object) -> bool:
    return isinstance(roles, Set) and all(isinstance(role, str) for role in roles)
