"""/console/people/new: the form that invites several people at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

from starlette.responses import Response

from authapi.domain.email_address import parse_email
from authapi.domain.identity import Identity
from authapi.domain.username import Username, parse_username
from authapi.errors import (
    EmailTaken,
    InsufficientAuthentication,
    InvalidCredential,
    InvalidInput,
    MailDisabled,
    Refusal,
    SuperuserRequired,
)
from authapi.web.pages.names import optional_name
from authapi.web.pages.rendering import EMPTY, Form, sentence, single_line
from authapi.web.problems import status_of
from authapi.web.routes.pages.account.sudo import PROOF_FIELDS, needs_of, prove
from authapi.web.routes.pages.console.caller import (
    CHANGER,
    Administrator,
    router_for,
    sent,
    shown,
)
from authapi.web.routes.pages.console.person import ROLE
from authapi.web.routes.pages.flow import Sent, invalid, perform

router = router_for("/people/new")

MAX_ADDRESSES: Final = 50
_MAX_FIELDS = 1000
"""Fields of the form: one for each role that is ticked."""
_SEPARATORS = re.compile(r"[\s,;]+")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one line of the form."""

    text: str
    """The line, as it was typed."""
    user_id: UUID | None = None
    """The account that was invited; None if it was not."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The invitations that a form asks for."""

    addresses: Sequence[str]
    name: str | None
    username: Username | None
    roles: Sequence[str]


@shown(router, "")
async def show_invite(caller: Administrator) -> Response:
    """Show the form."""
    return await _show(caller, Sent({}))


@sent(router, "", max_fields=_MAX_FIELDS)
async def invite(caller: Administrator, sent: Sent) -> Response:
    """Invite the people, and show what became of each line.

    The response is no redirect, because the results are stored nowhere. A form that is sent again
    invites no person twice: an address has one account.
    """

    async def act() -> Response:
        if not caller.services.settings.sends_mail:
            raise MailDisabled
        wanted = _wanted(sent)
        actor = await prove(caller, sent, CHANGER)
        results = [await _invite(caller, actor, text, wanted) for text in wanted.addresses]
        return caller.render("console-invited", results=results)

    show = partial(_show, caller, sent)
    fields = {**PROOF_FIELDS, "username_taken": "username"}
    return await perform(caller.request, sent, act, show, fields=fields)


async def _invite(caller: Administrator, actor: Identity, text: str, wanted: Wanted) -> Result:
    shown_text = single_line(text)
    try:
        address = parse_email(
            text, allow_reserved=caller.services.settings.allow_reserved_addresses
        )
        user = await caller.services.accounts.administration.invite(
            address,
            name=wanted.name,
            username=wanted.username,
            roles=wanted.roles,
            actor=actor,
        )
    except (InsufficientAuthentication, InvalidCredential, SuperuserRequired):
        raise  # not about this address
    except EmailTaken:
        return Result(shown_text, problem=sentence(caller.request, "account_exists"))
    except InvalidInput as refusal:
        return Result(shown_text, problem=sentence(caller.request, refusal.errors[0].code))
    except Refusal as refusal:
        code, status = getattr(refusal, "code", "refused"), status_of(refusal)
        return Result(shown_text, problem=sentence(caller.request, code, status))
    return Result(shown_text, user.id)


def _wanted(sent: Sent) -> Wanted:
    """Returns what the form asks for. Raises InvalidInput if the fields do not fit together."""
    addresses = [text for text in _SEPARATORS.split(sent.get("emails")) if text]
    if not addresses:
        raise invalid("emails", "addresses_missing")
    if len(addresses) > MAX_ADDRESSES:
        raise invalid("emails", "too_many_addresses")
    username = sent.get("username").strip()
    for name, value in (("name", sent.get("name").strip()), ("username", username)):
        if value and len(addresses) > 1:
            raise invalid(name, "name_for_one")
    return Wanted(
        addresses,
        optional_name(sent.get("name")),
        parse_username(username) if username else None,
        [name.removeprefix(ROLE) for name in sent.fields if name.startswith(ROLE)],
    )


async def _show(
    caller: Administrator, sent: Sent, form: Form = EMPTY, status: int = 200
) -> Response:
    settings = caller.services.settings
    lines = [single_line(line) for line in sent.get("emails").splitlines()]
    values = {**form.values, "emails": "\n".join(lines)}
    return caller.render(
        "console-invite",
        status=status,
        form=Form(values, form.errors, form.problem),
        sends_mail=settings.sends_mail,
        has_usernames=settings.login_identifier != "email",
        roles={name: f"{ROLE}{name}" in sent.fields for name in settings.roles},
        role_name=ROLE,
        needs=needs_of(caller, CHANGER),
    )
