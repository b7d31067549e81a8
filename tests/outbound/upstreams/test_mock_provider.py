"""Logins at oidc-provider-mock, which has its own implementation of OpenID Connect (Authlib)."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from authapi.domain.federation.flow import Callback
from authapi.domain.federation.person import Person
from authapi.errors import ProviderAnswerRefused, ProviderRefused
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.outbound.upstreams.visits import REDIRECT_URI, flow_of, upstreams_of
from tests.servers.mock_provider import mock_provider
from tests.servers.process import free_port

PEOPLE: list[dict[str, Any]] = [
    {"sub": "carol", "email": "carol@example.com", "email_verified": True, "name": "Carol"},
    {"sub": "dave", "email": "dave@example.com", "email_verified": False},
    {"sub": "erin"},
    {"sub": "frank", "email": "frank@example.com", "email_verified": "true"},
]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mock_provider(tmp_path_factory.mktemp("provider"), free_port(), PEOPLE) as url:
        yield url


def upstream_of(provider: str) -> RemoteUpstream:
    options = {"issuer": provider, "client_id": "a-client", "client_secret": "a-secret"}
    return upstreams_of(mock=options).find("mock")


def sent_back(url: str, **form: str) -> dict[str, str]:
    """Answers the form of the provider; returns the parameters of its answer."""
    with httpx.Client(trust_env=False) as browser:
        answer = browser.post(url, data=form)
    assert answer.status_code == 302, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    return {name: values[0] for name, values in query.items()}


async def person_of(upstream: RemoteUpstream, sub: str, **changed: Any) -> Person:
    flow = flow_of()
    url = await upstream.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(sent_back, url, sub=sub)
    assert found["state"] == flow.state
    try:
        return await upstream.person(
            Callback(found["code"], found.get("iss")),
            flow_of(**changed),
            redirect_uri=REDIRECT_URI,
        )
    finally:
        await upstream.close()


@pytest.mark.parametrize("claims", PEOPLE, ids=lambda claims: str(claims["sub"]))
async def test_people(provider: str, claims: dict[str, Any]) -> None:
    person = await person_of(upstream_of(provider), claims["sub"])
    assert (person.issuer, person.subject) == (provider, claims["sub"])
    assert (person.email, person.name) == (claims.get("email"), claims.get("name"))
    assert person.email_verified is (claims.get("email_verified") is True)


async def test_a_person_who_cancels(provider: str) -> None:
    upstream = upstream_of(provider)
    url = await upstream.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    await upstream.close()
    found = await asyncio.to_thread(sent_back, url, action="deny")
    assert found["error"] == "access_denied"
    assert "code" not in found


async def test_the_nonce_of_another_browser(provider: str) -> None:
    with pytest.raises(ProviderAnswerRefused) as caught:
        await person_of(upstream_of(provider), "carol", nonce="n-" + "9" * 41)
    assert caught.value.reason == "id_token nonce"


async def test_a_code_that_is_invented(provider: str) -> None:
    upstream = upstream_of(provider)
    with pytest.raises(ProviderRefused):
        await upstream.person(Callback("invented"), flow_of(), redirect_uri=REDIRECT_URI)
    await upstream.close()
