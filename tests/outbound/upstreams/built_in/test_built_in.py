"""The built-in providers, with answers as their documentation shows them, over HTTP."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from authapi.clock import now
from authapi.domain.federation.flow import Callback, FlowIntent
from authapi.domain.federation.person import Person
from authapi.errors import (
    ConfigurationError,
    ProviderAnswerRefused,
    ProviderRefused,
    ProviderUnavailable,
)
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.outbound.upstreams.visits import REDIRECT_URI, come_back, flow_of, seconds, upstreams_of
from tests.servers.openid import AUTHORIZE, CLIENT_ID, CLIENT_SECRET, TOKEN, USERINFO, OpenIDServer
from tests.verify.issuer import OPENID, Reply

TENANT = "9122040d-6c67-4c5b-b112-36a304b66dad"
OTHER_TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
OBJECT = "00000000-0000-0000-66f3-3332eca7ea81"
P256 = bytes.fromhex("2a8648ce3d030107")
"""The object identifier of the curve P-256."""


async def log_in(upstream: RemoteUpstream, *, user: str | None = None) -> Person:
    try:
        return await come_back(upstream, user=user)
    finally:
        await upstream.close()


def one(name: str, options: dict[str, Any]) -> RemoteUpstream:
    return upstreams_of(**{name: options}).find(name)


# Google: https://developers.google.com/identity/openid-connect/openid-connect


GOOGLE = {
    "azp": CLIENT_ID,
    "sub": "10769150350006150715113082367",
    "email": "jsmith@example.com",
    "email_verified": True,
    "name": "Jane Smith",
    "locale": "en",
}


@pytest.mark.parametrize(
    ("claims", "is_authoritative"),
    [
        ({"hd": "example.com"}, True),
        ({"email": "jsmith@gmail.com"}, True),
        ({"email": "JSmith@GMAIL.com"}, True),
        ({}, False),
        ({"hd": ""}, False),
        ({"hd": True}, False),
        ({"hd": "example.com", "email_verified": False}, False),
        ({"hd": "example.com", "email_verified": "true"}, False),
        ({"email": "jsmith@gmail.com.evil.example"}, False),
        ({"email": "jsmith@evilgmail.com"}, False),
    ],
    ids=str,
)
async def test_google(server: OpenIDServer, claims: dict[str, Any], is_authoritative: bool) -> None:
    server.claims = GOOGLE | claims
    person = await log_in(one("google", server.options()))
    assert (person.subject, person.name) == ("10769150350006150715113082367", "Jane Smith")
    assert person.is_authoritative is is_authoritative


def test_google_cannot_prove_a_fresh_login() -> None:
    google = one("google", {"client_id": "x", "client_secret": "y"})
    assert not google.proves_fresh_login
    assert google.provider.issuer == "https://accounts.google.com"


async def test_a_step_up_at_google_is_not_possible(server: OpenIDServer) -> None:
    upstream = one("google", server.options())
    server.claims = GOOGLE | {"auth_time": seconds(now()) - 1}  # which was not asked for
    with pytest.raises(ProviderAnswerRefused):
        await come_back(upstream, flow_of(FlowIntent.STEP_UP))
    await upstream.close()


# Microsoft: https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference


@pytest.fixture
def entra(server: OpenIDServer) -> OpenIDServer:
    """Publishes metadata as Microsoft does for all tenants."""
    server.claims = {
        "iss": f"{server.url}/{TENANT}/v2.0",
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "tid": TENANT,
        "oid": OBJECT,
        "preferred_username": "abeli@microsoft.example",
        "email": "abeli@microsoft.example",
        "name": "Abe Lincoln",
        "ver": "2.0",
    }
    server.metadata["issuer"] = f"{server.url}/{{tenantid}}/v2.0"
    server.sends_issuer = False
    server.metadata["authorization_response_iss_parameter_supported"] = None
    server.replies["/common/v2.0" + OPENID] = server.replies[OPENID]
    return server


def microsoft(server: OpenIDServer, **options: Any) -> RemoteUpstream:
    issuer = f"{server.url}/{{tenantid}}/v2.0"
    return one("microsoft", server.options(issuer=issuer, **options))


async def test_microsoft(entra: OpenIDServer) -> None:
    person = await log_in(microsoft(entra))
    assert person.issuer == f"{entra.url}/{TENANT}/v2.0"
    assert person.subject == f"{TENANT}.{OBJECT}"
    assert person.email == "abeli@microsoft.example"
    # The administrator of any tenant can write any address here.
    assert (person.email_verified, person.is_authoritative) == (False, False)


@pytest.mark.parametrize(
    ("claims", "is_authoritative"),
    [
        ({"xms_edov": True}, True),
        ({"xms_edov": "1"}, True),
        ({"verified_primary_email": ["abeli@microsoft.example"]}, True),
        ({"xms_edov": False}, False),
        ({"xms_edov": "0"}, False),
        ({"xms_edov": 1}, False),
        ({"xms_edov": "false"}, False),
        ({"xms_edov": [True]}, False),
        ({"email_verified": True}, False),
        ({"verified_primary_email": ["other@microsoft.example"]}, False),
        ({"verified_primary_email": "abeli@microsoft.example"}, False),
        ({"xms_edov": True, "email": None}, False),
    ],
    ids=str,
)
async def test_addresses_of_microsoft(
    entra: OpenIDServer, claims: dict[str, Any], is_authoritative: bool
) -> None:
    entra.claims |= claims
    assert (await log_in(microsoft(entra))).is_authoritative is is_authoritative


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"tid": OTHER_TENANT}, "id_token iss"),
        ({"tid": "{tenantid}"}, "id_token iss"),
        ({"tid": None}, "id_token iss"),
        ({"oid": None}, "person KeyError"),
        ({"oid": ""}, "person ValueError"),
        ({"oid": 7}, "person ValueError"),
    ],
    ids=str,
)
async def test_tokens_of_microsoft_that_are_refused(
    entra: OpenIDServer, claims: dict[str, Any], reason: str
) -> None:
    entra.claims |= claims
    with pytest.raises(ProviderAnswerRefused) as caught:
        await log_in(microsoft(entra))
    assert caught.value.reason == reason


async def test_the_template_is_no_issuer(entra: OpenIDServer) -> None:
    entra.claims["iss"] = f"{entra.url}/{{tenantid}}/v2.0"
    with pytest.raises(ProviderAnswerRefused):
        await log_in(microsoft(entra))


async def test_tenants_of_microsoft(entra: OpenIDServer) -> None:
    assert (await log_in(microsoft(entra, tenants=f"{TENANT} {OTHER_TENANT}"))).email is not None
    with pytest.raises(ProviderAnswerRefused):
        await log_in(microsoft(entra, tenants=f"{OTHER_TENANT} {OBJECT}"))


def test_one_tenant_of_microsoft_has_its_own_address() -> None:
    options = {"client_id": "x", "client_secret": "y", "tenants": TENANT}
    found = one("microsoft", options).provider
    assert found.issuer == f"https://login.microsoftonline.com/{TENANT}/v2.0"
    with pytest.raises(ConfigurationError, match="the tenants of microsoft must be UUIDs"):
        one("microsoft", options | {"tenants": "contoso.onmicrosoft.com"})


@pytest.mark.parametrize(
    "tenant", ["common", "organizations", "consumers", TENANT.upper(), f"{{{TENANT}}}", "*"]
)
def test_names_that_are_no_tenants(tenant: str) -> None:
    with pytest.raises(ConfigurationError, match="the tenants of microsoft must be UUIDs"):
        one("microsoft", {"client_id": "x", "client_secret": "y", "tenants": [tenant]})


@pytest.mark.parametrize("name", ["common", "organizations"])
async def test_issuers_that_stand_for_several_tenants(entra: OpenIDServer, name: str) -> None:
    """The metadata there has the issuer with the placeholder."""
    entra.replies[f"/{name}/v2.0" + OPENID] = entra.replies[OPENID]
    upstream = one("microsoft", entra.options(issuer=f"{entra.url}/{name}/v2.0"))
    with pytest.raises(ConfigurationError, match="names another issuer"):
        await upstream.check()
    await upstream.close()


async def test_a_guest_is_a_person_of_the_tenant_that_invited_them(entra: OpenIDServer) -> None:
    home = f"https://sts.windows.example/{OTHER_TENANT}/"
    entra.claims |= {"idp": home, "email": "guest@other.example", "acct": 1}
    person = await log_in(microsoft(entra, tenants=f"{TENANT} {OBJECT}"))
    assert (person.issuer, person.subject) == (f"{entra.url}/{TENANT}/v2.0", f"{TENANT}.{OBJECT}")
    assert not person.is_authoritative


async def test_the_issuer_of_one_tenant_with_the_id_of_another(entra: OpenIDServer) -> None:
    entra.claims |= {"tid": OTHER_TENANT}
    entra.metadata["issuer"] = f"{entra.url}/{TENANT}/v2.0"
    entra.replies[f"/{TENANT}/v2.0" + OPENID] = entra.replies[OPENID]
    options = entra.options(issuer=entra.metadata["issuer"])
    for tenants in (None, TENANT, OTHER_TENANT):
        with pytest.raises(ProviderAnswerRefused) as caught:
            await log_in(one("microsoft", options | ({"tenants": tenants} if tenants else {})))
        assert caught.value.reason == "person ValueError"


async def test_the_answer_of_another_tenant(entra: OpenIDServer) -> None:
    upstream = microsoft(entra)
    flow = flow_of()
    url = await upstream.authorization_url(flow, redirect_uri=REDIRECT_URI)
    code = "the-code"
    entra.visits[code] = {name: it[0] for name, it in parse_qs(urlsplit(url).query).items()}
    callback = Callback(code, f"{entra.url}/{OTHER_TENANT}/v2.0")
    with pytest.raises(ProviderAnswerRefused) as caught:
        await upstream.person(callback, flow, redirect_uri=REDIRECT_URI)
    assert caught.value.reason == "iss"
    await upstream.close()


# Apple: https://developer.apple.com/documentation/signinwithapplerestapi


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "AuthKey_ABC123DEFG.p8"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def apple_options(server: OpenIDServer, key_file: Path) -> dict[str, Any]:
    return server.options(
        client_secret=None, team_id="DEF123GHIJ", key_id="ABC123DEFG", key_file=key_file
    )


USER = json.dumps(
    {"name": {"firstName": "Jane", "lastName": "Appleseed"}, "email": "evil@example.com"}
)


@pytest.fixture
def apple(server: OpenIDServer) -> OpenIDServer:
    server.claims = {
        "sub": "001999.5a4c1e7ab0aa4ddb8f0c8f6dbe2bd1a4.1022",
        "email": "abc123@privaterelay.appleid.com",
        "email_verified": "true",
        "is_private_email": "true",
        "nonce_supported": True,
    }
    server.metadata["userinfo_endpoint"] = None
    server._is_client = lambda form: True  # type: ignore[method-assign]  # the secret is looked at below
    return server


async def test_apple(apple: OpenIDServer, key_file: Path) -> None:
    upstream = one("apple", apple_options(apple, key_file))
    assert upstream.is_form_post
    url = await upstream.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    query = parse_qs(urlsplit(url).query)
    assert (query["response_mode"], query["scope"]) == (["form_post"], ["openid email name"])
    person = await log_in(upstream, user=USER)
    assert person.subject == "001999.5a4c1e7ab0aa4ddb8f0c8f6dbe2bd1a4.1022"
    assert person.email == "abc123@privaterelay.appleid.com"  # never that of `user`, unsigned
    assert (person.email_verified, person.is_authoritative) == (True, True)
    assert person.name == "Jane Appleseed"


@pytest.mark.parametrize("verified", [True, "true"])
async def test_verified_addresses_of_apple(
    apple: OpenIDServer, key_file: Path, verified: object
) -> None:
    apple.claims["email_verified"] = verified
    assert (await log_in(one("apple", apple_options(apple, key_file)))).is_authoritative


@pytest.mark.parametrize("verified", [False, "false", None, 1, "True", ["true"]], ids=repr)
async def test_unverified_addresses_of_apple(
    apple: OpenIDServer, key_file: Path, verified: object
) -> None:
    apple.claims["email_verified"] = verified
    assert not (await log_in(one("apple", apple_options(apple, key_file)))).is_authoritative


@pytest.mark.parametrize(
    "user",
    ["", "null", "[]", "{", '{"name": 7}', '{"name": {"firstName": 7}}', "\ud800", "x" * 100_000,
     '{"name": {"firstName": "a", "firstName": "b"}}', '{"name": {}}', "[" * 5000],
    ids=range(11),
)  # fmt: skip
async def test_a_user_of_apple_that_is_no_name(
    apple: OpenIDServer, key_file: Path, user: str
) -> None:
    assert (await log_in(one("apple", apple_options(apple, key_file)), user=user)).name is None


async def test_the_client_secret_of_apple(apple: OpenIDServer, key_file: Path) -> None:
    apple.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    upstream = one("apple", apple_options(apple, key_file))
    await log_in(upstream)
    secret = apple.forms[0]["client_secret"]
    assert jwt.get_unverified_header(secret) == {"alg": "ES256", "kid": "ABC123DEFG", "typ": "JWT"}
    key = load_pem_private_key(await asyncio.to_thread(key_file.read_bytes), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    claims = jwt.decode(secret, key.public_key(), algorithms=["ES256"], audience=apple.url)
    assert (claims["iss"], claims["sub"]) == ("DEF123GHIJ", CLIENT_ID)
    assert claims["exp"] - claims["iat"] == 300


def test_a_key_of_apple_that_cannot_be_used(key_file: Path) -> None:
    options = {"client_id": "x", "team_id": "T", "key_id": "K", "key_file": key_file}
    for missing in ("team_id", "key_id", "key_file"):
        with pytest.raises(
            ConfigurationError, match=f"the provider apple needs the option {missing}"
        ):
            one("apple", {name: it for name, it in options.items() if name != missing})
    other, own = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    der = own.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    unknown = base64.encodebytes(der.replace(P256, P256[:-1] + b"\x7f"))
    for data in (
        b"",
        b"no key",
        b"\xff" * 100_000,
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        own.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ),
        b"-----BEGIN PRIVATE KEY-----\n" + unknown + b"-----END PRIVATE KEY-----\n",
    ):
        key_file.write_bytes(data)
        with pytest.raises(ConfigurationError, match="has no private key for ES256"):
            one("apple", options)
    key_file.unlink()
    for path in (key_file, key_file.parent):
        with pytest.raises(ConfigurationError, match="the key_file of apple cannot be read"):
            one("apple", options | {"key_file": path})


# GitHub: https://docs.github.com/rest/users


@pytest.fixture
def github(server: OpenIDServer) -> OpenIDServer:
    server.userinfo = {"login": "octocat", "id": 583231, "name": "monalisa octocat", "email": None}
    server.replies["/emails"] = Reply(
        [
            {"email": "spare@example.com", "verified": True, "primary": False, "visibility": None},
            {"email": "octocat@github.example", "verified": True, "primary": True},
        ]
    )
    server.token_response = {"id_token": None, "scope": "read:user,user:email"}
    server.sends_issuer = False
    return server


def github_options(server: OpenIDServer, **changed: Any) -> dict[str, Any]:
    return {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "issuer": "https://github.com/login/oauth",
        "authorization_url": server.url + AUTHORIZE,
        "token_url": server.url + TOKEN,
        "userinfo_url": server.url + USERINFO,
        "emails_url": server.url + "/emails",
    } | changed


@pytest.mark.parametrize("trusts", [True, False])
async def test_github(github: OpenIDServer, trusts: bool) -> None:
    person = await log_in(one("github", github_options(github, trust_email=trusts)))
    assert (person.issuer, person.subject) == ("https://github.com/login/oauth", "583231")
    assert (person.email, person.email_verified) == ("octocat@github.example", True)
    assert person.is_authoritative is trusts
    assert person.name == "monalisa octocat"
    assert github.asked[OPENID] == 0  # it has no metadata for logins


async def test_the_issuer_of_github(github: OpenIDServer) -> None:
    """GitHub has sent `iss` in its answers since 2026."""
    flow = flow_of()
    for issuer, works in (("https://github.com/login/oauth", True), (github.url, False)):
        upstream = one("github", github_options(github))
        url = await upstream.authorization_url(flow, redirect_uri=REDIRECT_URI)
        query = {name: it[0] for name, it in parse_qs(urlsplit(url).query).items()}
        assert "nonce" not in query
        assert query["code_challenge_method"] == "S256"
        github.visits["code"] = query
        arriving = upstream.person(Callback("code", issuer), flow, redirect_uri=REDIRECT_URI)
        if works:
            assert (await arriving).subject == "583231"
        else:
            with pytest.raises(ProviderAnswerRefused):
                await arriving
        await upstream.close()


@pytest.mark.parametrize("number", [None, "583231", 0, -1, 1.5, 583231.0, True, [583231]], ids=repr)
async def test_ids_of_github_that_are_none(github: OpenIDServer, number: object) -> None:
    github.userinfo["id"] = number
    with pytest.raises(ProviderAnswerRefused) as caught:
        await log_in(one("github", github_options(github)))
    assert caught.value.reason == "person ValueError"


async def test_a_long_id_keeps_its_digits(github: OpenIDServer) -> None:
    github.userinfo["id"] = 12345678901234567890123
    assert (await log_in(one("github", github_options(github)))).subject == (
        "12345678901234567890123"
    )


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"message": "Not Found"}, 404),
        Reply([]),
        Reply({"email": "x"}),
        Reply([7, {"email": "a@example.com", "verified": "true", "primary": "true"}]),
        Reply([{"email": "a@example.com", "verified": True}]),
    ],
    ids=range(5),
)
async def test_a_github_account_whose_address_is_not_shared(
    github: OpenIDServer, reply: Reply
) -> None:
    github.userinfo["email"] = "public@example.com"  # not verified, so not used
    github.replies["/emails"] = reply
    person = await log_in(one("github", github_options(github)))
    assert (person.email, person.is_authoritative) == (None, False)


@pytest.mark.parametrize("path", [USERINFO, "/emails"])
@pytest.mark.parametrize(
    "reply",
    [
        Reply({"message": "API rate limit exceeded"}, 403, {"x-ratelimit-remaining": "0"}),
        Reply({"message": "You have exceeded a secondary rate limit"}, 403, {"retry-after": "60"}),
        Reply({"message": "Too many requests"}, 429),
    ],
    ids=["primary", "secondary", "429"],
)
async def test_a_rate_limit_of_github_is_an_outage(
    github: OpenIDServer, path: str, reply: Reply
) -> None:
    """Otherwise the person would be taken for one without an address."""
    github.replies[path] = reply
    with pytest.raises(ProviderUnavailable):
        await log_in(one("github", github_options(github)))


def test_the_addresses_of_github_are_on_one_page() -> None:
    found = one("github", {"client_id": "x", "client_secret": "y"}).provider
    assert found.further_urls == {"emails": "https://api.github.com/user/emails?per_page=100"}


@pytest.mark.parametrize("name", ["github", "naver"])
def test_the_people_of_another_server_need_an_issuer(name: str) -> None:
    """Its person 583231 is not that of github.com."""
    options = {"client_id": "x", "client_secret": "y"}
    other = options | {"type": name, "userinfo_url": "https://github.corp.example/api/v3/user"}
    with pytest.raises(ConfigurationError) as caught:
        one("corp", other)
    assert str(caught.value) == (
        "the provider corp needs the option issuer, a URL that stands for the server of its"
        " userinfo_url"
    )
    assert one("corp", other | {"issuer": "https://github.corp.example"}).provider.issuer == (
        "https://github.corp.example"
    )


async def test_an_error_of_github_has_the_status_200(github: OpenIDServer) -> None:
    github.replies[TOKEN] = Reply({"error": "bad_verification_code"})
    with pytest.raises(ProviderRefused):
        await log_in(one("github", github_options(github)))


async def test_a_step_up_at_github_is_not_possible(github: OpenIDServer) -> None:
    upstream = one("github", github_options(github))
    assert not upstream.proves_fresh_login
    person = await come_back(upstream, flow_of(FlowIntent.LINK))
    assert person.auth_time is None
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(upstream, flow_of(FlowIntent.STEP_UP))
    assert caught.value.reason == "id_token auth_time"
    await upstream.close()


# Kakao: https://developers.kakao.com/docs/latest/en/kakaologin/rest-api


@pytest.fixture
def kakao(server: OpenIDServer) -> OpenIDServer:
    server.claims = {"sub": "3141592653589", "nickname": "Jane", "email": "spoof@example.com"}
    server.userinfo = {
        "id": 3141592653589,
        "connected_at": "2022-04-11T01:45:28Z",
        "kakao_account": {
            "profile": {"nickname": "\ud64d\uae38\ub3d9"},
            "is_email_valid": True,
            "is_email_verified": True,
            "email": "sample@kakao.example",
        },
    }
    return server


def kakao_options(server: OpenIDServer) -> dict[str, Any]:
    return server.options(userinfo_url=server.url + USERINFO)


async def test_kakao(kakao: OpenIDServer) -> None:
    person = await log_in(one("kakao", kakao_options(kakao)))
    assert (person.subject, person.name) == ("3141592653589", "\ud64d\uae38\ub3d9")
    assert (person.email, person.is_authoritative) == ("sample@kakao.example", True)


@pytest.mark.parametrize(
    "account",
    [
        {"is_email_valid": False},
        {"is_email_verified": False},
        {"is_email_verified": "true"},
        {"is_email_valid": 1},
        {"email": None},
    ],
    ids=str,
)
async def test_addresses_of_kakao(kakao: OpenIDServer, account: dict[str, Any]) -> None:
    kakao.userinfo["kakao_account"] |= account
    assert not (await log_in(one("kakao", kakao_options(kakao)))).is_authoritative


@pytest.mark.parametrize(
    "answer",
    [{"code": -401, "msg": "this access token does not exist"}, {"code": -10}, {"id": None}, {}],
    ids=str,
)
async def test_result_codes_of_kakao(kakao: OpenIDServer, answer: dict[str, Any]) -> None:
    kakao.userinfo = answer
    with pytest.raises(ProviderAnswerRefused):
        await log_in(one("kakao", kakao_options(kakao)))


@pytest.mark.parametrize("text", ["3.141592653589e12", "3141592653589.0", "9" * 5000, "0x2"])
async def test_ids_in_other_notations(kakao: OpenIDServer, text: str) -> None:
    kakao.replies[USERINFO] = Reply(f'{{"id": {text}}}'.encode())
    with pytest.raises(ProviderAnswerRefused):
        await log_in(one("kakao", kakao_options(kakao)))


@pytest.mark.parametrize("account", [None, [], "x", {}, {"profile": 7}], ids=repr)
async def test_a_kakao_account_without_an_address(kakao: OpenIDServer, account: object) -> None:
    kakao.userinfo["kakao_account"] = account
    person = await log_in(one("kakao", kakao_options(kakao)))
    assert (person.email, person.email_verified) == (None, False)
    assert person.subject == "3141592653589"


@pytest.mark.parametrize(
    "number", [3141592653590, "3141592653589", None, 3141592653589.0, True, [3141592653589], -1]
)
async def test_another_person_of_kakao(kakao: OpenIDServer, number: object) -> None:
    kakao.userinfo["id"] = number
    with pytest.raises(ProviderAnswerRefused) as caught:
        await log_in(one("kakao", kakao_options(kakao)))
    assert caught.value.reason == "userinfo sub"


# Naver: https://developers.naver.com/docs/login/profile/profile.md


@pytest.fixture
def naver(server: OpenIDServer) -> OpenIDServer:
    server.userinfo = {
        "resultcode": "00",
        "message": "success",
        "response": {
            "id": "32742776",
            "email": "openapi@naver.example",
            "nickname": "OpenAPI",
            "name": "\uc624\ud508 API",
        },
    }
    server.token_response = {"id_token": None}
    server.sends_issuer = False
    return server


def naver_options(server: OpenIDServer) -> dict[str, Any]:
    options = github_options(server, issuer="https://nid.naver.com")
    del options["emails_url"]
    return options


async def test_naver(naver: OpenIDServer) -> None:
    person = await log_in(one("naver", naver_options(naver)))
    assert (person.issuer, person.subject) == ("https://nid.naver.com", "32742776")
    assert (person.email, person.name) == ("openapi@naver.example", "\uc624\ud508 API")
    assert (person.email_verified, person.is_authoritative) == (False, False)
    assert naver.forms[0]["state"] == flow_of().state


@pytest.mark.parametrize(
    "userinfo",
    [
        {"resultcode": "024", "message": "Authentication failed"},
        {"resultcode": "00"},
        {"resultcode": "00", "response": {"id": ""}},
        {"resultcode": "00", "response": {"id": " "}},
        {"resultcode": "00", "response": {"id": " 32742776"}},
        {"resultcode": "00", "response": {"id": "32742776\u00a0"}},
        {"resultcode": 0, "response": {"id": "32742776"}},
        {"resultcode": "00", "response": {"id": 32742776}},
        {"resultcode": "00", "response": {"id": None}},
        {"resultcode": "00", "response": ["32742776"]},
        {"resultcode": "00", "response": {"id": "x" * 256}},
        {"resultcode": "00", "response": {"id": "a\tb"}},
        {"response": {"id": "32742776"}},
        {},
    ],
    ids=range(14),
)
async def test_answers_of_naver_that_are_refused(
    naver: OpenIDServer, userinfo: dict[str, Any]
) -> None:
    naver.userinfo = userinfo
    with pytest.raises(ProviderAnswerRefused):
        await log_in(one("naver", naver_options(naver)))


async def test_naver_without_an_address(naver: OpenIDServer) -> None:
    naver.userinfo["response"] = {"id": "32742776"}
    person = await log_in(one("naver", naver_options(naver)))
    assert (person.email, person.name) == (None, None)


def test_all_of_them_have_secure_endpoints(tmp_path: Path) -> None:
    for name in ("google", "microsoft", "github", "kakao", "naver"):
        found = one(name, {"client_id": "x", "client_secret": "y"}).provider
        urls = (
            found.issuer,
            found.authorization_url,
            found.token_url,
            found.userinfo_url,
            found.jwks_url,
            *found.further_urls.values(),
        )
        assert all(url.startswith("https://") for url in urls if url), name


def test_logins_at_two_providers_do_not_wait_for_one_another(server: OpenIDServer) -> None:
    """A provider that hangs uses no connection of another."""
    found = upstreams_of(one=server.options(), two=server.options())
    first, second = found.find("one"), found.find("two")
    assert first._client is not second._client
    asyncio.run(found.aclose())
