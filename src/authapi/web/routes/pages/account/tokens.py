"""/account/tokens: the personal access tokens of the account, and the form for a new one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from authapi.clock import now
from authapi.crypto.secrets import new_secret
from authapi.domain.display_names import is_display_name
from authapi.domain.scopes import supported_scopes
from authapi.domain.session import Session
from authapi.errors import FormAlreadySent, MalformedRequest, NotFound
from authapi.web.pages.reader import language_of
from authapi.web.pages.rendering import EMPTY, Form
from authapi.web.pages.site import site_of
from authapi.web.resolver import identity_if_configured
from authapi.web.routes.pages.account.caller import Caller, sent, shown
from authapi.web.routes.pages.account.paging import page_of
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.flow import Sent, invalid, perform
from authapi.web.routing import AuthAPIRoute
from authapi.web.schemas.token import MAX_SCOPES

router = APIRouter(
    route_class=AuthAPIRoute, include_in_schema=False, prefix="/account/tokens", tags=["pages"]
)

_OWNER = identity_if_configured("session", writes="uncounted")
_MAKER = identity_if_configured("session", fresh=True, mfa="enrolled", writes="by_account")
_MAX_NAME_LENGTH = 100
_MAX_FORM_LENGTH = 64
_MAX_FIELDS = 1000
"""Fields of the form: one for each scope that is ticked."""
_SCOPE = "scope "
"""The beginning of the names of the checkboxes. No scope contains a space."""
_PRESETS = (7, 30, 90, 365)
_DEFAULT = 90
"""The days that the form offers, if the settings allow as many."""
_DATE = "date"
_SOON = timedelta(days=7)
"""The age after which an unused token is marked, and the time before its end."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, as the page shows it."""

    session: Session
    last_used_at: datetime | None
    is_forgotten: bool
    """Whether it was not used within its first days."""
    ends_soon: bool


@shown(router, "")
async def show_tokens(caller: Caller) -> Response:
    """List the tokens, the newest first."""
    _require_strategy(caller)
    return await _show(caller)


@sent(router, "")
async def end_token(caller: Caller, sent: Sent) -> Response:
    """End one token."""

    async def act() -> Response:
        identity = await caller.passes(_OWNER)
        try:
            await caller.services.tokens.personal.end_own(_id_of(sent), identity)
        except NotFound:
            return await caller.leads_to("tokens", "token-gone")
        return await caller.leads_to("tokens", "token-ended")

    return await perform(caller.request, sent, act, partial(_show, caller))


@shown(router, "/new")
async def show_new_token(caller: Caller) -> Response:
    """Show the form for a new token."""
    _require_strategy(caller)
    return await _show_form(caller)


@sent(router, "/new", max_fields=_MAX_FIELDS)
async def make_token(caller: Caller, sent: Sent) -> Response:
    """Make a token, and show its secret.

    The response is no redirect, because the secret is stored nowhere. The form makes one token, so
    a browser that sends it again, as reloading the page does, makes no other.
    """

    async def act() -> Response:
        _require_strategy(caller)
        name, lifetime, scopes = _name(sent), _lifetime(caller, sent), _scopes(sent)
        form = sent.get("form")
        if not 0 < len(form) <= _MAX_FORM_LENGTH:
            raise MalformedRequest
        identity = await prove(caller, sent, _MAKER)
        try:
            token, secret = await caller.services.tokens.personal.create(
                identity, name=name, scopes=scopes, lifetime=lifetime, form=form
            )
        except FormAlreadySent:
            return await caller.leads_to("tokens", "token-again")
        return caller.render(
            "token-made", token=token, secret=secret, issuer=caller.services.settings.issuer
        )

    return await perform(
        caller.request,
        sent,
        act,
        partial(_show_form, caller),
        fields=PROOF_FIELDS,
    )


def _require_strategy(caller: Caller) -> None:
    """Raises NotFound if the service accepts no tokens."""
    if "token" not in caller.runtime.registry:
        raise NotFound


def _id_of(sent: Sent) -> UUID:
    try:
        return UUID(sent.get("id"))
    except ValueError:
        raise NotFound from None


def _name(sent: Sent) -> str:
    name = sent.get("name").strip()
    if not name:
        raise invalid("name", "name_empty")
    if len(name) > _MAX_NAME_LENGTH or not is_display_name(name):
        raise invalid("name", "token_name_invalid")
    return name


def _scopes(sent: Sent) -> Sequence[str]:
    scopes = [name.removeprefix(_SCOPE) for name in sent.fields if name.startswith(_SCOPE)]
    if len(scopes) > MAX_SCOPES:
        raise invalid("scopes", "too_many_scopes")
    return scopes


def _lifetime(caller: Caller, sent: Sent) -> timedelta:
    """Returns the lifetime that was chosen. Raises InvalidInput for one that is not offered."""
    chosen, longest = sent.get("expires"), _longest(caller)
    if chosen == _DATE:
        try:
            day = date.fromisoformat(sent.get(_DATE))
            lifetime = _end_of(day) - now()
        except (ValueError, OverflowError):
            raise invalid("expires_in", "expires_in_invalid") from None
    else:
        days = next((days for days in _PRESETS if str(days) == chosen), 0)
        lifetime = timedelta(days=days)
    if not timedelta(0) < lifetime <= longest:
        raise invalid("expires_in", "expires_in_invalid")
    return lifetime


def _end_of(day: date) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(days=1)


def _longest(caller: Caller) -> timedelta:
    longest: timedelta = caller.services.settings.personal_token_max_lifetime
    return longest


async def _show(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    found = await caller.services.tokens.personal.list_of(caller.identity.user.id)
    page = page_of(caller.request, found)
    return caller.render(
        "tokens",
        status=status,
        form=form,
        tokens=[_token(session) for session in page.items],
        newer=page.newer,
        older=page.older,
    )


def _token(session: Session) -> Token:
    at = now()
    is_used = session.last_seen_at > session.created_at
    return Token(
        session,
        session.last_seen_at if is_used else None,
        is_forgotten=not is_used and at - session.created_at > _SOON,
        ends_soon=session.expires_at - at < _SOON,
    )


async def _show_form(caller: Caller, form: Form = EMPTY, status: int = 200) -> Response:
    today, longest = now(), _longest(caller)
    presets = [days for days in _PRESETS if timedelta(days=days) <= longest]
    last = (today + longest).date() - timedelta(days=1)
    default = max((days for days in presets if days <= _DEFAULT), default=_DATE)
    values = {"expires": str(default), _DATE: last.isoformat(), **form.values}
    return caller.render(
        "token-new",
        status=status,
        form=Form(values, form.errors, form.problem),
        form_id=new_secret(),
        presets=presets,
        first_day=today.date().isoformat(),
        last_day=last.isoformat(),
        scopes=await _grantable(caller),
        scope_name=_SCOPE,
        needs=needs_of(caller, _MAKER),
    )


async def _grantable(caller: Caller) -> Mapping[str, str]:
    """Returns the scopes that the caller can give to a token, with their descriptions.

    A scope of the application has none.
    """
    site, language = site_of(caller.request), language_of(caller.request)
    texts = supported_scopes(caller.services.settings)
    names = await caller.services.tokens.personal.grantable_scopes(caller.identity)
    # The description of an operator is the id of a text only if the operator has translated it.
    return {
        name: site.text(text, language) if (text := texts.get(name)) else ""
        for name in sorted(names)
    }
