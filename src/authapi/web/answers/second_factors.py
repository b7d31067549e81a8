"""The members of problem documents that concern second factors."""

from authapi.errors import SecondFactorRequired
from authapi.web.schemas.fields import format_time


def second_factor_members(error: SecondFactorRequired) -> dict[str, object]:
    """Returns how a login goes on. A browser has a cookie instead of `ticket`."""
    members: dict[str, object] = {
        "methods": list(error.methods),
        "expires_at": format_time(error.expires_at),
    }
    return members if error.ticket is None else {"ticket": error.ticket, **members}
