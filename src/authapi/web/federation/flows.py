"""The flows of a browser: each is one sealed cookie, so that beginning one writes nothing.

The cookie is named by the first characters of `state`, and sealed for that name. A callback without
it belongs to another browser, and is refused: an attacker could otherwise have a visitor log in to
the account of the attacker (login CSRF), or use a callback that was stolen. A browser keeps a few
flows, since two tabs may log in at once, and each form that is left open costs one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from starlette.requests import HTTPConnection

from authapi.clock import now
from authapi.crypto import base64url
from authapi.crypto.encryption import Cipher
from authapi.crypto.secrets import is_secret, new_secret
from authapi.domain.federation.flow import Flow, FlowIntent
from authapi.errors import DecryptionFailed, InputError, InvalidInput, LoginFlowInvalid
from authapi.strategies.session import cookie_name, set_cookie
from authapi.web.context import context_of

FLOW_USE = "login flows 1"
"""The use of the cipher of flows, which gives it a key of its own."""
LIFETIME = timedelta(minutes=10)
"""How long a visit to a provider may take."""
MAX_FLOWS = 5
"""How many flows one browser keeps. The oldest goes."""
MAX_COOKIE = 3298
"""Bytes of the cookie of a flow, with its name: browsers drop one with more than 4096."""
MAX_BYTES = 2 * (MAX_COOKIE + 2)
"""How many bytes the flows of one browser have together: two of them always fit."""
MAX_HEADER = 8000
"""How many bytes all cookies of a browser have together, as far as flows can help it. Proxies
refuse a request whose header of cookies is longer than 8 KiB."""

_NAME = "authapi-flow-"
_NAMED_BY = 8
"""Characters of `state` in the name of the cookie."""
_USER = "user of "
_MAX_USER = 1000
"""Characters of the parameter `user` of Apple: a name and an address."""
_MAX_USER_BYTES = 2000
"""Its bytes: sealed, it is shorter than a parameter of a callback may be."""

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class FlowStart:
    """What a flow is for, before it has secrets."""

    provider: str
    strategy: str
    intent: FlowIntent = FlowIntent.LOGIN
    remember: bool = False
    continue_to: str | None = None
    user_id: UUID | None = None
    session_id: UUID | None = None
    credentials_version: int | None = None


def new_flow(start: FlowStart) -> Flow:
    """Returns a flow that begins now, with new secrets."""
    at = now()
    return Flow(
        provider=start.provider,
        state=new_secret(),
        nonce=new_secret(),
        verifier=new_secret(),
        intent=start.intent,
        began_at=at,
        expires_at=at + LIFETIME,
        strategy=start.strategy,
        remember=start.remember,
        continue_to=start.continue_to,
        user_id=start.user_id,
        session_id=start.session_id,
        credentials_version=start.credentials_version,
    )


def keep_flow(connection: HTTPConnection, flow: Flow) -> Headers:
    """Returns the headers that keep `flow`, and delete what the browser need not keep.

    Raises InvalidInput if `continue_to` is too long for a cookie.
    """
    name, secure = _name(connection, flow.state), _is_secure(connection)
    value = base64url.encode(_cipher(connection).encrypt(_serialize(flow), context=name))
    size = len(f"{name}={value}")
    if size > MAX_COOKIE:
        raise InvalidInput(InputError(("body", "continue"), "string_too_long", "is too long"))
    header = ("set-cookie", set_cookie(name, value, secure=secure, max_age=LIFETIME))
    return (header, *_discards(connection, size))


def kept_flow(connection: HTTPConnection, state: str) -> Flow:
    """Returns the flow of this browser that `state` names. It is not over yet.

    Raises LoginFlowInvalid if there is none, or two cookies have its name: an attacker has planted
    one then.
    """
    if not is_secret(state):
        raise LoginFlowInvalid
    name = _name(connection, state)
    values = [value for found, value in _cookies(connection) if found == name]
    flow = _open(connection, name, values[0]) if len(values) == 1 else None
    if flow is None or flow.state != state:
        raise LoginFlowInvalid
    return flow


def has_flow(connection: HTTPConnection, provider: str) -> bool:
    """Whether a flow at this provider is under way in this browser."""
    flows = (_open(connection, name, value) for name, value in _cookies(connection))
    return any(flow is not None and flow.provider == provider for flow in flows)


def discard_flow(connection: HTTPConnection, flow: Flow) -> Headers:
    """Returns the header that deletes the cookie of a flow."""
    return (_deletion(connection, _name(connection, flow.state)),)


def seal_user(connection: HTTPConnection, state: str, user: str) -> str | None:
    """Returns the parameter `user` of a callback for an address of ours; None if it is too long.

    It is sealed, because it names a person, and addresses are in logs.
    """
    plaintext = user.encode()
    if not user or len(user) > _MAX_USER or len(plaintext) > _MAX_USER_BYTES:
        return None
    sealed = _cipher(connection).encrypt(plaintext, context=_USER + state)
    return base64url.encode(sealed)


def open_user(connection: HTTPConnection, state: str, sealed: str | None) -> str | None:
    """Returns what `seal_user` has sealed; None for any other text."""
    if sealed is None:
        return None
    try:
        encrypted = base64url.decode(sealed)
        return _cipher(connection).decrypt(encrypted, context=_USER + state).decode()
    except (DecryptionFailed, ValueError):
        return None


def _cipher(connection: HTTPConnection) -> Cipher:
    return context_of(connection).runtime.services.keys.cipher_for(FLOW_USE)


def _is_secure(connection: HTTPConnection) -> bool:
    return context_of(connection).runtime.settings.cookie_secure


def _name(connection: HTTPConnection, state: str) -> str:
    return cookie_name(_NAME + state[:_NAMED_BY], secure=_is_secure(connection))


def _deletion(connection: HTTPConnection, name: str) -> tuple[str, str]:
    cookie = set_cookie(name, "", secure=_is_secure(connection), max_age=timedelta(0))
    return ("set-cookie", cookie)


def _cookies(connection: HTTPConnection) -> Iterator[tuple[str, str]]:
    """Yields the name and the value of each cookie of a flow."""
    start = cookie_name(_NAME, secure=_is_secure(connection))
    for field, header in connection.scope["headers"]:
        if field != b"cookie":
            continue
        for pair in header.decode("latin-1").split(";"):
            name, _, value = pair.strip(" \t").partition("=")
            if name.startswith(start) and len(name) == len(start) + _NAMED_BY:
                yield name, value


def _size_of_cookies(connection: HTTPConnection) -> int:
    return sum(len(value) for name, value in connection.scope["headers"] if name == b"cookie")


def _discards(connection: HTTPConnection, added: int) -> Headers:
    """Returns the headers that delete flows which are over, and the oldest if there are many."""
    valid = list[tuple[datetime, str, int]]()
    deleted, others = set[str](), _size_of_cookies(connection)
    for name, value in _cookies(connection):
        flow, length = _open(connection, name, value), len(f"{name}={value}; ")
        others -= length
        if flow is None:
            deleted.add(name)
        else:
            valid.append((flow.began_at, name, length))
    size, number, room = added + len("; "), 1, min(MAX_BYTES, MAX_HEADER - others)
    for _, name, length in sorted(valid, reverse=True):
        size, number = size + length, number + 1
        if number > MAX_FLOWS or size > room:
            deleted.add(name)
    return tuple(_deletion(connection, name) for name in sorted(deleted))


def _open(connection: HTTPConnection, name: str, value: str) -> Flow | None:
    """Returns the flow of a cookie; None if it is over, or not sealed by us for this name."""
    try:
        encrypted = base64url.decode(value)
        flow = _parse(json.loads(_cipher(connection).decrypt(encrypted, context=name)))
    except (DecryptionFailed, ValueError):
        return None
    return flow if flow.began_at <= now() + _CLOCK_SKEW and now() < flow.expires_at else None


_CLOCK_SKEW = timedelta(minutes=1)
"""How much the clocks of two processes may differ."""


def _serialize(flow: Flow) -> bytes:
    ids = (flow.user_id, flow.session_id)
    return json.dumps(
        [
            flow.provider,
            flow.state,
            flow.nonce,
            flow.verifier,
            flow.intent.value,
            flow.began_at.timestamp(),
            flow.expires_at.timestamp(),
            flow.strategy,
            flow.remember,
            flow.continue_to,
            *(None if it is None else str(it) for it in ids),
            # Last, and not for logins: processes of the release before read these.
            *(() if flow.credentials_version is None else (flow.credentials_version,)),
        ],
        separators=(",", ":"),
    ).encode()


def _parse(values: list[object]) -> Flow:
    """Returns the flow of sealed values. Raises ValueError for those of another version."""
    if len(values) not in {len(_MEMBERS) - 1, len(_MEMBERS)}:
        raise ValueError("a flow of another version")
    found: Mapping[str, object] = dict(zip(_MEMBERS, [*values, None], strict=False))
    times = {name: _time(found[name]) for name in ("began_at", "expires_at")}
    ids = {name: _uuid(found[name]) for name in ("user_id", "session_id")}
    texts = {name: str(found[name]) for name in _TEXTS}
    continue_to, version = found["continue_to"], found["credentials_version"]
    return Flow(
        provider=texts["provider"],
        state=texts["state"],
        nonce=texts["nonce"],
        verifier=texts["verifier"],
        intent=FlowIntent(texts["intent"]),
        began_at=times["began_at"],
        expires_at=times["expires_at"],
        strategy=texts["strategy"],
        remember=found["remember"] is True,
        continue_to=None if continue_to is None else str(continue_to),
        user_id=ids["user_id"],
        session_id=ids["session_id"],
        credentials_version=version if isinstance(version, int) else None,
    )


_TEXTS = ("provider", "state", "nonce", "verifier", "intent", "strategy")
_MEMBERS = (
    *("provider", "state", "nonce", "verifier", "intent", "began_at", "expires_at"),
    *("strategy", "remember", "continue_to", "user_id", "session_id", "credentials_version"),
)


def _time(value: object) -> datetime:
    return datetime.fromtimestamp(float(str(value)), UTC)


def _uuid(value: object) -> UUID | None:
    return None if value is None else UUID(str(value))
