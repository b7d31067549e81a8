"""The port of a provider: what the services and the routes need of it."""

from typing import Protocol

from authapi.domain.federation.flow import Callback, Flow
from authapi.domain.federation.person import Person


class Upstream(Protocol):
    """A provider at which people log in."""

    @property
    def name(self) -> str:
        """The name in the settings and in paths: lower-case letters, digits and hyphens."""

    @property
    def title(self) -> str:
        """The name for people, on buttons."""

    @property
    def is_form_post(self) -> bool:
        """Whether the provider answers by a POST from its page (`response_mode=form_post`)."""

    @property
    def proves_fresh_login(self) -> bool:
        """Whether the provider logs a person in again on request and says when (`auth_time`)."""

    async def authorization_url(
        self, flow: Flow, *, redirect_uri: str, hint: str | None = None
    ) -> str:
        """Returns the address at the provider to which the browser is led.

        `hint` is the address of the account, if known (`login_hint`). A flow with the intent
        `STEP_UP` asks for a new login (`max_age=0`, `prompt=login`).

        Raises ProviderUnavailable.
        """

    async def person(self, callback: Callback, flow: Flow, *, redirect_uri: str) -> Person:
        """Exchanges the code and returns the person that the answer of the provider proves.

        Raises ProviderUnavailable if the provider does not answer, ProviderRefused if it refuses
        the code, and ProviderAnswerRefused if a check of its answer fails.
        """
