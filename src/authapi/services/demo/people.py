"""The people of the example data, read from `people.json`. Times are days before now."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from authapi.domain.client import Client
from authapi.domain.events import EventType
from authapi.domain.factors.authentication_context import MFA
from authapi.domain.factors.values import FactorMethod


@dataclass(frozen=True, slots=True)
class DemoLogin:
    """A login: its device, when it began, and when it was last used."""

    device: Client
    began: float
    used: float


@dataclass(frozen=True, slots=True)
class DemoToken:
    """A personal access token. `used` is None if it was never used."""

    name: str
    created: float
    used: float | None


@dataclass(frozen=True, slots=True)
class DemoPasskey:
    """A passkey, of a device or synced between several."""

    name: str
    added: float
    is_synced: bool


@dataclass(frozen=True, slots=True)
class DemoEvent:
    """A further event of an account."""

    type: EventType
    at: float
    device: Client


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """An account, with all that belongs to it."""

    email: str
    name: str | None
    locale: str | None
    is_superuser: bool
    is_unconfirmed: bool
    is_invited: bool
    """Whether the account waits for its owner to choose a password."""
    registered: float
    deactivated: float | None
    app_added: float | None
    """When the authenticator app was added; None without one."""
    passkeys: Sequence[DemoPasskey]
    logins: Sequence[DemoLogin]
    tokens: Sequence[DemoToken]
    events: Sequence[DemoEvent]

    @property
    def mfa_since(self) -> float | None:
        """When the first second factor was added; None if there is none."""
        added = [passkey.added for passkey in self.passkeys]
        if self.app_added is not None:
            added.append(self.app_added)
        return max(added, default=None)

    @property
    def amr(self) -> tuple[str, ...]:
        """How the logins were proved."""
        if self.app_added is not None:
            return ("pwd", FactorMethod.TOTP.amr, MFA)
        return (FactorMethod.PASSKEY.amr, "user", MFA) if self.passkeys else ("pwd",)


def read_people() -> tuple[Mapping[str, Client], Sequence[DemoPerson]]:
    """Returns the devices by name, and the people."""
    text = resources.files(__package__).joinpath("people.json").read_text(encoding="utf-8")
    data = json.loads(text)
    devices = {name: Client(**fields) for name, fields in data["devices"].items()}
    return devices, [_person(item, devices) for item in data["people"]]


def _person(item: Mapping[str, Any], devices: Mapping[str, Client]) -> DemoPerson:
    return DemoPerson(
        email=item["email"],
        name=item["name"],
        locale=item.get("locale"),
        is_superuser=item.get("superuser", False),
        is_unconfirmed=item.get("is_unconfirmed", False),
        is_invited=item.get("is_invited", False),
        registered=item["registered"],
        deactivated=item.get("inactive"),
        app_added=item.get("app"),
        passkeys=[
            DemoPasskey(each["name"], each["days"], each["synced"])
            for each in item.get("passkeys", ())
        ],
        logins=[DemoLogin(devices[name], began, used) for name, began, used in item["logins"]],
        tokens=[DemoToken(*each) for each in item.get("tokens", ())],
        events=[
            DemoEvent(EventType(kind), at, devices[name])
            for kind, at, name in item.get("events", ())
        ],
    )
