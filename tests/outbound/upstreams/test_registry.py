"""The registry of providers, and providers of applications."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from authapi import Person, Provider
from authapi.errors import ConfigurationError, ProviderAnswerRefused, ProviderUnknown
from authapi.outbound.upstreams.registry import Upstreams
from authapi.settings import Settings
from tests.outbound.upstreams.visits import come_back, upstreams_of
from tests.servers.openid import USERINFO, OpenIDServer

CLIENT = {"client_id": "x", "client_secret": "y"}
HERE = __name__


class Corp(Provider):
    name, issuer = "corp", "https://id.corp.example"
    wanted_claims: ClassVar[tuple[str, ...]] = ()

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Person:
        return Person(
            provider="another name",
            issuer=self.issuer,
            subject=claims["employee_id"],
            email=claims.get("email"),
            email_verified=claims.get("email_verified", False),
            is_authoritative=True,
            has_proved_mfa=True,
        )


class Twin(Corp):
    """Has the name of another class."""


class Titled(Corp):
    name, title = "of-class", "Title of the class"


class Named(Titled):
    name = "named"


class Exchange(Corp):
    """A provider whose name is that of a route."""

    name = "exchange"


class Nameless(Provider):
    issuer = "https://id.corp.example"


def test_names_titles_and_redirect_uris() -> None:
    found = upstreams_of(
        google=CLIENT,
        **{"my-corp": {"issuer": "https://id.example", "client_id": "x", "title": "My Corp"}},
        acme={"issuer": "https://id.example", "client_id": "x"},
    )
    assert [(name, it.name, it.title) for name, it in found.items()] == [
        ("google", "google", "Google"),
        ("my-corp", "my-corp", "My Corp"),
        ("acme", "acme", "Acme"),
    ]
    assert found.redirect_uri("acme") == "https://auth.example/login/with/acme/callback"
    assert "evil" not in found
    for name in ("evil", "", "../acme", "Acme"):
        with pytest.raises(ProviderUnknown):
            found.redirect_uri(name)


def test_mails_have_the_titles_of_buttons() -> None:
    """Services know the settings, and not the providers."""
    issuer = {"issuer": "https://id.example", "client_id": "x"}
    given: dict[str, Any] = {
        **dict.fromkeys(("google", "github", "naver", "kakao", "microsoft"), CLIENT),
        "staff": CLIENT | {"type": "github"},
        "my-corp": issuer,
        "titled": issuer | {"title": "The Title"},
        f"{HERE}:Corp": {"client_id": "x"},
        f"{HERE}:Titled": {"client_id": "x"},
        "named": {"title": "Named in the options"},
        f"{HERE}:Named": {"client_id": "x"},
        "second": {"client_id": "x", "type": f"{HERE}:Titled"},
    }
    settings = Settings.isolated(public_url="https://auth.example", providers=given)
    titles = {name: it.title for name, it in Upstreams(settings).items()}
    assert {name: settings.provider_title(name) for name in titles} == titles
    assert titles["second"] == titles["of-class"] == "Title of the class"
    assert titles["named"] == "Named in the options"
    assert settings.provider_title("gone-away") == "Gone away"


def test_the_redirect_uri_has_the_prefix_of_the_installation() -> None:
    settings = Settings.isolated(public_url="https://app.example", providers={"google": CLIENT})
    found = Upstreams(settings)
    settings.set_prefix("/api/auth")
    assert found.redirect_uri("google") == (
        "https://app.example/api/auth/login/with/google/callback"
    )


def test_two_entries_of_one_type() -> None:
    found = upstreams_of(google=CLIENT, staff=CLIENT | {"type": "google", "title": "Staff"})
    assert [type(it.provider).__name__ for it in found.values()] == ["Google", "Google"]
    assert found.find("staff").title == "Staff"


def test_two_providers_with_one_issuer() -> None:
    """They are two clients of one provider, unless an API of its own says who a person is."""
    issuer = "https://id.acme.example"
    client = {"client_id": "x", "issuer": issuer}
    both = upstreams_of(one=client, two=client | {"client_id": "y"})
    assert [it.provider.issuer for it in both.values()] == [issuer] * 2
    assert len(upstreams_of(github=CLIENT, staff=CLIENT | {"type": "github"})) == 2
    other = CLIENT | {"type": "github", "userinfo_url": "https://github.corp.example/user"}
    for given in (
        {"github": CLIENT, "corp": other | {"issuer": "https://github.com/login/oauth"}},
        {"acme": client, "corp": other | {"issuer": issuer}},
        {"one": CLIENT | {"type": "naver", "issuer": issuer},
         "two": CLIENT | {"type": "github", "issuer": issuer}},
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match="have one issuer"):
            upstreams_of(**given)


def test_no_providers() -> None:
    assert dict(upstreams_of()) == {}


@pytest.mark.parametrize(
    ("providers", "problem"),
    [
        ({"google": {}}, "the provider google needs the option client_id"),
        ({"github": {"client_id": "x"}}, "the provider github needs the option client_secret"),
        ({"acme": {"client_id": "x"}}, "the provider acme needs the option issuer"),
        (
            {"google": CLIENT | {"tenants": "a"}},
            "google cannot use the option tenants",
        ),
        ({"google": CLIENT | {"trust_email": True}}, "google cannot use the option trust_email"),
        ({"acme": {"type": "gogle"}}, "unknown type 'gogle'"),
        ({"acme": {"type": "no.such.module:Class"}}, "cannot load 'no.such.module:Class'"),
        ({"acme": {"type": f"{HERE}:Missing"}}, "cannot load"),
        ({"acme": {"type": ":Corp"}}, "cannot load"),
        ({f"{HERE}:CLIENT": {}}, "is not a Provider"),
        ({f"{HERE}:OpenIDServer": {}}, "is not a Provider"),
        ({f"{HERE}:Nameless": {"client_id": "x"}}, "has no valid name"),
        ({f"{HERE}:Exchange": {"client_id": "x"}}, "has no valid name"),
    ],
    ids=range(13),
)
def test_providers_that_are_refused(providers: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        upstreams_of(**providers)
    assert problem in str(caught.value)


def test_two_providers_with_one_name() -> None:
    with pytest.raises(ConfigurationError, match="two providers have the name corp"):
        upstreams_of(**{f"{HERE}:{name}": {"client_id": "x"} for name in ("Corp", "Twin")})


def test_a_class_has_the_options_of_its_name() -> None:
    found = upstreams_of(
        **{f"{HERE}:Corp": {"title": "The Corp"}, "corp": {"client_id": "x", "title": "Other"}}
    )
    corp = found.find("corp")
    assert list(found) == ["corp"]
    assert (corp.title, corp.provider.client_id, type(corp.provider)) == ("The Corp", "x", Corp)


def test_the_settings_know_a_class_by_its_name() -> None:
    settings = Settings.isolated(
        public_url="https://auth.example",
        providers={"google": CLIENT, f"{HERE}:Corp": {"client_id": "x"}, "no.module:Class": {}},
    )
    assert [settings.has_provider(name) for name in ("google", "corp", "other", HERE)] == [
        True,
        True,
        False,
        False,
    ]


async def test_a_provider_of_an_application(server: OpenIDServer) -> None:
    server.claims["employee_id"] = "E-42"
    found = upstreams_of(**{f"{HERE}:Corp": server.options()})
    person = await come_back(found.find("corp"))
    # What a provider says about itself is not left to its class.
    assert (person.provider, person.issuer, person.subject) == ("corp", server.url, "E-42")
    assert not person.has_proved_mfa
    assert person.is_authoritative
    assert server.asked[USERINFO] == 0
    server.claims["email_verified"] = "yes"
    person = await come_back(found.find("corp"))
    assert (person.email_verified, person.is_authoritative) == (False, False)
    await found.aclose()


@pytest.mark.parametrize(
    "employee", [None, "", 42, ["E-42"], "x" * 256, "E\n42", " ", "E-42 ", "\u3000E-42"], ids=repr
)
async def test_a_person_without_an_identifier(server: OpenIDServer, employee: object) -> None:
    server.claims["employee_id"] = employee
    found = upstreams_of(**{f"{HERE}:Corp": server.options()})
    with pytest.raises(ProviderAnswerRefused):
        await come_back(found.find("corp"))
    await found.aclose()


class Careless(Corp):
    name = "careless"

    def person(self, claims: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Any:
        found = super().person({**claims, "employee_id": "E-42"}, userinfo)
        return {
            "none": None,
            "text": "jane",
            "like": SimpleNamespace(**claims),
            "claims": replace(found, claims=["x"]),  # type: ignore[arg-type]
            "user": found,
        }[claims["kind"]]

    def name_of(self, user: str) -> str | None:
        return str(user.split("=")[1])


@pytest.mark.parametrize("kind", ["none", "text", "like", "claims", "other"])
async def test_a_class_that_returns_no_person(server: OpenIDServer, kind: str) -> None:
    server.claims |= {"kind": kind, "issuer": server.url, "subject": "E-42"}
    found = upstreams_of(**{f"{HERE}:Careless": server.options()})
    with pytest.raises(ProviderAnswerRefused):
        await come_back(found.find("careless"))
    await found.aclose()


async def test_a_class_that_cannot_read_what_a_browser_sends(server: OpenIDServer) -> None:
    server.claims |= {"kind": "user", "name": None}
    found = upstreams_of(**{f"{HERE}:Careless": server.options()})
    assert (await come_back(found.find("careless"), user="name=Jane")).name == "Jane"
    assert (await come_back(found.find("careless"), user="{}")).name is None
    await found.aclose()
