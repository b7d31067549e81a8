"""What a journey needs: services, and browsers that look alike."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from tests.browser.installations import Installation
from tests.browser.tab import Browsers, Tab
from tests.servers.webhooks import SECRET

Kind: TypeAlias = Literal["open", "confirm", "required", "console"]

SETTINGS: dict[Kind, dict[str, str]] = {
    "open": {},
    # Registration needs a mailbox, and logins are soon too old for sensitive changes.
    "confirm": {"AUTHAPI_REGISTRATION": "confirm", "AUTHAPI_FRESH_MAX_AGE": "3s"},
    "required": {"AUTHAPI_MFA": "required"},
    # With something to see on each page of the console. No process listens at that port.
    "console": {
        "AUTHAPI_ROLES": "reader=reports:read; writer=reports:write",
        "AUTHAPI_WEBHOOK_URLS": "http://127.0.0.1:9/path-with-a-secret",
        "AUTHAPI_WEBHOOK_SECRET": SECRET,
        "AUTHAPI_LIMIT_MAILS": "10000/hour",
    },
}
"""The services, by what is special about them."""


class Stage:
    """Services, and the browsers of one journey."""

    def __init__(self, browsers: Browsers, installation: Callable[[Kind], Installation]) -> None:
        self._browsers, self.installation = browsers, installation
        self.look = browsers.look

    def tab(self, kind: Kind = "open", **options: object) -> Tab:
        """Opens a browser of its own at a service."""
        return self._browsers.open(self.installation(kind), **options)

    def register(self, kind: Kind = "open") -> str:
        """Creates an account for a person with the language of the browsers."""
        return self.installation(kind).register(self.look.language)

    def signed_in(self, kind: Kind = "open", *, is_confirmed: bool = False) -> tuple[Tab, str]:
        """Creates an account and signs in; returns the tab and the address."""
        address = self.register(kind)
        if is_confirmed:
            self.installation(kind).confirm(address)
        tab = self.tab(kind)
        tab.sign_in(address)
        tab.arrives("Profile")
        return tab, address


Journey: TypeAlias = Callable[[Stage], None]
