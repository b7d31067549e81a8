"""The lists of `authapi sessions` and `authapi tokens`."""

from collections.abc import Sequence
from typing import Annotated

import typer

from authapi.cli.services import find_user, parse_id, run_with_services
from authapi.cli.terminal.tables import Continuation, print_list
from authapi.domain.scopes import effective_scopes
from authapi.domain.session import Session
from authapi.domain.user import User
from authapi.services import Services
from authapi.services.sessions.listing import list_live

BeforeOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Start before this one; for all users only.")
]
LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="For all users only.")]


def list_of_user(user: str, *, logins: bool, empty: str, plain: bool, as_json: bool) -> None:
    """Prints the live personal access tokens of a user, with `logins` those too."""

    async def work(services: Services) -> list[dict[str, object]]:
        owner = await find_user(services, user)
        found = [*await services.sessions.list_for_user(owner.id)] if logins else []
        found += await services.tokens.personal.list_of(owner.id)
        return await _rows(services, [(session, owner) for session in found])

    rows = run_with_services(work, keys="locked")
    print_list(rows, empty=empty, as_json=as_json, plain=plain)


def list_of_all(
    *, personal: bool | None, before: str | None, limit: int, empty: str, plain: bool, as_json: bool
) -> None:
    """Prints the live sessions of all users with their owners."""
    start = None if before is None else parse_id(before)

    async def work(services: Services) -> list[dict[str, object]]:
        # One session more tells whether the list goes on.
        found = await list_live(services.database, personal=personal, before=start, limit=limit + 1)
        rows = await _rows(services, found)
        return [
            {"id": row.pop("id"), "user_id": owner.id, "email": owner.email, **row}
            for row, (_, owner) in zip(rows, found, strict=True)
        ]

    rows = run_with_services(work, keys="locked")
    more = Continuation("--before", str(rows[limit - 1]["id"])) if len(rows) > limit else None
    print_list(rows[:limit], empty=empty, as_json=as_json, plain=plain, more=more)


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
