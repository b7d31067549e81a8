"""The checks that concern second factors."""

from collections.abc import Iterator
from datetime import timedelta

from authapi.domain.monitoring.findings import Finding, Verdict
from authapi.domain.monitoring.wording import pluralize
from authapi.services import Services
from authapi.services.factors.inspection import clock_difference, find_out_of_step
from authapi.settings import Settings

_CHECK = "second factors"
_PASSWORD_ALONE = 15
"""Characters that NIST SP 800-63B-4 requires of a password that is the only factor."""
_MAX_SHOWN = 100
_CLOCK_WARNING = timedelta(seconds=5)
_CLOCK_ERROR = timedelta(seconds=30)
"""One time step of a code: codes of clocks that are right are refused beyond it."""


def check_policy(settings: Settings) -> Iterator[Finding]:
    """Yields what the settings of second factors leave open; a finding says so if it is nothing."""
    found = list(_weaknesses(settings))
    yield from (Finding(_CHECK, "warning", message) for message in found)
    if not found:
        yield Finding(_CHECK, "ok", f"AUTHAPI_MFA is {settings.mfa}")


def _weaknesses(settings: Settings) -> Iterator[str]:
    if settings.mfa == "required":
        if "basic" in settings.strategies:
            yield (
                "basic refuses every account, because it cannot ask for a second factor: remove it"
                " from AUTHAPI_STRATEGIES"
            )
        return
    if settings.env == "production" and not settings.mfa_required_superusers:
        yield (
            "a password alone is enough for superusers: set AUTHAPI_MFA_REQUIRED_SUPERUSERS=true"
        )
    if settings.password_min_length < _PASSWORD_ALONE:
        yield (
            f"passwords of {settings.password_min_length} characters can be the only factor: set"
            f" AUTHAPI_MFA=required, or AUTHAPI_PASSWORD_MIN_LENGTH to at least {_PASSWORD_ALONE}"
        )


async def check_accounts(services: Services) -> list[Finding]:
    """Returns what is wrong with stored factors, and with the clock that codes are compared by.

    Raises StorageUnavailable if the database does not answer.
    """
    findings, database = [], services.database
    if users := await find_out_of_step(database, limit=_MAX_SHOWN):
        count = pluralize(len(users), "account")
        message = (
            f"{count}{' or more' if len(users) == _MAX_SHOWN else ''} with a second factor that"
            f" `mfa_since` does not match, such as {users[0]}: authapi users reset-factors"
            f" {users[0]}"
        )
        findings.append(Finding(_CHECK, "error", message))
    ahead = await clock_difference(database)
    if ahead is None:
        return findings
    seconds = round(abs(ahead).total_seconds())
    direction = "ahead of" if ahead > timedelta() else "behind"
    if abs(ahead) <= _CLOCK_WARNING:
        findings.append(Finding("clock", "ok", "as that of the database"))
    else:
        message = (
            f"{pluralize(seconds, 'second')} {direction} that of the database: codes of"
            " authenticator apps are compared by it; synchronize both hosts"
        )
        verdict: Verdict = "error" if abs(ahead) > _CLOCK_ERROR else "warning"
        findings.append(Finding("clock", verdict, message))
    return findings
