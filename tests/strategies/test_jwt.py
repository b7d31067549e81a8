"""JWTs: the contract, forged tokens, and verification by other libraries."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import joserfc.jwk
import joserfc.jwt
import jwt as pyjwt
import pytest
import time_machine
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authapi import create_app
from authapi.crypto import jwk
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.services.keys.key_set import KeySet
from authapi.services.keys.signing import Keys
from authapi.testing import PASSWORD, Client, client
from authapi.testing.strategy_contract import START, RevocableContract
from authapi.testing.strategy_harness import (
    Credential,
    Harness,
    Headers,
    bearer_of,
    refusal,
    statements,
)
from tests.conftest import SettingsFactory
from tests.known_key import FOREIGN, KEY
from tests.storage.rows import sql
from tests.strategies.on_each_database import OnEachDatabase

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = "http://127.0.0.1:8000"

Claims = dict[str, Any]


@pytest.fixture(autouse=True)
def _known_key(known_key: None) -> None:
    """Gives the tests the key with which the service signs."""


def compact(
    header: Mapping[str, object] | bytes, claims: object, sign: Callable[[bytes], bytes]
) -> str:
    """Returns a token with exactly these parts, valid or not."""
    parts = [part if isinstance(part, bytes) else _json(part) for part in (header, claims)]
    signed = b".".join(map(_encode, parts))
    return b".".join((signed, _encode(sign(signed)))).decode()


def header_of(key: jwk.SigningKey = KEY, **changes: object) -> dict[str, object]:
    return {"alg": "ES256", "typ": "at+jwt", "kid": key.verifying.kid} | changes


def signed(claims: object, **header: object) -> str:
    """Returns a token with a valid signature of the service."""
    return compact(header_of() | header, claims, KEY.key.sign)


def claims_of(token: str) -> Claims:
    """Returns the claims of a token without verification."""
    payload = token.split(".")[1]
    found = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(found, dict)
    return found


def without(claims: Claims, name: str) -> Claims:
    return {key: value for key, value in claims.items() if key != name}


def forgeries(good: str) -> dict[str, str]:
    """Returns malformed tokens that no signature makes valid, by what is wrong with them."""
    claims = claims_of(good)
    head, payload, signature = good.split(".")
    alien = {**claims, "sub": str(uuid4())}
    tokens = {
        "another payload": f"{head}.{_encode(_json(alien)).decode()}.{signature}",
        "another header": f"{_encode(_json(header_of(kid='x'))).decode()}.{payload}.{signature}",
        "no signature": f"{head}.{payload}.",
        "half a signature": f"{head}.{payload}.{signature[:43]}",
        "signature of zeros": f"{head}.{payload}.{_encode(bytes(64)).decode()}",
        "padded": good + "=",
        "padded more": good + "====",
        "another alphabet": f"{head}.{payload}.{'+' + signature[1:]}",
        "last character respelt": good[:-1] + _respelt(good[-1]),
        "empty segments": "..",
        "garbage": "a.b.c",
        "not ASCII": f"{head}.{payload}é.{signature}",
        "our kid, a foreign key": compact(header_of(), claims, FOREIGN.key.sign),
        "a foreign key": compact(header_of(FOREIGN), claims, FOREIGN.key.sign),
        "another service, the same claims": signed({**claims, "iss": "https://evil.example"}),
        "header is no JSON": compact(b"{", claims, KEY.key.sign),
        "header is a list": compact(b"[]", claims, KEY.key.sign),
        "header names a member twice": compact(
            b'{"alg":"none",' + _json(header_of())[1:], claims, KEY.key.sign
        ),
        "claims are a list": signed([claims]),
        "claims name a member twice": compact(
            header_of(), b'{"sub":"x",' + _json(claims)[1:], KEY.key.sign
        ),
        "no sid": signed(without(claims, "sid")),
        "sid is no UUID": signed({**claims, "sid": "1"}),
        "sid is a list": signed({**claims, "sid": [claims["sid"]]}),
        "sub is no UUID": signed({**claims, "sub": "alice"}),
    }
    wrong: list[object] = [None, {}, [], True, "", "x", ["x"], [None], 7.5e300]
    for name in ("iss", "sub", "aud", "exp", "iat", "jti"):
        tokens[f"no {name}"] = signed(without(claims, name))
        for value in wrong:
            if (name, value) != ("jti", "x"):  # any text is valid here
                tokens[f"{name} is {value}"] = signed({**claims, name: value})
    for exp in (str(claims["exp"]), "9999999999", claims["iat"] - 1, 0, -1, 1 << 60):
        tokens[f"exp is {exp!r}"] = signed({**claims, "exp": exp})
    past = {"iat": claims["iat"] - 100, "exp": claims["iat"] - 10}
    tokens["exp is over"] = signed({**claims, **past})
    for number in ("1e400", "NaN", "Infinity", "-1e400"):
        raw = _json(without(claims, "exp"))[:-1] + f',"exp":{number}}}'.encode()
        tokens[f"exp is {number}"] = compact(header_of(), raw, KEY.key.sign)
    tokens["aud is a list of mixed things"] = signed({**claims, "aud": ["authapi", None]})
    tokens["nbf ahead"] = signed({**claims, "nbf": claims["exp"] - 1})
    tokens["iat ahead"] = signed({**claims, "iat": claims["iat"] + 300})
    for typ in ("JWT", "jwt", "at+JWT", "application/at+jwt", "refresh+jwt", None, 1, ["at+jwt"]):
        tokens[f"typ is {typ}"] = signed(claims, typ=typ)
    tokens["no typ"] = compact({"alg": "ES256", "kid": KEY.verifying.kid}, claims, KEY.key.sign)
    members: dict[str, object] = {
        "crit": ["b64"],
        "b64": False,
        "jku": "https://evil.example/jwks.json",
        "jwk": dict(FOREIGN.verifying.jwk),
        "x5u": "https://evil.example/cert",
        "cty": "JWT",
        "zip": "DEF",
    }
    for name, value in members.items():
        tokens[f"header has {name}"] = signed(claims, **{name: value})
    for kid in ("", "../../dev/null", "' OR 1=1", None, 7, [KEY.verifying.kid]):
        tokens[f"kid is {kid}"] = signed(claims, kid=kid)
    return tokens | algorithms(claims)


def algorithms(claims: Claims) -> dict[str, str]:
    """Returns tokens that try to choose their verification."""
    found = {}
    none: list[object] = ["none", "None", "nOnE", "NONE", "", None]
    for alg in none:
        found[f"alg is {alg}, unsigned"] = compact(header_of(alg=alg), claims, lambda _: b"")
        found[f"alg is {alg}, signed"] = compact(header_of(alg=alg), claims, KEY.key.sign)
    public = pyjwt.PyJWK(dict(KEY.verifying.jwk)).key
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for form, secret in {
        "PEM": pem,
        "PEM without its last newline": pem.strip(),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "X9.62": public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        "JWK": _json(KEY.verifying.jwk),
        "empty": b"",
    }.items():
        for name, digest in (("HS256", "sha256"), ("HS512", "sha512")):
            found[f"alg is {name}, the secret is the public key as {form}"] = compact(
                header_of(alg=name), claims, partial(_mac, secret, digest)
            )
    others: list[object] = ["ES384", "RS256", "PS256", "EdDSA", "S256", ["ES256"], {"ES256": 1}, 7]
    for alg in others:
        found[f"alg is {alg}"] = compact(header_of(alg=alg), claims, KEY.key.sign)
    return found


class TestJWT(OnEachDatabase, RevocableContract):
    spec = "jwt"
    is_cached = True
    settings: ClassVar[Mapping[str, object]] = {"secret": SECRET}

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        # An unknown key may cost a query for newer keys once a second: tested below.
        return {
            reason: _bearer(token)
            for reason, token in forgeries(good.secret).items()
            if not names_a_stranger(token)
        }

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        claims = claims_of(good.secret)
        return {
            "no such session": _bearer(signed({**claims, "sid": str(uuid4())})),
            "session of another user": _bearer(signed({**claims, "sub": str(uuid4())})),
        }


def names_a_stranger(token: str) -> bool:
    """Whether the header names an unknown key."""
    head = token.split(".", maxsplit=1)[0]
    try:
        kid = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
    return isinstance(kid, str) and kid != KEY.verifying.kid


async def test_unknown_keys_are_looked_up_once_a_second(api: Client) -> None:
    tokens = [token for token in forgeries(await token_of(api)).values() if names_a_stranger(token)]
    assert len(tokens) > 4
    began = time.monotonic()
    with statements(api) as seen:
        for token in tokens * 10:
            answer = await api.get("/me", headers=_bearer(token))
            assert refusal(answer)["code"] == "unauthenticated"
    assert 1 <= len(seen) <= 1 + time.monotonic() - began
    assert all("FROM authapi_signing_keys" in text for text in seen)


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The shipped app with a secret that the test knows."""
    async with client(create_app(make_settings(secret=SECRET))) as found:
        yield found


async def token_of(api: Client) -> str:
    alice = await api.create_user()
    body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
    return bearer_of(await api.post("/login", json=body)).secret


async def status(api: Client, token: str) -> int:
    return (await api.get("/me", headers=_bearer(token))).status_code


async def test_without_the_keys_nothing_is_created_or_rotated(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that gets no token would not know of its session."""
    alice = await api.create_user()
    body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
    refresh_token = (await api.post("/login", json=body)).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    url = api.services.settings.resolved_database_url
    query = "SELECT session_id, current_hash FROM authapi_refresh_families"
    before = sql(url, query)

    async def refuse(_: Keys) -> KeySet:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(Keys, "key_set", refuse)
        assert (await api.post("/login", json=body)).status_code == 503
        assert (await api.post("/token", data=form)).status_code == 503
    assert sql(url, query) == before
    assert len(before) == 1


async def test_login_response_has_the_token_members(api: Client) -> None:
    alice = await api.create_user()
    answer = await api.login(alice, strategy="jwt")
    body = answer.json()
    assert body.keys() == {
        "user",
        "strategy",
        "access_token",
        "token_type",
        "expires_in",
        "expires_at",
        "refresh_token",
        "refresh_expires_in",
    }
    assert (body["token_type"], body["expires_in"]) == ("bearer", 600)
    assert body["refresh_token"].startswith("art_")
    assert body["refresh_expires_in"] == 14 * 86400
    assert "set-cookie" not in answer.headers


async def test_token_signed_by_the_test_is_valid(api: Client) -> None:
    # So the forged tokens are refused for their change only.
    claims = claims_of(await token_of(api))
    for token in (
        signed(claims),
        signed({**claims, "aud": ["other", "authapi"]}),
        signed({**claims, "nbf": claims["iat"]}),
        signed({**claims, "exp": claims["exp"] - 0.5}),
        signed({**claims, "more": "claims"}),
        signed(without(without(claims, "amr"), "auth_time")),
    ):
        assert await status(api, token) == 200, claims_of(token)


async def test_token_claims_follow_rfc_9068(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        secret=SECRET,
        public_url="https://auth.example.com/",
        jwt_audience="reports",
        scopes={"reports:read": "Read", "a": "A"},
    )
    with time_machine.travel(START, tick=False):
        async with client(create_app(settings)) as api:
            token = await token_of(api)
            alice = (await api.get("/me", headers=_bearer(token))).json()
            seen = (await api.get("/me/identity", headers=_bearer(token))).json()
    head = token.split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))) == header_of()
    claims = claims_of(token)
    issued = int(START.timestamp())
    assert len(claims.pop("jti")) == 43
    assert claims == {
        "iss": "https://auth.example.com",
        "sub": alice["id"],
        "aud": "reports",
        "iat": issued,
        "exp": issued + 600,
        "auth_time": issued,
        "amr": ["pwd"],
        "acr": "urn:authapi:acr:1",
        "sid": seen["session_id"],
        "client_id": "authapi",
        "scope": "a reports:read",
    }
    for name in ("email", "name"):
        assert alice[name] is None or alice[name] not in json.dumps(claims)


async def test_token_expires_exactly_at_exp(make_settings: SettingsFactory) -> None:
    settings = make_settings(secret=SECRET, jwt_lifetime=timedelta(seconds=60))
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(settings)) as api:
            token = await token_of(api)
            ends = claims_of(token)["exp"]
            clock.move_to(ends - 0.001, tick=False)
            assert await status(api, token) == 200
            clock.move_to(ends, tick=False)
            with statements(api) as seen:
                assert await status(api, token) == 401
            assert len(seen) == 0, "refused by the signature check, without a query"


async def test_token_does_not_outlive_the_session(make_settings: SettingsFactory) -> None:
    # Even with a leaked signing key, the session row decides.
    settings = make_settings(
        secret=SECRET,
        refresh_idle=timedelta(minutes=20),
        refresh_absolute=timedelta(minutes=20),
        jwt_lifetime=timedelta(hours=1),
    )
    with time_machine.travel(START, tick=False) as clock:
        async with client(create_app(settings)) as api:
            claims = claims_of(await token_of(api))
            assert claims["exp"] == claims["iat"] + 1200
            token = signed({**claims, "exp": claims["iat"] + 3600})
            assert await status(api, token) == 200
            clock.move_to(START + timedelta(minutes=20), tick=False)
            assert await status(api, token) == 401


async def test_token_lifetime_is_limited_on_verification(api: Client) -> None:
    claims = claims_of(await token_of(api))
    assert await status(api, signed({**claims, "exp": claims["iat"] + 601})) == 401
    assert await status(api, signed(claims)) == 200


async def test_sid_of_a_cookie_session_is_refused(api: Client) -> None:
    # The id of a cookie session is not secret: the list of sessions shows it.
    alice = await api.create_user()
    await api.login(alice)
    session = (await api.get("/me/identity")).json()["session_id"]
    api.cookies.clear()
    claims = claims_of(await token_of(api))
    assert await status(api, signed({**claims, "sub": str(alice.id), "sid": session})) == 401


async def test_changed_byte_invalidates_the_token(api: Client) -> None:
    token, began = await token_of(api), time.monotonic()
    with statements(api) as seen:
        for index, char in enumerate(token):
            other = "A" if char != "A" else "B"
            assert await status(api, token[:index] + other + token[index + 1 :]) == 401, index
    # Another process may have created an unknown key: looked up once a second.
    assert all("FROM authapi_signing_keys" in text for text in seen)
    assert len(seen) <= 1 + time.monotonic() - began
    assert await status(api, token) == 200


async def test_a_token_of_another_installation_is_refused(
    api: Client, make_settings: SettingsFactory
) -> None:
    """A token with another issuer or audience, or signed with another secret, is refused."""
    token = await token_of(api)
    assert await status(api, token) == 200
    for changes in (
        {"secret": SECRET, "public_url": "https://other.example.com"},
        {"secret": SECRET, "port": 8001},
        {"secret": SECRET, "jwt_audience": "other"},
    ):
        async with client(create_app(make_settings(**changes))) as other:
            assert await status(other, token) == 401, changes
    with pytest.raises(ConfigurationError, match="another secret"):
        async with client(create_app(make_settings(secret=SECRET + "!"))):
            pass
    async with client(create_app(make_settings(secret=SECRET))) as same:
        assert await status(same, token) == 200


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
async def test_deeply_nested_header_is_refused_before_parsing(
    make_settings: SettingsFactory, bracket: str
) -> None:
    # python-jose raises RecursionError for this, before it verifies the signature.
    for depth, wide, expected in ((12_000, False, 431), (12_000, True, 401), (1_000, True, 401)):
        limits = {"max_credential_bytes": 1 << 20, "max_header_bytes": 1 << 20} if wide else {}
        async with client(create_app(make_settings(secret=SECRET, **limits))) as api:
            claims = claims_of(await token_of(api))
            raw = b'{"alg":"ES256","typ":"at+jwt","kid":' + bracket.encode() * depth
            for token in (
                compact(raw, claims, KEY.key.sign),
                compact(header_of(), raw, KEY.key.sign),
            ):
                began = time.perf_counter()
                answer = await api.get("/me", headers=_bearer(token))
                assert time.perf_counter() - began < 5
                assert answer.status_code == expected, depth


async def test_all_invalid_tokens_have_the_same_response(api: Client) -> None:
    token = await token_of(api)
    answers = []
    for bad in forgeries(token).values():
        header = (b"Authorization", f"Bearer {bad}".encode())
        answers.append(await api.get("/me", headers=[header]))
    assert len(answers) > 100
    assert len({json.dumps(refusal(answer)) for answer in answers}) == 1
    assert len({str(answer.headers.get_list("www-authenticate")) for answer in answers}) == 1


async def test_other_library_verifies_it_with_the_published_keys(api: Client) -> None:
    token = await token_of(api)
    answer = await api.get("/.well-known/jwks.json")
    assert answer.headers["cache-control"].startswith("public, max-age=")
    published = answer.json()
    assert all("d" not in key for key in published["keys"]), "public key members only"

    by_kid = pyjwt.PyJWKSet.from_dict(published)
    key = by_kid[pyjwt.get_unverified_header(token)["kid"]]
    claims = pyjwt.decode(token, key, algorithms=["ES256"], audience="authapi", issuer=ISSUER)
    assert claims == claims_of(token)

    keys = joserfc.jwk.KeySet.import_key_set(published)
    decoded = joserfc.jwt.decode(token, keys, algorithms=["ES256"])
    assert decoded.claims == claims
    assert decoded.header["typ"] == "at+jwt"
    joserfc.jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": ISSUER},
        aud={"essential": True, "value": "authapi"},
        exp={"essential": True},
    ).validate(decoded.claims)

    head, payload, signature = token.split(".")
    tampered = f"{head}.{payload}.{('A' if signature[0] != 'A' else 'B') + signature[1:]}"
    with pytest.raises(pyjwt.InvalidSignatureError):
        pyjwt.decode(tampered, key, algorithms=["ES256"], audience="authapi")


async def test_processes_on_one_database_share_the_keys(
    api: Client, make_settings: SettingsFactory
) -> None:
    async with client(create_app(make_settings(secret=SECRET))) as other:
        answers = [await one.get("/.well-known/jwks.json") for one in (api, other)]
    assert answers[0].json() == answers[1].json()
    assert dict(KEY.verifying.jwk) in answers[0].json()["keys"]


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _mac(secret: bytes, digest: str, data: bytes) -> bytes:
    return hmac.digest(secret, data, digest)


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _respelt(char: str) -> str:
    """Returns another last character that decodes to the same 64 bytes of a signature."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(char) | 1]
