"""Discovery of the JWK set, and the checks on metadata and URLs."""

import json
from collections.abc import Mapping
from datetime import timedelta

import pytest

from authapi.errors import ConfigurationError
from authapi.outbound.http_client import HTTPClient, RequestFailed, Response
from authapi.outbound.issuers.metadata import KeySource, check_issuer, check_url, metadata_urls
from authapi.verify import RemoteIntrospection, RemoteJWT, TokenPolicy
from tests.crypto import forgery
from tests.verify.conftest import Clock, Open, bearer
from tests.verify.issuer import AUDIENCE, JWKS, METADATA, OPENID, Issuer, Reply


@pytest.mark.parametrize(
    ("issuer", "first", "second"),
    [
        (
            "https://auth.example",
            "https://auth.example/.well-known/oauth-authorization-server",
            "https://auth.example/.well-known/openid-configuration",
        ),
        (
            "https://tenant.example/",
            "https://tenant.example/.well-known/oauth-authorization-server",
            "https://tenant.example/.well-known/openid-configuration",
        ),
        (
            "https://id.example:8443/realms/shop",
            "https://id.example:8443/.well-known/oauth-authorization-server/realms/shop",
            "https://id.example:8443/realms/shop/.well-known/openid-configuration",
        ),
        (
            "https://id.example/realms/shop/",
            "https://id.example/.well-known/oauth-authorization-server/realms/shop",
            "https://id.example/realms/shop/.well-known/openid-configuration",
        ),
    ],
    ids=range(4),
)
def test_metadata_urls(issuer: str, first: str, second: str) -> None:
    assert metadata_urls(issuer) == (first, second)


@pytest.mark.parametrize(
    "url",
    [
        *("http://auth.example", "http://10.0.0.1", "http://localhost.example", "ftp://127.0.0.1"),
        *("auth.example", "//auth.example", "https://", "https:///x", "https://[", ""),
        *("https://x:port", "https://x:99999", "https://u@x", "https://u:p@x", "https://x/#a"),
        *("https://bücher.example", "https://a b", "https://a\nb", "https://a\tb", "\0"),
        *("http://127.0.0.1.example", "http://0.0.0.0", "file:///etc/passwd", "http://[::2]"),
    ],
)
def test_forbidden_urls_are_rejected(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_url(url, "it")
    assert url not in str(caught.value) or not url
    with pytest.raises(ConfigurationError):
        RemoteJWT(url, AUDIENCE)
    with pytest.raises(ConfigurationError):
        TokenPolicy(jwks_url=url)
    with pytest.raises(ConfigurationError):
        RemoteIntrospection(url, "credential")


@pytest.mark.parametrize(
    "url",
    ["https://x", "http://127.0.0.1:9", "http://127.1.2.3", "http://[::1]:9/p", "http://localhost"],
)
def test_permitted_urls(url: str) -> None:
    assert check_issuer(url) == url


def test_issuer_with_query_is_rejected() -> None:
    assert check_url("https://x/?p=keys", "it")
    with pytest.raises(ConfigurationError, match="query"):
        check_issuer("https://x/?p=keys")


async def test_either_kind_of_metadata_is_enough(issuer: Issuer, trusting: Open) -> None:
    issuer.replies[OPENID] = issuer.replies.pop(METADATA)
    async with trusting() as api:
        assert (await api.get("/who", headers=bearer(long_lived(issuer)))).status_code == 200
    assert issuer.asked == {METADATA: 1, OPENID: 1, JWKS: 1}


async def test_configured_jwks_url_skips_discovery(issuer: Issuer, trusting: Open) -> None:
    policy = TokenPolicy(jwks_url=issuer.url + JWKS)
    strategy = RemoteJWT(issuer.url, AUDIENCE, policy=policy)
    async with trusting(strategy) as api:
        assert (await api.get("/who", headers=bearer(long_lived(issuer)))).status_code == 200
    assert issuer.asked == {JWKS: 1}


async def test_discovery_is_repeated_after_a_failure(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting() as api:
        issuer.replies["/moved"] = issuer.replies.pop(JWKS)
        issuer.replies[METADATA] = Reply({"issuer": issuer.url, "jwks_uri": issuer.url + "/moved"})
        clock.move(10)
        made_up = issuer.token(header={"kid": "new"})
        assert (await api.get("/who", headers=bearer(made_up))).status_code == 503
        clock.move(1)
        assert (await api.get("/who", headers=bearer(made_up))).status_code == 401
    assert issuer.asked == {METADATA: 2, JWKS: 2, "/moved": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url + "/",
        lambda url: url.upper(),
        lambda url: url.replace("127.0.0.1", "localhost"),
        lambda url: "https://auth.example",
        lambda url: [url],
        lambda url: None,
    ],
    ids=range(6),
)
async def test_metadata_of_another_issuer_fails_the_start(
    issuer: Issuer, trusting: Open, change: object
) -> None:
    assert callable(change)
    issuer.replies[METADATA] = Reply({"issuer": change(issuer.url), "jwks_uri": issuer.url + JWKS})
    with pytest.raises(ConfigurationError, match="names another issuer"):
        async with trusting():
            pass
    assert issuer.asked[JWKS] == 0


async def test_metadata_of_another_issuer_after_the_start_is_an_outage(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async with trusting() as api:
        issuer.replies[METADATA] = Reply({"issuer": "https://evil.example", "jwks_uri": "/"})
        del issuer.replies[JWKS]
        clock.move(10)
        made_up = bearer(issuer.token(header={"kid": "new"}))
        assert (await api.get("/who", headers=made_up)).status_code == 503
        clock.move(1)
        assert (await api.get("/who", headers=made_up)).status_code == 503
    assert "ERROR" in [record.levelname for record in caplog.records]


@pytest.mark.parametrize(
    "metadata",
    [
        b"<html>",
        {"issuer": "ISSUER"},
        {"issuer": "ISSUER", "jwks_uri": 7},
        {"issuer": "ISSUER", "jwks_uri": "http://192.0.2.1/keys"},
        {"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"},
    ],
    ids=range(5),
)
async def test_metadata_without_usable_jwks_uri_is_an_outage(
    issuer: Issuer, trusting: Open, metadata: bytes | dict[str, object]
) -> None:
    if isinstance(metadata, dict):
        metadata = {n: issuer.url if v == "ISSUER" else v for n, v in metadata.items()}
    issuer.replies[METADATA] = Reply(metadata)
    async with trusting() as api:
        answer = await api.get("/who", headers=bearer(long_lived(issuer)))
        assert answer.status_code == 503
    assert issuer.asked[JWKS] == 0


class Cluster(HTTPClient):
    """Gives responses for hosts that tests cannot reach."""

    def __init__(self, documents: Mapping[str, object]) -> None:
        super().__init__(timeout=timedelta(seconds=1))
        self.documents = documents

    async def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> Response:
        found = self.documents.get(url)
        return Response(404 if found is None else 200, "", json.dumps(found).encode())


@pytest.mark.parametrize(
    ("issuer", "jwks_uri", "allow_http", "is_read"),
    [
        ("http://idp.cluster:8080/r", "http://idp.cluster:8080/keys", True, True),
        ("http://idp.cluster:8080/r", "https://idp.cluster/keys", True, True),
        ("http://idp.cluster:8080/r", "http://idp.cluster:8080/keys", False, False),
        ("https://idp.example/r", "http://idp.cluster:8080/keys", True, False),
        ("https://idp.example/r", "http://127.0.0.1/keys", True, False),
        ("http://idp.cluster:8080/r", "ftp://idp.cluster/keys", True, False),
        ("http://idp.cluster:8080/r", "http://user@idp.cluster/keys", True, False),
    ],
    ids=range(7),
)
async def test_allow_http_permits_http_urls(
    issuer: str, jwks_uri: str, allow_http: bool, is_read: bool
) -> None:
    key = forgery.KEY.verifying
    cluster = Cluster(
        {
            metadata_urls(issuer)[1]: {"issuer": issuer, "jwks_uri": jwks_uri},
            jwks_uri: {"keys": [dict(key.jwk)]},
        }
    )
    source = KeySource(issuer, None, cluster, allow_http=allow_http)
    if is_read:
        assert list((await source.read()).keys) == [key.kid]
    else:
        with pytest.raises(RequestFailed, match="not permitted"):
            await source.read()


def test_http_is_rejected_without_allow_http() -> None:
    inside = "http://idp.cluster:8080/realms/shop"
    for issuer, jwks_url in ((inside, None), ("https://idp.example", inside)):
        policy = TokenPolicy(jwks_url=jwks_url, allow_http=True)
        RemoteJWT(issuer, AUDIENCE, policy=policy)
        with pytest.raises(ConfigurationError, match="allow_http"):
            RemoteJWT(issuer, AUDIENCE, policy=TokenPolicy(jwks_url=jwks_url))
    for url in ("ftp://idp.cluster", "http://u@idp.cluster", "http://", "http://x/#a", "//x"):
        with pytest.raises(ConfigurationError):
            check_issuer(url, allow_http=True)


def long_lived(issuer: Issuer) -> str:
    """Returns a token that is valid at any time."""
    return issuer.token(iat=1, exp=forgery.NOW * 2)
