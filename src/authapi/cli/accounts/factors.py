"""`authapi users factors` and `reset-factors`: the second factors of an account."""

from functools import partial

from authapi.cli.services import UserArgument, find_user, run_with_services
from authapi.cli.terminal.options import JSONOption, YesOption
from authapi.cli.terminal.questions import confirm
from authapi.cli.terminal.tables import print_one
from authapi.cli.terminal.texts import printable
from authapi.domain.monitoring.wording import pluralize
from authapi.services import Services


def show_factors(user: UserArgument, as_json: JSONOption = False) -> None:
    """Show the second factors of an account."""
    describe = _as_json if as_json else _row
    print_one(run_with_services(partial(describe, text=user), keys="locked"), as_json=as_json)


def reset_factors(user: UserArgument, yes: YesOption = False) -> None:
    """Remove all second factors of an account whose owner has lost them, and end its logins.

    The password alone logs in then, unless the account must add a factor. Personal access tokens
    stay. The running service tells the owner by mail.
    """
    if not yes:
        described = run_with_services(partial(_describe, text=user), keys="locked")
        confirm(f"This removes {described}")

    async def work(services: Services) -> bool:
        target = await find_user(services, user)
        return await services.accounts.administration.reset_factors(target.id)

    had_factor = run_with_services(work)
    print("Reset. All logins have ended." if had_factor else "The account has no second factor.")


async def _as_json(services: Services, text: str) -> dict[str, object]:
    """Returns the second factors as the API describes them to a superuser."""
    from authapi.web.schemas.factors.overview import FactorsOut  # pydantic models

    user = await find_user(services, text)
    return FactorsOut.of(await services.factors.changes.overview(user)).model_dump(mode="json")


async def _row(services: Services, text: str) -> dict[str, object]:
    user = await find_user(services, text)
    factors = await services.factors.changes.overview(user)
    totp, codes = factors.totp, factors.recovery_codes
    return {
        "id": user.id,
        "mfa": user.mfa,
        "required": factors.required,
        "totp_added_at": None if totp is None else totp.confirmed_at,
        "totp_last_used_at": None if totp is None else totp.last_used_at,
        "passkeys": ", ".join(passkey.name for passkey in factors.passkeys) or None,
        "recovery_codes_left": None if codes is None else codes.left,
    }


async def _describe(services: Services, text: str) -> str:
    owner = await find_user(services, text)
    logins = await services.sessions.list_for_user(owner.id)
    return (
        f"the second factors of {printable(owner.email)} and ends {pluralize(len(logins), 'login')}"
    )
