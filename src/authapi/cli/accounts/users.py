"""`authapi users`: manages accounts."""

import getpass
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from authapi.cli.accounts.exporting import export_users
from authapi.cli.accounts.factors import reset_factors, show_factors
from authapi.cli.accounts.importing import import_users
from authapi.cli.accounts.sessions import describe_sessions
from authapi.cli.application import complete_role
from authapi.cli.services import UserArgument, find_user, parse_name, run_with_services
from authapi.cli.terminal.options import JSONOption, PlainOption, YesOption
from authapi.cli.terminal.questions import confirm
from authapi.cli.terminal.tables import Continuation, print_list, print_one
from authapi.crypto import strict_json
from authapi.domain.email_address import canonical_prefix, parse_email
from authapi.domain.federation.person import LinkedIdentity
from authapi.domain.user import User, UserFilter, UserOrder
from authapi.domain.username import Username, canonical_username_prefix, parse_username
from authapi.errors import ConfigurationError, EmailTaken, InvalidInput, UsernameTaken
from authapi.services import Services
from authapi.services.accounts.administration import AccountChanges
from authapi.services.cursors import encode_cursor
from authapi.services.own_columns import ProfileInput

UsernameOption = Annotated[str | None, typer.Option(help="User name, to log in with.")]
ProfileOption = Annotated[
    str | None, typer.Option(metavar="JSON", help="Own columns; needs authapi --app.")
]

app = typer.Typer(help="Manage accounts.", no_args_is_help=True)
app.command("import")(import_users)
app.command("export")(export_users)
app.command("factors")(show_factors)
app.command("reset-factors")(reset_factors)


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    username: UsernameOption = None,
    superuser: Annotated[bool, typer.Option("--superuser", help="Create a superuser.")] = False,
    profile: ProfileOption = None,
    as_json: JSONOption = False,
) -> None:
    """Create an account. The password is prompted for, or read from standard input."""
    display_name = None if name is None else parse_name(name, max_length=200)
    password = _read_password()

    async def work(services: Services) -> User:
        address = parse_email(
            email, loc=("email",), allow_reserved=services.settings.allow_reserved_addresses
        )
        with _told_if_taken(username, email):
            return await services.accounts.registration.create(
                address,
                password,
                name=display_name,
                username=_parse_username(username),
                is_superuser=superuser,
                profile=_parse_profile(services, profile),
            )

    _print(run_with_services(work), as_json=as_json)


@app.command("list")
def list_users(
    email: Annotated[str | None, typer.Option(help="Prefix of the e-mail address.")] = None,
    username: Annotated[str | None, typer.Option(help="Prefix of the user name.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive")] = None,
    confirmed: Annotated[bool | None, typer.Option("--confirmed/--unconfirmed")] = None,
    superuser: Annotated[bool | None, typer.Option("--superuser/--no-superuser")] = None,
    role: Annotated[
        str | None, typer.Option(help="Role of the account.", autocompletion=complete_role)
    ] = None,
    sort: Annotated[UserOrder, typer.Option(help="Order; a minus reverses it.")] = (
        UserOrder.OLDEST
    ),
    after: Annotated[
        str | None, typer.Option(metavar="USER", help="Start after this user.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    plain: PlainOption = False,
    as_json: JSONOption = False,
) -> None:
    """List accounts, oldest first. Filters are combined with AND."""
    prefix = None if email is None else canonical_prefix(parse_name(email, max_length=254))
    name = None if username is None else canonical_username_prefix(username)
    filters = UserFilter(prefix, active, confirmed, superuser, role, username_prefix=name)

    async def work(services: Services) -> tuple[list[User], int | None]:
        cursor = None
        if after is not None:
            cursor = encode_cursor(await find_user(services, after), sort)
        # One account more tells whether the list goes on.
        page = await services.accounts.administration.page(
            filters, order=sort, after=cursor, limit=limit + 1
        )
        total = None
        if len(page.items) > limit and filters == UserFilter():
            total = (await services.statistics.counts()).accounts.total
        return list(page.items), total

    found, total = run_with_services(work, keys="locked")
    users, more = found[:limit], None
    if len(found) > limit:
        last = str(users[-1].id if as_json else users[-1].email)
        more = Continuation("--after", last, total, is_later=after is not None)
    print_list(
        [_row(user) for user in users],
        empty="No accounts match.",
        as_json=as_json,
        plain=plain,
        more=more,
        items=[_as_json(user) for user in users] if as_json else None,
    )


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    name: Annotated[str | None, typer.Option(help="Display name.")] = None,
    username: UsernameOption = None,
    role: Annotated[
        list[str] | None, typer.Option(help="Repeatable.", autocompletion=complete_role)
    ] = None,
    profile: ProfileOption = None,
    as_json: JSONOption = False,
) -> None:
    """Create an account without a password, and invite its owner by mail to set one.

    The running service sends the mail.
    """
    display_name = None if name is None else parse_name(name, max_length=200)

    async def work(services: Services) -> User:
        address = parse_email(
            email, loc=("email",), allow_reserved=services.settings.allow_reserved_addresses
        )
        with _told_if_taken(username, email):
            return await services.accounts.administration.invite(
                address,
                name=display_name,
                username=_parse_username(username),
                roles=role or (),
                profile=_parse_profile(services, profile),
            )

    _print(run_with_services(work), as_json=as_json)


@app.command()
def invite_again(user: UserArgument, as_json: JSONOption = False) -> None:
    """Send another invitation to a user who has not accepted one. The earlier one expires."""

    async def work(services: Services) -> User:
        target = await find_user(services, user)
        return await services.accounts.administration.resend_invitation(target.id)

    _print(run_with_services(work), as_json=as_json)


@app.command()
def reset_link(user: UserArgument, as_json: JSONOption = False) -> None:
    """Send the owner of an account a link to choose a new password.

    The running service sends the mail. The password stays until the owner uses the link.
    """

    async def work(services: Services) -> User:
        target = await find_user(services, user)
        await services.accounts.administration.send_reset_link(target.id)
        return target

    _print(run_with_services(work), as_json=as_json)


@app.command("username")
def set_username(
    user: UserArgument,
    username: Annotated[
        str | None, typer.Argument(help="User name; without one, it is removed.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Change the user name of an account. Its old name stays reserved for it for 90 days."""

    async def work(services: Services) -> User:
        target, name = await find_user(services, user), _parse_username(username)
        changes = AccountChanges(username=name)
        with _told_if_taken(username):
            return await services.accounts.administration.change(target.id, changes)

    _print(run_with_services(work), as_json=as_json)


@app.command()
def roles(
    user: UserArgument,
    role: Annotated[
        list[str] | None,
        typer.Argument(
            help="Role names; without any, all are removed.", autocompletion=complete_role
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Replace the roles of an account. They apply from its next request on."""
    changes = AccountChanges(roles=frozenset(role or ()))
    _print(_change(user, changes), as_json=as_json)


@app.command()
def superuser(
    user: UserArgument,
    off: Annotated[bool, typer.Option("--off", help="Revoke superuser.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Grant superuser. The last active superuser cannot be demoted."""
    _print(_change(user, AccountChanges(is_superuser=not off)), as_json=as_json)


@app.command()
def delete(user: UserArgument, yes: YesOption = False) -> None:
    """Delete an account and all its data. Its id is never reused."""
    if not yes:
        sessions = run_with_services(partial(describe_sessions, text=user), keys="locked")
        confirm(f"This deletes the account with {sessions} permanently")

    async def work(services: Services) -> None:
        await services.accounts.deletion.delete((await find_user(services, user)).id)

    run_with_services(work)
    print("Deleted.")


@app.command()
def show(user: UserArgument, as_json: JSONOption = False) -> None:
    """Show one account, and who may log in to it at providers."""

    async def work(services: Services) -> tuple[User, Sequence[LinkedIdentity]]:
        found = await find_user(services, user)
        return found, await services.federation.links.list_of(found.id)

    found, identities = run_with_services(work, keys="locked")
    shown = _as_json(found) if as_json else _row(found)
    print_one(shown | {"identities": _identities(identities, as_json=as_json)}, as_json=as_json)


@app.command()
def deactivate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Deactivate an account. All its sessions and tokens end now."""
    _print(_change(user, AccountChanges(is_active=False)), as_json=as_json)


@app.command()
def activate(user: UserArgument, as_json: JSONOption = False) -> None:
    """Reactivate an account. Its old sessions stay ended."""
    _print(_change(user, AccountChanges(is_active=True)), as_json=as_json)


@app.command("set-password")
def set_password(user: UserArgument) -> None:
    """Set the password of an account. All its sessions and tokens end now."""
    password = _read_password()

    async def work(services: Services) -> None:
        target = await find_user(services, user)
        await services.accounts.passwords.set(target.id, password)

    run_with_services(work)
    print("Password set. All sessions and tokens have ended.")


def _change(text: str, changes: AccountChanges) -> User:
    async def work(services: Services) -> User:
        target = await find_user(services, text)
        return await services.accounts.administration.change(target.id, changes)

    return run_with_services(work)


def _parse_username(text: str | None) -> Username | None:
    return None if text is None else parse_username(text, loc=("username",))


def _parse_profile(services: Services, text: str | None) -> ProfileInput | None:
    """Returns the own columns of a new account. Raises ConfigurationError if they are refused."""
    if text is None:
        return None
    if not services.own_columns.is_declared:
        raise ConfigurationError("--profile needs an application with own columns: authapi --app")
    try:
        members = strict_json.loads(text.encode())
    except ValueError:
        raise ConfigurationError("--profile is not JSON, or has a member twice") from None
    try:
        return services.own_columns.parse(members)
    except InvalidInput as refusal:
        details = [
            ": ".join((".".join(map(str, error.loc[2:])) or "JSON", error.message))
            for error in refusal.errors
        ]
        raise ConfigurationError(f"--profile: {'; '.join(details)}") from None


@contextmanager
def _told_if_taken(username: str | None, email: str | None = None) -> Iterator[None]:
    """Raises ConfigurationError if the block finds that another account has one of these."""
    try:
        yield
    except EmailTaken:
        raise ConfigurationError(f"the e-mail address {email} is in use") from None
    except UsernameTaken:
        raise ConfigurationError(
            f"the user name {username} is taken: another account has it, or had it until recently"
        ) from None


def _read_password() -> str:
    # Arguments are visible to other processes and kept in the history of the shell.
    if not sys.stdin.isatty():
        try:
            # UTF-8 regardless of the locale, as in the API.
            line = sys.stdin.buffer.readline().rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigurationError("the password is not UTF-8") from None
        if "\0" in line:
            raise ConfigurationError("the password must not contain a NUL")
        return line
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise ConfigurationError("the passwords do not match")
    return password


def _print(user: User, *, as_json: bool) -> None:
    print_one(_as_json(user) if as_json else _row(user), as_json=as_json)


def _as_json(user: User) -> dict[str, object]:
    """Returns an account as the API describes it to a superuser."""
    from authapi.web.schemas.administration import AccountOut  # pydantic models

    return AccountOut.of(user).model_dump(mode="json")


def _row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "username": user.username,
        "active": user.is_active,
        "superuser": user.is_superuser,
        "roles": sorted(user.roles),
        "email_confirmed_at": user.email_confirmed_at,
        "created_at": user.created_at,
    }


def _identities(linked: Sequence[LinkedIdentity], *, as_json: bool) -> object:
    """Returns identities as the API describes them, or as one text; None if there are none."""
    if not as_json:
        return ", ".join(f"{each.provider} {each.email or each.subject}" for each in linked) or None
    from authapi.web.schemas.federation.flows import LinkedIdentityOut  # pydantic models

    return [LinkedIdentityOut.of(each).model_dump(mode="json") for each in linked]
