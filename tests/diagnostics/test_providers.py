"""The check of the providers of logins, in `authapi doctor` and on the status page."""

from collections.abc import Iterator
from typing import Any

import pytest

from authapi.diagnostics import providers
from authapi.diagnostics.providers import check_providers
from authapi.diagnostics.subject import Subject
from authapi.domain.monitoring.findings import Finding
from authapi.services import Services
from authapi.settings import Settings
from tests.servers.openid import CLIENT_SECRET, OpenIDServer
from tests.verify.issuer import JWKS, OPENID, Reply


@pytest.fixture
def server() -> Iterator[OpenIDServer]:
    with OpenIDServer() as found:
        yield found


def findings(**given: Any) -> list[Finding]:
    settings = Settings.isolated(public_url="https://auth.example", providers=given)
    return list(check_providers(Subject(settings, lambda: Services.build(settings))))


def test_a_provider_that_answers(server: OpenIDServer) -> None:
    github = {"client_id": "x", "client_secret": "y"}
    assert findings(acme=server.options(), github=github) == [
        Finding(
            "providers",
            "ok",
            "acme answers; enter the redirect URI"
            " https://auth.example/login/with/acme/callback there",
        ),
        Finding(
            "providers",
            "ok",
            "github has no metadata to check; enter the redirect URI"
            " https://auth.example/login/with/github/callback there",
        ),
    ]
    assert server.asked == {OPENID: 1, JWKS: 1}


def test_without_providers_nothing_is_said() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("path", "reply", "part"),
    [
        (OPENID, Reply({}, 500), "status 500"),
        (OPENID, Reply(b"<html>"), "no metadata"),
        (OPENID, Reply({"issuer": "https://evil.example"}), "names another issuer"),
        (JWKS, Reply({}, 404), "status 404"),
        (JWKS, Reply({"keys": []}), "no usable key"),
        (JWKS, Reply({"keys": [{"kty": "oct", "k": "AAAA", "kid": "1"}]}), "no usable key"),
    ],
    ids=range(6),
)
def test_a_provider_that_does_not(server: OpenIDServer, path: str, reply: Reply, part: str) -> None:
    server.replies[path] = reply
    [found] = findings(acme=server.options())
    assert found.verdict == "error"
    assert found.message.startswith("acme: ")
    assert part in found.message
    assert found.remedy == "check its options in AUTHAPI_PROVIDERS, and the network"
    assert CLIENT_SECRET not in found.message


def test_one_that_hangs_does_not_hide_another(
    server: OpenIDServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "_TIMEOUT", 0.5)
    with OpenIDServer() as slow:
        slow.may_answer.clear()
        found = findings(slow=slow.options(), acme=server.options())
        slow.may_answer.set()
    assert [item.verdict for item in found] == ["error", "ok"]
    assert "no answer in 0.5 seconds" in found[0].message


def test_options_that_cannot_be_used() -> None:
    [found] = findings(google={})
    assert found == Finding("providers", "error", "the provider google needs the option client_id")
