"""Checks of what hooks return: scopes, and members of JWTs."""

import json
import re
from collections.abc import Collection, Mapping

from authapi.crypto import strict_json
from authapi.domain.scopes import INTROSPECT
from authapi.services.hooks.running import HookError

_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""A scope token (RFC 6749, section 3.3)."""
_MAX_SCOPES_LENGTH = 2048
"""Of all own scopes of one user, with a space between two."""
_MAX_CLAIMS_BYTES = 2048
"""Of all own members of one JWT as JSON. A token must fit into a header of a proxy, often 8 KiB."""
_MAX_DEPTH = 10
RESERVED_CLAIMS = frozenset(
    [
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "client_id",
        "sid",
        "scope",
        "auth_time",
        "amr",
        "acr",
        "azp",
        "nonce",
        "at_hash",
        "c_hash",
        "cnf",
        "act",
        "may_act",
        "events",
        "sub_id",
        "token_type",
        "authapi",
    ]
)
"""Members that authapi writes, or that the receiver of a JWT reads as a statement of the issuer
about the token (RFC 7519, 7800, 8693, 9068, OpenID Connect)."""


def checked_scopes(returned: object, hook: str) -> frozenset[str]:
    """Returns the scopes that `hook` has returned. Raises HookError if one is not possible."""
    if isinstance(returned, str) or not isinstance(returned, Collection):
        raise HookError(f"the hook {hook} must return a collection of scopes")
    for scope in returned:
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise HookError(f"the hook {hook} returned a scope that RFC 6749 does not allow")
        if scope == INTROSPECT:
            raise HookError(f"the hook {hook} returned {INTROSPECT!r}: the name is reserved")
    if len(" ".join(returned)) > _MAX_SCOPES_LENGTH:
        raise HookError(f"the hook {hook} returned more than {_MAX_SCOPES_LENGTH} bytes of scopes")
    return frozenset(returned)


def checked_claims(
    returned: object, hook: str, *, present: Collection[str]
) -> Mapping[str, object]:
    """Returns the members that `hook` has returned; `present` are those of other hooks.

    Raises HookError if a name is reserved or present, or a value is not JSON.
    """
    if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
        raise HookError(f"the hook {hook} must return a mapping with names of members")
    for name in returned:
        if name in RESERVED_CLAIMS:
            raise HookError(f"the hook {hook} returned {name!r}: the name is reserved")
        if name in present:
            raise HookError(f"the hook {hook} returned {name!r}, which another hook returns too")
    return dict(returned)


def as_json(members: Mapping[str, object]) -> Mapping[str, object]:
    """Returns the own members of a JWT as a client reads them.

    Raises HookError if they are not JSON that authapi reads itself, or too large.
    """
    try:
        text = json.dumps(members, allow_nan=False, separators=(",", ":")).encode()
        parsed = strict_json.loads(text, max_depth=_MAX_DEPTH)
    except (TypeError, ValueError, RecursionError) as error:
        raise HookError("the own members of a JWT are not JSON") from error
    if len(text) > _MAX_CLAIMS_BYTES:
        raise HookError(f"the own members of a JWT exceed {_MAX_CLAIMS_BYTES} bytes")
    return parsed if isinstance(parsed, dict) else {}
