"""The domain of passkeys, and the pages that may use them."""

import pytest

from authapi.domain.factors.passkeys import RelyingParty
from authapi.errors import PasskeysUnavailable
from authapi.services.factors.webauthn.relying_party import (
    names_other_sites,
    other_sites,
    relying_party_of,
    require_origin,
)
from tests.conftest import SettingsFactory

PRODUCTION = {
    "env": "production",
    "secret": "0123456789abcdefABCDEF0123456789xyz",
    "allow_sqlite": True,
    "mail_url": "smtp://localhost",
    "mail_from": "auth@example.com",
}
ANDROID = "android:apk-key-hash:" + "A" * 43


def production(make_settings: SettingsFactory, **changes: object) -> RelyingParty:
    return relying_party_of(make_settings(**PRODUCTION, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host": "0.0.0.0"},
        {"host": "::1"},
        {"host": "localhost"},
        {"public_url": "http://127.0.0.1:9000"},
        {"public_url": "http://localhost:3000"},
    ],
    ids=str,
)
def test_development_is_at_localhost(
    make_settings: SettingsFactory, changes: dict[str, object]
) -> None:
    party = relying_party_of(make_settings(**changes))
    assert (party.id, party.origins, party.allows_localhost) == ("localhost", frozenset(), True)
    for origin in ("http://localhost", "http://localhost:8000", "http://localhost:3000"):
        assert party.accepts(origin)
    for origin in (
        *("https://localhost", "http://localhost:0", "http://localhost:8000/", "http://LOCALHOST"),
        *("http://localhost.evil.example", "http://a.localhost", "http://127.0.0.1:8000", "null"),
        "http://localhost:80000000",
    ):
        assert not party.accepts(origin)


def test_production_is_at_the_host_of_its_url(make_settings: SettingsFactory) -> None:
    party = production(make_settings, public_url="https://auth.example.com:8443/base")
    assert (party.id, party.origins) == (
        "auth.example.com",
        frozenset({"https://auth.example.com:8443"}),
    )
    assert not party.accepts("http://localhost:8000")
    assert not party.accepts("https://auth.example.com")


def test_a_parent_domain_and_further_origins(make_settings: SettingsFactory) -> None:
    party = production(
        make_settings,
        public_url="https://auth.example.com",
        passkey_rp_id="example.com",
        passkey_origins=("https://example.com", ANDROID),
    )
    own = frozenset({"https://auth.example.com", "https://example.com", ANDROID})
    assert (party.id, party.origins) == ("example.com", own)


def test_the_own_origin_of_another_domain_is_not_accepted(make_settings: SettingsFactory) -> None:
    party = production(
        make_settings, public_url="https://auth.example.com", passkey_rp_id="example.org"
    )
    assert party.origins == frozenset()
    assert not party.accepts("https://auth.example.com")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"passkeys": "off"}, "Passkeys are not available"),
        ({"passkey_rp_id": "127.0.0.1"}, "open http://localhost:8000"),
        ({"passkey_rp_id": "10.1"}, "open http://localhost:8000"),
        ({"public_url": "http://10.0.0.1:9000"}, "open http://localhost:9000"),
        ({"public_url": "http://[2001:db8::1]:9000"}, "open http://localhost:9000"),
        ({"port": 9001, "host": "10.0.0.1"}, "open http://localhost:9001"),
    ],
    ids=str,
)
def test_no_domain_in_development(
    make_settings: SettingsFactory, changes: dict[str, object], text: str
) -> None:
    settings = make_settings(**changes)
    with pytest.raises(PasskeysUnavailable, match=text):
        relying_party_of(settings)
    assert not names_other_sites(settings)


def test_no_domain_in_production(make_settings: SettingsFactory) -> None:
    with pytest.raises(PasskeysUnavailable, match="AUTHAPI_PUBLIC_URL has an address"):
        production(make_settings, public_url="https://10.0.0.1")


def test_the_origin_of_a_page(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    assert require_origin(settings, None) == relying_party_of(settings)
    assert require_origin(settings, "http://localhost:5173").id == "localhost"
    deployed = make_settings(**PRODUCTION, public_url="https://auth.example.com")
    assert require_origin(deployed, "https://auth.example.com").id == "auth.example.com"
    with pytest.raises(PasskeysUnavailable, match="add the origin"):
        require_origin(deployed, "https://example.com")


@pytest.mark.parametrize(
    ("origin", "port"),
    [
        ("http://127.0.0.1:8000", 8000),
        # An application beside the service, or a forwarded port.
        ("http://127.0.0.1:5173", 5173),
        ("http://127.9.9.9:5173", 5173),
        ("http://[::1]:5173", 5173),
        ("http://127.0.0.1", 8000),
        # No page of this machine says which port to open.
        ("http://10.0.0.1:5173", 8000),
        ("http://127.0.0.1.evil.example:5173", 8000),
        ("http://127.0.0.1:5173@evil.example", 8000),
        ("http://127.0.0.1:5173, http://127.0.0.1:5173", 8000),
        ("https://127.0.0.1:5173", 8000),
        ("http://[::1", 8000),
        ("null", 8000),
    ],
)
def test_a_page_at_an_address_is_told_its_port(
    make_settings: SettingsFactory, origin: str, port: int
) -> None:
    with pytest.raises(PasskeysUnavailable, match=rf"open http://localhost:{port}$"):
        require_origin(make_settings(), origin)


def test_other_sites_are_those_of_other_domains(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        **PRODUCTION,
        public_url="https://auth.example.com",
        passkey_rp_id="example.com",
        passkey_origins=(
            *("https://example.com", "https://a.example.com", "https://notexample.com"),
            *(ANDROID, "http://localhost:3000", "https://example.org:8443"),
        ),
    )
    assert other_sites(settings) == ("https://notexample.com", "https://example.org:8443")
    assert names_other_sites(settings)


@pytest.mark.parametrize(
    "origin",
    [
        *("http://example.com", "https://example.com/", "https://Example.com", "example.com"),
        *("android:apk-key-hash:short", "https://*.example.com", "http://localhostx"),
        "https://example.com:443",
    ],
)
def test_other_texts_are_no_origins(make_settings: SettingsFactory, origin: str) -> None:
    with pytest.raises(ValueError, match="passkey_origins"):
        make_settings(passkey_origins=(origin,))


@pytest.mark.parametrize(
    "rp_id", ["", "https://example.com", "example.com:443", "EXAMPLE.com", "."]
)
def test_other_texts_are_no_domain(make_settings: SettingsFactory, rp_id: str) -> None:
    with pytest.raises(ValueError, match="passkey_rp_id"):
        make_settings(passkey_rp_id=rp_id)
