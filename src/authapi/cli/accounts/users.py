"""`authapi users`: accounts."""

import getpass
import sys
from typing import Annotated

import typer

from authapi.cli.running import (
    JSONOption,
    UserArgument,
    find_user,
    parse_id,
    parse_name,
    print_one,
    print_rows,
    with_services,
)
from authapi.errors import ConfigurationError, EmailTaken
from authapi.identity import User
from authapi.services import Services
from authapi.services.addresses import parse_email

app = typer.Typer(help="Accounts.", no_args_is_help=True)


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
    after: Annotated[str | None, typer.Option(help="Begin behind this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    as_json: JSONOption = False,
) -> None:
    """List accounts, the oldest first."""
    start = None if after is None else parse_id(after)
    found = with_services(lambda services: services.accounts.page(after=start, limit=limit))
    print_rows([_row(user) for user in found], as_json=as_json)


@app.command()
def show(user: UserArgument, as_json: JSONOption = False) -> None:
    """Show one account."""
    print_one(_row(with_services(lambda services: find_user(services, user))), as_json=as_json)


@app.command()
def deactivate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Deactivate an account: all its sessions and tokens end now."""
    print_one(_row(_set_active(user, active=False)), as_json=as_json)


@app.command()
def activate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Activate an account again. Its old sessions stay dead."""
    print_one(_row(_set_active(user, active=True)), as_json=as_json)


@app.command("set-password")
def set_password(user: UserArgument) -> None:
    """Give an account another password: all its sessions and tokens end now."""
    password = _read_password()

    async def work(services: Services) -> None:
        found = await find_user(services, user)
        await services.accounts.set_password(found.id, password)

    with_services(work)
    print("The password is set; all sessions and tokens have ended.")


def _set_active(text: str, *, active: bool) -> User:
    async def work(services: Services) -> User:
        return await services.accounts.set_active((await find_user(services, text)).id, active)

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
        "email_confirmed_at": user.email_confirmed_at,
        "created_at": user.created_at,
    }
