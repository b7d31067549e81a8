"""/console/people/{id}: one account, and what a superuser changes about it.

Each form names its action in a field. A form with one button has no field for a password: if the
login is too old, the answer is a page that asks for what is missing, and sends the form again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from starlette.responses import Response

from authapi.domain.email_address import parse_email, stored_email
from authapi.domain.events import EventFilter
from authapi.domain.identity import Identity
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.domain.username import parse_username
from authapi.errors import InvalidInput, NotFound
from authapi.services.accounts.administration import AccountChanges
from authapi.web.pages import addresses
from authapi.web.pages.account.device_names import device_name
from authapi.web.pages.names import optional_name
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.pages.site import site_of
from authapi.web.routes.pages.account.paging import page_of
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.console.caller import (
    CHANGER,
    FRESH_READER,
    Administrator,
    router_for,
    sent,
    shown,
)
from authapi.web.routes.pages.console.event_views.rows import event_rows
from authapi.web.routes.pages.flow import Sent, invalid, perform

router = router_for("/people")

ROLE: Final = "role "
"""The beginning of the names of the checkboxes of roles, which contain no space."""
_MAX_FIELDS = 1000
"""Fields of the form: one for each role that is ticked."""
_ROWS = 5
"""Logins, and access tokens, on one page."""
_MAX_ROWS = 20
"""Logins, access tokens and events on the page: it stays light, and the lists go on elsewhere."""
_FIELDS: Mapping[str, str] = {**PROOF_FIELDS, "username_taken": "username"}
_PROOFS = ("password", "code")


@dataclass(frozen=True, slots=True)
class ShownLogin:
    """A login, as the page shows it."""

    session: Session
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """A form that was sent, about one account."""

    caller: Administrator
    actor: Identity
    """The superuser, after the proof that the form asks for."""
    user_id: UUID
    sent: Sent


@shown(router, "/{user_id}")
async def show_person(caller: Administrator) -> Response:
    """Show an account."""
    return await _show(caller)


@sent(router, "/{user_id}", max_fields=_MAX_FIELDS)
async def change_person(caller: Administrator, sent: Sent) -> Response:
    """Change an account, or end what lets a person in to it."""
    user_id, name = _user_id(caller), sent.get("action")
    action = _ACTIONS.get(name)
    if action is None:
        return await caller.leads_to(f"people/{user_id}")
    asks = name in BUTTONS and needs_of(caller, CHANGER).is_any
    if asks and not any(proof in sent.fields for proof in _PROOFS):
        return await _ask(caller, sent)

    async def act() -> Response:
        if name == "delete":
            await _check_address(caller, user_id, sent)
        actor = await prove(caller, sent, CHANGER)
        message, number = await action(Change(caller, actor, user_id, sent))
        page = "people" if name == "delete" else f"people/{user_id}"
        return await caller.leads_to(page, message, number)

    show = partial(_ask, caller, sent) if asks else partial(_show, caller, changing=name)
    return await perform(caller.request, sent, act, show, fields=_FIELDS)


async def _save(change: Change) -> tuple[str, int]:
    services, sent = change.caller.services, change.sent
    user = await services.accounts.profiles.find(change.user_id)
    changes = AccountChanges(name=optional_name(sent.get("name")))
    if "username" in sent.fields:
        text = sent.get("username").strip()
        changes["username"] = parse_username(text) if text else None
    if change.user_id != change.actor.user.id:
        wanted = {name.removeprefix(ROLE) for name in sent.fields if name.startswith(ROLE)}
        # A role that is no longer configured cannot be ticked, and stays as long as the others do.
        if wanted != user.roles & services.settings.roles.keys():
            changes["roles"] = frozenset(wanted)
        if (is_superuser := bool(sent.get("superuser"))) != user.is_superuser:
            changes["is_superuser"] = is_superuser
    await services.accounts.administration.change(
        change.user_id,
        changes,
        actor=change.actor,
        is_stale=lambda current: _version(current) != sent.get("version"),
    )
    return "account-saved", 0


async def _set_active(change: Change, *, active: bool) -> tuple[str, int]:
    await change.caller.services.accounts.administration.change(
        change.user_id, {"is_active": active}, actor=change.actor
    )
    return "account-activated" if active else "account-deactivated", 0


async def _end_one(change: Change, *, token: bool) -> tuple[str, int]:
    access, session_id = change.caller.services.accounts.access, _id_in(change.sent)
    end = access.end_token if token else access.end_login
    kind = "token" if token else "device"
    try:
        await end(change.user_id, session_id, actor=change.actor)
    except NotFound:
        return f"{kind}-gone", 0
    return f"{kind}-ended", 0


async def _end_all(change: Change) -> tuple[str, int]:
    administration = change.caller.services.accounts.administration
    return "logins-ended", await administration.end_sessions(change.user_id, actor=change.actor)


async def _reset_factors(change: Change) -> tuple[str, int]:
    administration = change.caller.services.accounts.administration
    had_any = await administration.reset_factors(change.user_id, actor=change.actor)
    return "factors-reset" if had_any else "factors-none", 0


async def _invite_again(change: Change) -> tuple[str, int]:
    administration = change.caller.services.accounts.administration
    await administration.resend_invitation(change.user_id, actor=change.actor)
    return "invited-again", 0


async def _send_reset_link(change: Change) -> tuple[str, int]:
    administration = change.caller.services.accounts.administration
    await administration.send_reset_link(change.user_id, actor=change.actor)
    return "reset-link-sent", 0


async def _delete(change: Change) -> tuple[str, int]:
    await change.caller.services.accounts.deletion.delete(change.user_id, actor=change.actor)
    return "account-deleted", 0


_ACTIONS: Mapping[str, Callable[[Change], Awaitable[tuple[str, int]]]] = {
    "save": _save,
    "activate": partial(_set_active, active=True),
    "deactivate": partial(_set_active, active=False),
    "end-login": partial(_end_one, token=False),
    "end-token": partial(_end_one, token=True),
    "end-all": _end_all,
    "reset-factors": _reset_factors,
    "invite": _invite_again,
    "reset-link": _send_reset_link,
    "delete": _delete,
}
"""What a form does, by the name of its action. Each returns the code of a message, and its number.
"""
BUTTONS = frozenset(_ACTIONS) - {"save"}
"""The actions whose forms have no field for a password."""


async def _check_address(caller: Administrator, user_id: UUID, sent: Sent) -> None:
    """Raises InvalidInput if the address that was typed is not that of the account."""
    user = await caller.services.accounts.profiles.find(user_id)
    try:
        typed = parse_email(sent.get("email").strip(), allow_reserved=True).canonical
    except InvalidInput:
        typed = None
    if typed != stored_email(user.email).canonical:
        raise invalid("email", "wrong_address")


async def _ask(
    caller: Administrator, sent: Sent, form: Form = EMPTY, status: int = 200
) -> Response:
    """Returns the page that asks for what the login lacks, and sends the form again."""
    user = await caller.services.accounts.profiles.find(_user_id(caller))
    if "email" in form.errors:
        return await _show(caller, form, status, changing="delete")
    return caller.render(
        "console-prove",
        status=status,
        form=form,
        person=user,
        action=sent.get("action"),
        values={name: sent.typed.get(name, "") for name in ("action", "id", "email")},
        needs=needs_of(caller, CHANGER),
    )


async def _show(
    caller: Administrator, form: Form = EMPTY, status: int = 200, *, changing: str = ""
) -> Response:
    services, request, user_id = caller.services, caller.request, _user_id(caller)
    user = await services.accounts.profiles.find(user_id)
    logins = page_of(
        request, await services.sessions.list_for_user(user_id), name="logins", size=_ROWS
    )
    tokens = page_of(
        request, await services.tokens.personal.list_of(user_id), name="tokens", size=_ROWS
    )
    limit = _MAX_ROWS - len(logins.items) - len(tokens.items)
    events = await services.audit.search(EventFilter(user_id=user_id), limit=limit)
    invited = await services.accounts.access.invited_among([user])
    sees_factors = not needs_of(caller, FRESH_READER).is_any
    values = {"name": user.name or "", "username": user.username or "", **form.values}
    return caller.render(
        "console-person",
        status=status,
        form=Form(values, form.errors, form.problem),
        kept=("logins", "tokens"),
        changing=changing,
        person=user,
        is_own=user_id == caller.identity.user.id,
        version=_version(user),
        is_invited=user_id in invited,
        identifier=services.settings.login_identifier,
        sends_mail=services.settings.sends_mail,
        roles={name: name in user.roles for name in services.settings.roles},
        old_roles=sorted(user.roles - services.settings.roles.keys()),
        role_name=ROLE,
        needs=needs_of(caller, CHANGER),
        prove=addresses.page(request, "prove", next=addresses.visible_path(request)),
        logins=_logins(caller, logins.items),
        more_logins=(logins.newer, logins.older),
        tokens=tokens.items,
        more_tokens=(tokens.newer, tokens.older),
        factors=await services.factors.changes.overview(user) if sees_factors else None,
        events=await event_rows(caller, events),
    )


def _logins(caller: Administrator, sessions: Sequence[Session]) -> Sequence[ShownLogin]:
    site, language = site_of(caller.request), language_of(caller.request)
    return [
        ShownLogin(item, device_name(site, language, item.client.user_agent)) for item in sessions
    ]


def _user_id(caller: Administrator) -> UUID:
    return _parsed(caller.request.path_params["user_id"])


def _id_in(sent: Sent) -> UUID:
    return _parsed(sent.get("id"))


def _parsed(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound from None


def _version(user: User) -> str:
    # Each change of an account has a later time.
    return user.updated_at.isoformat()
