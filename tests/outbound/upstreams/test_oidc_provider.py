"""Logins at oidc-provider of npm, which requires PKCE and names itself in its answers."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from authapi.crypto import base64url, strict_json
from authapi.domain.federation.flow import Callback, Flow, FlowIntent
from authapi.domain.federation.person import Person
from authapi.errors import ProviderAnswerRefused, ProviderRefused
from authapi.outbound.upstreams.exchange import Exchange, Tokens
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.outbound.upstreams.visits import REDIRECT_URI, flow_of, upstreams_of
from tests.servers.oidc_provider import CLIENTS, SECRET, oidc_provider
from tests.servers.process import free_port

pytestmark = pytest.mark.slow
_ACTION = re.compile(r'action="([^"]+)"')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("provider")


@pytest.fixture(scope="module", params=[False, True], ids=["at userinfo", "in the ID token"])
def is_in_token(request: pytest.FixtureRequest) -> bool:
    """Where names and addresses are."""
    found: bool = request.param
    return found


@pytest.fixture(scope="module")
def issuer(folder: Path, is_in_token: bool) -> Iterator[str]:
    with oidc_provider(folder, free_port(), [REDIRECT_URI], claims_in_id_tokens=is_in_token) as url:
        yield url


def upstream_of(issuer: str, client: str) -> RemoteUpstream:
    options = {"issuer": issuer, "client_id": client, "client_secret": SECRET}
    return upstreams_of(acme=options).find("acme")


def sent_back(url: str, name: str | None) -> dict[str, str]:
    """Logs in with the forms of the provider as `name`; None cancels there.

    Returns the parameters with which it leads back.
    """
    with httpx.Client(trust_env=False) as browser:
        answer = browser.get(url)
        for _ in range(12):
            if answer.is_redirect:
                url = urljoin(str(answer.url), answer.headers["location"])
                if url.startswith(REDIRECT_URI):
                    query = parse_qs(urlsplit(url).query)
                    return {key: values[0] for key, values in query.items()}
                answer = browser.get(url)
                continue
            assert answer.status_code == 200, answer.text
            if name is None:
                answer = browser.get(f"{answer.url}/abort")
                continue
            prompt = "login" if 'name="login"' in answer.text else "consent"
            form = {"prompt": prompt, "login": name, "password": "x"}
            [action] = _ACTION.findall(answer.text)
            answer = browser.post(urljoin(str(answer.url), action), data=form)
    raise AssertionError("the provider does not lead back")


async def come_back(upstream: RemoteUpstream, name: str | None, flow: Flow) -> dict[str, str]:
    url = await upstream.authorization_url(flow, redirect_uri=REDIRECT_URI)
    found = await asyncio.to_thread(sent_back, url, name)
    assert found["state"] == flow.state
    return found


async def person_of(upstream: RemoteUpstream, name: str, flow: Flow | None = None) -> Person:
    flow = flow or flow_of()
    found = await come_back(upstream, name, flow)
    try:
        return await upstream.person(
            Callback(found["code"], found["iss"]), flow, redirect_uri=REDIRECT_URI
        )
    finally:
        await upstream.close()


@pytest.mark.parametrize("client", CLIENTS)
async def test_every_algorithm(
    issuer: str, is_in_token: bool, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens: list[object] = []
    redeem = Exchange.redeem

    async def remembered(*given: Any, **named: Any) -> Tokens:
        found = await redeem(*given, **named)
        tokens.append(found.id_token)
        return found

    monkeypatch.setattr(Exchange, "redeem", remembered)
    person = await person_of(upstream_of(issuer, client), "jane")
    assert (person.issuer, person.subject) == (issuer, "jane")
    assert (person.email, person.email_verified) == ("jane@example.com", True)
    assert person.name == "jane of the provider"
    head, payload = (
        strict_json.loads(base64url.decode(it)) for it in str(tokens[0]).split(".")[:2]
    )
    assert isinstance(head, dict)
    assert isinstance(payload, dict)
    assert head["alg"].lower() == client
    assert ("email" in payload) is is_in_token


async def test_people_without_a_verified_address(issuer: str) -> None:
    person = await person_of(upstream_of(issuer, "es256"), "unverified-joe")
    assert (person.email, person.email_verified) == ("unverified-joe@example.com", False)
    person = await person_of(upstream_of(issuer, "es256"), "mailless")
    assert (person.subject, person.email) == ("mailless", None)


async def test_a_step_up_proves_when_the_login_was(issuer: str) -> None:
    person = await person_of(upstream_of(issuer, "es256"), "jane", flow_of(FlowIntent.STEP_UP))
    assert person.auth_time is not None


async def test_a_person_who_cancels(issuer: str) -> None:
    upstream = upstream_of(issuer, "es256")
    found = await come_back(upstream, None, flow_of())
    await upstream.close()
    assert (found["error"], found["iss"]) == ("access_denied", issuer)
    assert "code" not in found


async def test_what_belongs_to_another_login(issuer: str) -> None:
    """The verifier, the nonce, the issuer of the answer and the client."""
    upstream = upstream_of(issuer, "es256")
    cases: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"verifier": "w-" + "4" * 41}, ProviderRefused),
        ({"nonce": "n-" + "9" * 41}, ProviderAnswerRefused),
    ]
    for change, refusal in cases:
        found = await come_back(upstream, "jane", flow_of())
        with pytest.raises(refusal):
            await upstream.person(
                Callback(found["code"], found["iss"]),
                flow_of(**change),
                redirect_uri=REDIRECT_URI,
            )
    found = await come_back(upstream, "jane", flow_of())
    for other in (None, "https://evil.example", issuer + "/"):
        with pytest.raises(ProviderAnswerRefused) as caught:
            await upstream.person(
                Callback(found["code"], other), flow_of(), redirect_uri=REDIRECT_URI
            )
        assert caught.value.reason == "iss"
    stranger = upstream_of(issuer, "rs256")
    with pytest.raises(ProviderRefused):
        await stranger.person(
            Callback(found["code"], found["iss"]), flow_of(), redirect_uri=REDIRECT_URI
        )
    await stranger.close()
    await upstream.close()
