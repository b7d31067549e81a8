"""`authapi users`: accounts."""

import getpass
import sys
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from authapi.cli.accounts.importing import import_users
from authapi.cli.accounts.sessions import held_by
from authapi.cli.confirming import YesOption, confirm
from authapi.cli.running import (
    JSONOption,
    UserArgument,
    find_user,
    parse_name,
    print_one,
    print_rows,
    with_services,
)
from authapi.errors import ConfigurationError, EmailTaken
from authapi.identity import User
from authapi.services import Services
from authapi.services.accounts.administration import Changes
from authapi.services.accounts.cursors import cursor_behind
from authapi.services.addresses import email_prefix, parse_email
from authapi.storage.tables.users import UserFilter, UserOrder

app = typer.Typer(help="Accounts.", no_args_is_help=True)
app.command("import")(import_users)


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    name: Annotated[str | None, typer.Option(help="What to call them.")] = None,
    superuser: Annotated[bool, typer.Option("--superuser", help="May do everything.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Make an account. The password is asked, or read from standard input; never an argument."""
    checked = None if name is None else parse_name(name, longest=200)
    password = _read_password()

    async def work(services: Services) -> User:
        address = parse_email(email, loc=("email",))
        try:
            return await services.accounts.create(
                address, password, name=checked, is_superuser=superuser
            )
        except EmailTaken:
            raise ConfigurationError(f"there is a user {email} already") from None

    print_one(_row(with_services(work)), as_json=as_json)


@app.command("list")
def list_users(
    email: Annotated[str | None, typer.Option(help="What the address begins with.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive")] = None,
    confirmed: Annotated[bool | None, typer.Option("--confirmed/--unconfirmed")] = None,
    superuser: Annotated[bool | None, typer.Option("--superuser/--no-superuser")] = None,
    role: Annotated[str | None, typer.Option(help="Who has this role.")] = None,
    sort: Annotated[UserOrder, typer.Option(help="A minus is the other direction.")] = (
        UserOrder.OLDEST
    ),
    after: Annotated[
        str | None, typer.Option(metavar="USER", help="Begin behind this address or id.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JSONOption = False,
) -> None:
    """List accounts, the oldest first. Filters are met all together."""
    prefix = None if email is None else email_prefix(parse_name(email, longest=254))
    wanted = UserFilter(prefix, active, confirmed, superuser, role)

    async def work(services: Services) -> Sequence[User]:
        behind = None
        if after is not None:
            behind = cursor_behind(await find_user(services, after), sort)
        page = await services.administration.page(wanted, order=sort, after=behind, limit=limit)
        return page.items

    print_rows([_row(user) for user in with_services(work)], as_json=as_json)


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    name: Annotated[str | None, typer.Option(help="What to call them.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Make an account without a password, and invite its owner by mail to choose one.

    The mail is sent by the running service.
    """
    checked = None if name is None else parse_name(name, longest=200)

    async def work(services: Services) -> User:
        address = parse_email(email, loc=("email",))
        try:
            return await services.administration.invite(address, name=checked, roles=role or ())
        except EmailTaken:
            raise ConfigurationError(f"there is a user {email} already") from None

    print_one(_row(with_services(work)), as_json=as_json)


@app.command()
def invite_again(user: UserArgument, as_json: JSONOption = False) -> None:
    """Send another invitation to who has not accepted the first; that one ends."""

    async def work(services: Services) -> User:
        found = await find_user(services, user)
        return await services.administration.invite_again(found.id)

    print_one(_row(with_services(work)), as_json=as_json)


@app.command()
def roles(
    user: UserArgument,
    role: Annotated[list[str] | None, typer.Argument(help="Names; none takes all away.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Give an account these roles, and no others. They count at its next request."""
    changes = Changes(roles=frozenset(role or ()))
    print_one(_row(_change(user, changes)), as_json=as_json)


@app.command()
def superuser(
    user: UserArgument,
    off: Annotated[bool, typer.Option("--off", help="Not any more.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Make an account a superuser's. The last one that is active stays one."""
    print_one(_row(_change(user, Changes(is_superuser=not off))), as_json=as_json)


@app.command()
def delete(user: UserArgument, yes: YesOption = False) -> None:
    """Remove an account and everything that belongs to it. Its id is never used again."""
    if not yes:
        held = with_services(partial(held_by, text=user))
        confirm(f"This removes the account with {held}, and cannot be undone")

    async def work(services: Services) -> None:
        await services.administration.delete((await find_user(services, user)).id)

    with_services(work)
    print("Deleted.")


@app.command()
def show(user: UserArgument, as_json: JSONOption = False) -> None:
    """Show one account."""
    print_one(_row(with_services(lambda services: find_user(services, user))), as_json=as_json)


@app.command()
def deactivate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Deactivate an account: all its sessions and tokens end now."""
    print_one(_row(_change(user, Changes(is_active=False))), as_json=as_json)


@app.command()
def activate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Activate an account again. Its old sessions stay dead."""
    print_one(_row(_change(user, Changes(is_active=True))), as_json=as_json)


@app.command("set-password")
def set_password(user: UserArgument) -> None:
    """Give an account another password: all its sessions and tokens end now."""
    password = _read_password()

    async def work(services: Services) -> None:
        found = await find_user(services, user)
        await services.accounts.set_password(found.id, password)

    with_services(work)
    print("The password is set; all sessions and tokens have ended.")


def _change(text: str, changes: Changes) -> User:
    async def work(services: Services) -> User:
        found = await find_user(services, text)
        return await services.administration.change(found.id, changes)

    return with_services(work)


def _read_password() -> str:
    # Arguments are seen by every process of the machine and kept in the shell's history.
    if not sys.stdin.isatty():
        try:
            # As UTF-8 whatever the locale says, for that is what the API reads.
            line = sys.stdin.buffer.readline().rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError("the password is not UTF-8") from None
        if "\0" in line:
            raise ConfigurationError("the password holds a NUL, which the API does not take")
        return line
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ConfigurationError("the two passwords differ")
    return password


def _row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "active": user.is_active,
        "superuser": user.is_superuser,
        "roles": sorted(user.roles),
        "email_confirmed_at": user.email_confirmed_at,
        "created_at": user.created_at,
    }
