"""The metadata of providers: which endpoints are used, and which are refused."""

import asyncio
import json
from typing import Any

import pytest

from authapi.errors import ConfigurationError, ProviderUnavailable
from authapi.outbound.http_client import HTTPClient, Response
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.outbound.upstreams.visits import REDIRECT_URI, flow_of, upstreams_of
from tests.servers.openid import OpenIDServer
from tests.verify.issuer import OPENID, Reply

ISSUER = "https://id.acme.example"
METADATA: dict[str, Any] = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": f"{ISSUER}/token",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "jwks_uri": f"{ISSUER}/keys",
}


async def endpoints_of(
    monkeypatch: pytest.MonkeyPatch, *, issuer: str = ISSUER, **changed: Any
) -> Any:
    """Returns what is read from the metadata of an https issuer, without a network."""
    document = {name: it for name, it in (METADATA | changed).items() if it is not None}
    answer = Response(200, "", json.dumps(document | {"issuer": issuer}).encode())

    async def get(_: HTTPClient, url: str, **_headers: Any) -> Response:
        assert url.startswith(issuer.rstrip("/"))
        return answer

    monkeypatch.setattr(HTTPClient, "get", get)
    found = upstreams_of(acme={"issuer": issuer, "client_id": "x"}).find("acme")
    return await found.endpoints.read()


async def test_endpoints_of_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await endpoints_of(monkeypatch, jwks_uri="https://keys.example/acme")
    assert (found.token_url, found.jwks_url) == (f"{ISSUER}/token", "https://keys.example/acme")
    assert (found.sends_issuer, found.client_auth) == (False, "basic")


@pytest.mark.parametrize(
    "name", ["authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"]
)
@pytest.mark.parametrize(
    "url",
    [
        "http://id.acme.example/x",
        "http://127.0.0.1/x",
        "http://localhost/x",
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://localhost./x",
        "https://a.localhost/x",
        "https://10.0.0.1/x",
        "https://192.168.0.1:8443/x",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/x",
        "https://[fd00::1]/x",
        "https://[fe80::1%25eth0]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://0.0.0.0/x",
        "https://2130706433/x",
        "https://0x7f.1/x",
        "https://127.1/x",
        "https://100.64.0.1/x",
        "https://user@id.acme.example/x",
        "https://id.acme.example/x#y",
        "https://id.acme.example:99999/x",
        "https:///x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://id.acme.example/\r\nx: y",
        "https://id.acme.\u00e9xample/x",
        "",
        7,
        [],
        {},
        True,
    ],
    ids=repr,
)
async def test_endpoints_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, url: Any
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await endpoints_of(monkeypatch, **{name: url})
    assert name in str(caught.value)
    assert not isinstance(url, str) or not url or url not in str(caught.value)


@pytest.mark.parametrize("host", ["10.0.0.1", "keycloak.internal", "[fd00::1]"])
async def test_an_issuer_in_a_private_network(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    issuer = f"https://{host}"
    urls: dict[str, Any] = {name: f"{issuer}/x" for name in METADATA if name != "issuer"}
    found = await endpoints_of(monkeypatch, issuer=issuer, **urls)
    assert found.token_url == f"{issuer}/x"


async def test_an_issuer_with_a_slash_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await endpoints_of(monkeypatch, issuer=f"{ISSUER}/")
    assert found.token_url == f"{ISSUER}/token"


async def test_a_slash_makes_another_issuer(server: OpenIDServer) -> None:
    acme = upstreams_of(acme=server.options(issuer=server.url + "/")).find("acme")
    with pytest.raises(ConfigurationError, match="names another issuer: set the option issuer"):
        await acme.check()
    with pytest.raises(ProviderUnavailable):
        await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    await acme.close()


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf{}",
        b'{"issuer": "\xff"}',
        b'{"issuer": "a", "issuer": "b"}',
        b"<html>",
        b"",
        b"[]",
        b"[" * 100_000,
        b" " * (10 << 20),
    ],
    ids=range(8),
)
async def test_metadata_that_cannot_be_read(
    server: OpenIDServer, acme: RemoteUpstream, body: bytes
) -> None:
    server.replies[OPENID] = Reply(body)
    with pytest.raises(ProviderUnavailable) as caught:
        await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    assert caught.value.retry_after >= 1


async def test_metadata_of_a_redirect_is_not_read(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.replies["/moved"] = server.replies[OPENID]
    server.replies[OPENID] = Reply(b"", 302, {"location": server.url + "/moved"})
    with pytest.raises(ProviderUnavailable):
        await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    assert server.asked["/moved"] == 0


async def test_a_visitor_who_leaves_does_not_end_the_visit_of_another(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.may_answer.clear()
    visits = [
        asyncio.create_task(acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI))
        for _ in range(3)
    ]
    await server.is_asked()
    visits[0].cancel()
    await asyncio.wait(visits[:1])
    server.may_answer.set()
    assert all(url.startswith(server.url) for url in await asyncio.gather(*visits[1:]))
    assert server.asked[OPENID] == 1
