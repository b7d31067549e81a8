"""Refusals of logins at other providers, and the outage of a provider."""

from collections.abc import Sequence
from datetime import datetime

from authapi.errors.failures import Unavailable
from authapi.errors.refusals import Forbidden, NotFound, Refusal, Unauthenticated


class ProviderUnknown(NotFound):
    """No provider of the settings has this name."""

    code = "provider_unknown"
    title = "There is no such provider"


class ProviderUnavailable(Unavailable):
    """The provider does not answer, or answers with an error of its server."""

    code = "provider_unavailable"
    title = "The provider is temporarily unavailable"

    def __init__(self, *, retry_after: int = 5) -> None:
        super().__init__()
        self.retry_after = retry_after


class ProviderRefused(Forbidden):
    """The provider refused the login, for example because the person cancelled it there."""

    code = "provider_refused"
    title = "The provider refused the login"


class ProviderAnswerRefused(Forbidden):
    """A check of the answer of the provider failed. The response does not name the check.

    `reason` is for the log and for events: a name of ours, never text of the provider.
    """

    code = "provider_answer_refused"
    title = "The answer of the provider was refused"

    def __init__(self, reason: str = "") -> None:
        super().__init__()
        self.reason = reason


class LoginFlowInvalid(Refusal):
    """The callback of a provider belongs to no flow of this browser, or to an old or used one."""

    code = "login_flow_invalid"
    title = "This login was not started here, has expired or was used"


class LinkRequired(Refusal):
    """The address belongs to an account, which has to log in by `methods` and link the identity."""

    code = "link_required"
    title = "Log in another way first, and link the provider"

    def __init__(self, *, methods: Sequence[str]) -> None:
        super().__init__()
        self.methods = tuple(methods)
        """The ways to log in that this service offers. They do not depend on the account."""


class IdentityTaken(Refusal):
    """The identity is linked to another account."""

    code = "identity_taken"
    title = "This identity is linked to another account"


class EmailNeeded(Unauthenticated):
    """The login needs an address, which the person enters and confirms."""

    code = "email_needed"
    title = "An e-mail address is needed"

    def __init__(
        self,
        *,
        ticket: str | None,
        expires_at: datetime,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self.headers = tuple(headers)
        """The header with the cookie; empty if the client gets the ticket itself."""
        self.ticket = ticket
        """What the login goes on with; None if the browser has a cookie for it."""
        self.expires_at = expires_at
        """When the login has to begin again."""
