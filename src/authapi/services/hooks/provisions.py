"""Checks of what hooks return about accounts for people at providers."""

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
    name, roles = returned.name, returned.roles
    is_name = name is None or (
        isinstance(name, str) and len(name) <= _MAX_NAME and is_display_name(name)
    )
    if not is_name:
        raise HookError(f"the hook {hook} returned a name that no account can have")
    if roles is not None and not (
        isinstance(roles, frozenset | set) and all(isinstance(role, str) for role in roles)
    ):
        raise HookError(f"the hook {hook} must return a set of roles")
    return Provision(
        name=decided.name if name is None else name,
        roles=decided.roles if roles is None else frozenset(roles),
    )
