"""The registry loads strategies by name."""

from collections.abc import Mapping

import pytest
from starlette.requests import HTTPConnection

from authapi import AuthAPI, Challenge, Identity, Strategy
from authapi.errors import ConfigurationError
from authapi.strategies.basic import BasicStrategy
from authapi.strategies.jwt import JWTStrategy
from authapi.strategies.registry import BUILT_IN, Registry, built_in_name
from authapi.strategies.session import SessionStrategy
from authapi.strategies.token import TokenStrategy
from tests.conftest import SettingsFactory

HERE = "tests.strategies.test_registry"
NO_STRATEGY = "text"


class Named(Strategy[str]):
    """A strategy that does nothing; its subclasses have names."""

    def read(self, connection: HTTPConnection) -> str | None:
        return None

    async def authenticate(self, credential: str, connection: HTTPConnection) -> Identity:
        raise AssertionError("`read` finds no credential, so there is none to authenticate")

    def challenge(self) -> Challenge:
        return Challenge("Named")

    def openapi(self) -> Mapping[str, object]:
        return {"type": "http", "scheme": "named"}


class Good(Named):
    name = "good_2"


class Ambient(Named):
    name = "ambient"
    ambient = True


class Impostor(Named):
    name = "session"


class Capital(Named):
    name = "Good"


class Dashed(Named):
    name = "my-key"


class Endless(Named):
    name = "x" * 65


class Nameless(Named):
    name = ""


def registry(make_settings: SettingsFactory, *names: str, **changes: object) -> Registry:
    return AuthAPI(make_settings(strategies=names, **changes)).runtime.registry


def test_built_in_strategies_keep_the_order_of_the_settings(make_settings: SettingsFactory) -> None:
    found = registry(make_settings, "basic", "jwt", "session", "token")
    assert found.names == ("basic", "jwt", "session", "token")
    assert [type(item) for item in found] == [
        BasicStrategy,
        JWTStrategy,
        SessionStrategy,
        TokenStrategy,
    ]
    assert tuple(found.issuers) == ("jwt", "session", "token")
    assert isinstance(found["jwt"], JWTStrategy)
    assert "jwt" in found
    assert "nope" not in found


def test_built_in_strategies_load_by_their_path(make_settings: SettingsFactory) -> None:
    found = registry(make_settings, *BUILT_IN.values())
    assert found.names == tuple(BUILT_IN) == ("session", "token", "jwt", "basic")


def test_custom_class_loads_by_its_path(make_settings: SettingsFactory) -> None:
    found = registry(make_settings, f"{HERE}:Good", "session")
    assert found.names == ("good_2", "session")
    assert type(found["good_2"]) is Good
    assert found["good_2"].services is found["session"].services


def test_ambient_strategies_come_last(
    make_settings: SettingsFactory,
) -> None:
    found = registry(make_settings, "session", f"{HERE}:Ambient", "token", f"{HERE}:Good", "jwt")

    def order(*names: str) -> list[str]:
        return [item.name for item in found.in_order(names)]

    assert order() == ["token", "good_2", "jwt", "session", "ambient"]
    assert order("ambient", "jwt", "session", "token") == ["jwt", "token", "ambient", "session"]
    assert order("session") == ["session"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nope", "unknown strategy 'nope'; use session, token, jwt, basic or module:Class"),
        ("Session", "unknown strategy 'Session'"),
        ("no.such.module:Class", "cannot load 'no.such.module:Class'"),
        (f"{HERE}:Missing", "cannot load"),
        (f"{HERE}:NO_STRATEGY", "is not a Strategy"),
        ("builtins:int", "is not a Strategy"),
        (f"{HERE}:", "cannot load"),
        (f"{HERE}:Capital", "invalid strategy name 'Good': it must be snake_case"),
        (f"{HERE}:Dashed", "invalid strategy name 'my-key'"),
        (f"{HERE}:Endless", "invalid strategy name"),
        (f"{HERE}:Nameless", "invalid strategy name"),
        (f"{HERE}:Impostor", "two strategies have the name 'session'"),
        ("session", "two strategies have the name 'session'"),
    ],
)
def test_invalid_strategy_fails_the_start(
    make_settings: SettingsFactory, name: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        registry(make_settings, "session", name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value), "the message is one line"


def test_default_strategy_must_issue_credentials(make_settings: SettingsFactory) -> None:
    for default in ("jwt", "basic", "nope", ""):
        with pytest.raises(ConfigurationError, match="AUTHAPI_DEFAULT_STRATEGY") as caught:
            registry(make_settings, "session", "basic", default_strategy=default)
        assert str(caught.value).endswith("that support login: session")


def test_without_issuers_no_default_is_required(make_settings: SettingsFactory) -> None:
    assert registry(make_settings, "basic").issuers == {}


def test_built_in_strategies_are_known_by_their_class() -> None:
    class Own(TokenStrategy):
        """With other members in its answer to a login."""

    assert built_in_name(TokenStrategy) == "token"
    assert built_in_name(Own) is None
    assert [built_in_name(kind) for kind in Own.__mro__][:2] == [None, "token"]
