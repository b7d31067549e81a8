"""The lists of `authapi sessions` and `authapi tokens`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from authapi.cli.services import find_user, parse_id, run_with_services
from authapi.cli.terminal.tables import Continuation, print_list
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.errors import ConfigurationError
from authapi.services import Services
from authapi.services.sessions.listing import list_live

_LIMIT = 100

BeforeOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Start before this one; for all users only.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="For all users only; by default 100.")
]


def print_live(
    user: str | None,
    *,
    personal: bool | None,
    before: str | None,
    limit: int | None,
    empty: str,
    plain: bool,
    as_json: bool,
) -> None:
    """Prints the live sessions of a user, or of all users with their owners, newest first.

    With `personal`, only personal access tokens; None for logins too. The list of all users has at
    most `limit` rows or 100, which come after the one with the id `before`; that of one user is
    complete. Raises ConfigurationError for a user with `before` or `limit`.
    """
    if user is None:
        _print_all(
            personal=personal,
            before=before,
            limit=limit or _LIMIT,
            empty=empty,
            plain=plain,
            as_json=as_json,
        )
    elif before is not None or limit is not None:
        raise ConfigurationError("--before and --limit are for the list of all users")
    else:
        _print_own(user, logins=not personal, empty=empty, plain=plain, as_json=as_json)


def _print_own(user: str, *, logins: bool, empty: str, plain: bool, as_json: bool) -> None:

    async def work(services: Services) -> tuple[list[Session], list[dict[str, object]]]:
        owner = await find_user(services, user)
        found = [*await services.sessions.list_for_user(owner.id)] if logins else []
        found += await services.tokens.personal.list_of(owner.id)
        return found, await _rows(services, [(session, owner) for session in found])

    found, rows = run_with_services(work, keys="locked")
    items = [_token_as_json(token) for token in found] if as_json and not logins else None
    print_list(rows, empty=empty, as_json=as_json, plain=plain, items=items)


def _print_all(
    *,
    personal: bool | None,
    before: str | None,
    limit: int,
    empty: str,
    plain: bool,
    as_json: bool,
) -> None:
    start = None if before is None else parse_id(before)

    async def work(
        services: Services,
    ) -> tuple[Sequence[tuple[Session, User]], list[dict[str, object]]]:
        # One session more tells whether the list goes on.
        found = await list_live(services.database, personal=personal, before=start, limit=limit + 1)
        rows = await _rows(services, found)
        return found, [
            {"id": row.pop("id"), "user_id": owner.id, "email": owner.email, **row}
            for row, (_, owner) in zip(rows, found, strict=True)
        ]

    found, rows = run_with_services(work, keys="locked")
    more, items = None, None
    if len(rows) > limit:
        last = str(rows[limit - 1]["id"])
        more = Continuation("--before", last, is_later=start is not None)
    if as_json and personal:
        items = [
            {**_token_as_json(token), "user_id": owner.id, "email": owner.email}
            for token, owner in found[:limit]
        ]
    print_list(rows[:limit], empty=empty, as_json=as_json, plain=plain, more=more, items=items)


def _token_as_json(token: Session) -> dict[str, object]:
    """Returns a personal access token as the API describes it to its owner."""
    from authapi.web.schemas.token import PersonalTokenOut  # pydantic models

    return PersonalTokenOut.of(token).model_dump(mode="json")


async def _rows(
    services: Services, found: Sequence[tuple[Session, User]]
) -> list[dict[str, object]]:
    rows = []
    for session, owner in found:
        own = await services.hooks.own_scopes(owner)
        scopes = effective_scopes(session.scopes, owner, services.settings, own, amr=session.amr)
        rows.append(_row(session, scopes))
    return rows


def _row(session: Session, scopes: frozenset[str]) -> dict[str, object]:
    return {
        "id": session.id,
        "kind": session.kind.value,
        "name": session.name,
        "scopes": sorted(scopes),
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
        "idle_expires_at": session.idle_expires_at,
        "expires_at": session.expires_at,
        "ip": session.client.ip,
        "user_agent": session.client.user_agent,
    }
