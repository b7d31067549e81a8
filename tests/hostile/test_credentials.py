"""Malformed, forged and duplicate credentials: the response is always the same 401."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from authapi import Settings
from authapi.clock import now
from authapi.crypto import jwk
from authapi.crypto.secrets import new_opaque_token, new_secret
from authapi.domain.user import User
from authapi.testing import PASSWORD
from tests.conftest import SettingsFactory
from tests.hostile.checked_app import CheckedApp, open_checked_app, raw
from tests.hostile.nasty_json import CANARY
from tests.known_key import FOREIGN, KEY
from tests.web.logins import STRATEGIES, sign_in
from tests.web.responses import BEARER, problem, unnamed

SECRET = "a secret that is used only by these tests"
CLIENTS_AT = {"/token/introspect"}
"""Paths where `Basic` is client authentication."""


@pytest.fixture
async def app(database_url: str, caplog: pytest.LogCaptureFixture) -> AsyncIterator[CheckedApp]:
    """The service with all strategies and a known secret, on each database."""
    settings = Settings(
        database_url=SecretStr(database_url),
        secret=SecretStr(SECRET),
        strategies=("session", "token", "jwt", "basic"),
    )
    async with open_checked_app(settings, caplog) as found:
        yield found


def bearer(token: str | bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"authorization", b"Bearer " + (token if isinstance(token, bytes) else token.encode()))
    ]


async def refused(app: CheckedApp, cases: dict[str, list[tuple[bytes, bytes]]]) -> None:
    """Check that all cases get the same 401."""
    answers = set()
    for name, headers in cases.items():
        response = await app.ask("GET", "/me", headers=headers)
        assert response.status_code == 401, name
        problem(response, 401, "unauthenticated")
        _, body, seen = unnamed(response)
        # RFC 6750, section 3.1: `error` is sent only if the request has a token.
        is_bearer = any(value.lower().startswith(b"bearer") for _, value in headers)
        assert ('error="invalid_token"' in str(seen["www-authenticate"])) == is_bearer, name
        answers.add(json.dumps(body, sort_keys=True))
    assert len(answers) == 1


# Bearer


async def test_malformed_tokens_are_refused(app: CheckedApp) -> None:
    good = new_opaque_token()
    texts: list[bytes] = [
        b"",
        b" ",
        b"x",
        CANARY.encode(),
        b"." * 2,
        b"a.b.c",
        b"a.b.c.d.e",
        b"." * 8000,
        b"\xff\xfe",
        b"aat_\xff",
        "aat_ü".encode(),
        b"aat_",
        b"aat_" + b"A" * 49,
        b"aat_" + b"A" * 7000,
        good.encode() + b"A",
        good[:-1].encode(),
        good.upper().encode(),
        good.encode() + b" " + good.encode(),
        good.encode() + b"," + good.encode(),
        b'"' + good.encode() + b'"',
        b"token=" + good.encode(),
        b"null",
        b"undefined",
        b"[object Object]",
        b"\t" + good.encode(),
        b"\x00",
        good.encode(),  # well-formed, but not issued
        new_secret().encode(),
    ]
    await refused(app, {repr(text): bearer(text) for text in texts})


async def test_bearer_scheme_is_parsed_strictly(app: CheckedApp) -> None:
    user = await app.api.create_user()
    token = (await sign_in(app.api.services, user, "token"))["authorization"].split(" ")[1]
    for good in (f"bearer {token}", f"BEARER {token}", f"Bearer  {token} "):
        headers = [(b"authorization", good.encode())]
        assert (await app.ask("GET", "/me", headers=headers)).status_code == 200
    for bad in (f"Bearer{token}", f"Bearer:{token}", f"Token {token}", token, f"Bearer\t{token}"):
        headers = [(b"authorization", bad.encode())]
        problem(await app.ask("GET", "/me", headers=headers), 401, "unauthenticated")


async def test_modified_credentials_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user()
    for strategy in STRATEGIES:
        [(name, value)] = raw(await sign_in(app.api.services, user, strategy))
        start = len(b"authapi=" if strategy == "session" else b"Bearer ")
        for at in range(start, len(value)):
            other = b"A" if value[at : at + 1] != b"A" else b"B"
            changed = value[:at] + other + value[at + 1 :]
            response = await app.ask("GET", "/me", headers=[(name, changed)])
            assert response.status_code == 401, (strategy, at)
        for changed in (value[:-1], value + b"A", value + b"=", value + b"."):
            response = await app.ask("GET", "/me", headers=[(name, changed)])
            assert response.status_code == 401, (strategy, changed)
        assert (await app.ask("GET", "/me", headers=[(name, value)])).status_code == 200


async def test_credentials_are_bound_to_their_strategy(app: CheckedApp) -> None:
    user = await app.api.create_user()
    issued = {}
    for strategy in STRATEGIES:
        [(_, value)] = raw(await sign_in(app.api.services, user, strategy))
        issued[strategy] = value.removeprefix(b"Bearer ").removeprefix(b"authapi=")
    ids = [str(session.id) for session in await app.api.services.sessions.list_for_user(user.id)]
    cases = {
        "cookie as bearer": bearer(issued["session"]),
        "token as cookie": [(b"cookie", b"authapi=" + issued["token"])],
        "jwt as cookie": [(b"cookie", b"authapi=" + issued["jwt"])],
        **{f"id {n} as bearer": bearer(item) for n, item in enumerate(ids)},
        **{f"id {n} as cookie": [(b"cookie", b"authapi=" + i.encode())] for n, i in enumerate(ids)},
    }
    await refused(app, cases)


async def test_invalid_token_is_reported_without_the_session_strategy(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(strategies=("token",), default_strategy="token")
    async with open_checked_app(settings, caplog) as app:
        for headers, error in ((bearer("x"), ', error="invalid_token"'), ([], "")):
            response = await app.ask("GET", "/me", headers=headers)
            problem(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"] == BEARER + error


# JWT


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(header: bytes, payload: bytes, *, key: jwk.SigningKey = KEY) -> str:
    """A token with these bytes and a valid ES256 signature."""
    text = b64(header) + b"." + b64(payload)
    signature = key.key.sign(text)
    return (text + b"." + b64(signature)).decode()


def hashed(header: bytes, payload: bytes, key: bytes, algorithm: str = "sha256") -> str:
    text = b64(header) + b"." + b64(payload)
    return (text + b"." + b64(hmac.new(key, text, algorithm).digest())).decode()


async def claims_of(app: CheckedApp, user: User) -> dict[str, Any]:
    """The claims of a valid JWT of `user`."""
    token = (await sign_in(app.api.services, user, "jwt"))["authorization"].removeprefix("Bearer ")
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    )
    return found


def public_keys() -> Iterator[tuple[str, bytes]]:
    """The public key in each encoding that an attacker could use as an HMAC secret."""
    verifying = KEY.verifying
    x, y = (int.from_bytes(base64.urlsafe_b64decode(verifying.jwk[n] + "=")) for n in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    forms: list[tuple[str, Any, Any]] = [
        ("pem", serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        ("der", serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        ("ssh", serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH),
        ("x962", serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    ]
    for name, encoding, form in forms:
        encoded = key.public_bytes(encoding, form)
        yield name, encoded
        yield f"{name} stripped", encoded.strip()
    yield "jwk", json.dumps(dict(verifying.jwk)).encode()
    yield (
        "jwk sorted",
        json.dumps(dict(verifying.jwk), separators=(",", ":"), sort_keys=True).encode(),
    )
    yield "kid", verifying.kid.encode()
    yield "empty", b""


async def test_forged_jwt_headers_are_refused(app: CheckedApp) -> None:
    claims = await claims_of(app, await app.api.create_user())
    payload = json.dumps(claims).encode()
    kid = KEY.verifying.kid
    good = {"alg": "ES256", "typ": "at+jwt", "kid": kid}
    fine = await app.ask("GET", "/me", headers=bearer(signed(json.dumps(good).encode(), payload)))
    assert fine.status_code == 200

    cases: dict[str, list[tuple[bytes, bytes]]] = {}
    members: dict[str, list[Any]] = {
        "alg": [
            *("none", "None", "NONE", "nOnE", "", None, ["ES256"], {}, 1),
            *("HS256", "HS384", "RS256", "PS256", "ES384", "EdDSA", "es256"),
        ],
        "typ": ["JWT", "jwt", "rt+jwt", "AT+JWT", "", None, 1, ["at+jwt"]],
        "kid": ["", None, 1, [kid], {}, CANARY, "../../dev/null", "' OR 1=1 --"],
    }
    changes: list[dict[str, Any]] = [
        *({name: value} for name, values in members.items() for value in values),
        {"kid": "x" * 5000},
        {"kid": kid + "\n"},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"jwk": dict(FOREIGN.verifying.jwk)},
        {"x5c": ["AAAA"]},
        {"x5u": "http://127.0.0.1:1/"},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {CANARY: 1},
    ]
    for number, change in enumerate(changes):
        other = json.dumps({**good, **change}).encode()
        cases[f"signed {number} {change}"[:60]] = bearer(signed(other, payload))
        text = (b64(other) + b"." + b64(payload)).decode()
        for signature in ("", "AA", b64(b"\0" * 64).decode()):
            cases[f"unsigned {number} {signature}"] = bearer(f"{text}.{signature}")
    for missing in good:
        other = json.dumps({k: v for k, v in good.items() if k != missing}).encode()
        cases[f"without {missing}"] = bearer(signed(other, payload))
    for form, key in public_keys():
        for algorithm, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
            for named in ({**good, "alg": algorithm}, {"alg": algorithm, "typ": "at+jwt"}, good):
                token = hashed(json.dumps(named).encode(), payload, key, digest)
                cases[f"{algorithm} of {form} {named}"] = bearer(token)
    header = json.dumps(good).encode()
    cases["another key"] = bearer(signed(header, payload, key=FOREIGN))
    own = {**good, "jwk": dict(FOREIGN.verifying.jwk)}
    cases["its own key"] = bearer(signed(json.dumps(own).encode(), payload, key=FOREIGN))
    for number, broken in enumerate(
        (b"", b"[]", b"null", b'"x"', b"{", b"\xff", b"{}", b"[" * 3000)
    ):
        cases[f"header {number}"] = bearer(signed(broken, payload))
        cases[f"payload {number}"] = bearer(signed(header, broken))
    doubled = header[:-1] + b',"alg":"ES256"}'
    cases["alg twice"] = bearer(signed(doubled, payload))
    cases["sub twice"] = bearer(signed(header, payload[:-1] + b',"sub":"x"}'))
    await refused(app, cases)


async def test_invalid_or_missing_claims_are_refused(app: CheckedApp) -> None:
    user, other = await app.api.create_user(), await app.api.create_user()
    claims = await claims_of(app, user)
    opaque = await sign_in(app.api.services, user, "token")
    identity = await app.ask("GET", "/me/identity", headers=raw(opaque))
    verifying = KEY.verifying
    header = json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": verifying.kid}).encode()
    at = int(now().timestamp())
    changes: list[tuple[str, list[Any]]] = [
        ("exp", [str(claims["exp"]), f" {claims['exp']} ", True, None, [], {}, -1, 2**63, at - 1]),
        ("iat", [str(claims["iat"]), True, None, [], {}, -1, 2**63, at + 3600]),
        ("nbf", ["1", True, None, [], {}, at + 3600]),
        ("iss", ["", None, [claims["iss"]], claims["iss"] + "/", claims["iss"][:-1], "x", 1]),
        ("aud", ["", None, "AUTHAPI", "authap", "authapis", [], ["x"], {"authapi": 1}, 1, [None]]),
        ("sub", ["", None, 1, [claims["sub"]], str(other.id), "x", f"{claims['sub']}\0", "é"]),
        ("jti", ["", None, 1, "\ud800", "x\n"]),
        ("sid", ["", None, 1, [], "x", str(user.id), identity.json()["session_id"], CANARY]),
    ]
    cases = {}
    for name, values in changes:
        for value in values:
            payload = json.dumps({**claims, name: value}).encode()
            cases[f"{name} {value}"] = bearer(signed(header, payload))
        if name != "nbf":
            left = {key: value for key, value in claims.items() if key != name}
            cases[f"no {name}"] = bearer(signed(header, json.dumps(left).encode()))
    over = {**claims, "iat": at - 100, "exp": at - 1}
    cases["over"] = bearer(signed(header, json.dumps(over).encode()))
    for name in ("exp", "iat", "nbf"):
        for number in (b"1e999", b"NaN", b"-Infinity", b"9" * 5000):
            payload = json.dumps({**claims, name: 7331}).encode().replace(b"7331", number)
            cases[f"{name} {number[:9]!r}"] = bearer(signed(header, payload))
    await refused(app, cases)


@pytest.mark.parametrize("roomy", [False, True])
async def test_deeply_nested_jwts_are_refused(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture, roomy: bool
) -> None:
    """python-jose raises RecursionError for such tokens, before it verifies the signature."""
    key = KEY.verifying
    fine = json.dumps({"alg": "ES256", "typ": "at+jwt", "kid": key.kid}).encode()
    limits = {"max_credential_bytes": 200_000, "max_header_bytes": 400_000} if roomy else {}
    settings = make_settings(secret=SecretStr(SECRET), **limits)
    async with open_checked_app(settings, caplog) as app:
        for depth in (1_000, 2_000, 12_000, 40_000):
            nested = b'{"alg":"ES256","a":' + b"[" * depth + b"]" * depth + b"}"
            for token in (signed(nested, b"{}"), signed(fine, nested)):
                response = await app.ask("GET", "/me", headers=bearer(token))
                if roomy or len(token) < 8000:
                    problem(response, 401, "unauthenticated")
                else:
                    problem(response, 431, "headers_too_large")


# The cookie


async def test_ambiguous_cookies_are_refused(app: CheckedApp) -> None:
    user = await app.api.create_user()
    [(_, pair)] = raw(await sign_in(app.api.services, user))
    value = pair.removeprefix(b"authapi=")
    planted = new_secret().encode()
    good: list[list[bytes]] = [
        [pair],
        [b" " + pair + b" "],
        [b"a=1; " + pair + b"; b=2"],
        [b"a=1;" + pair],
        [b"__Host-authapi=" + planted + b"; " + pair],
        [b"Authapi=" + planted + b"; " + pair],
        [b"authapi2=" + planted + b"; xauthapi=" + planted + b"; " + pair],
        [b"\xa0authapi=" + planted + b"; " + pair],
        [b"=authapi=" + planted + b"; " + pair],
        [b"authapi; " + pair],
        [b"a=1", pair],
        [b"\xff\x00=;;;==; " + pair],
    ]
    for cookies in good:
        headers = [(b"cookie", cookie) for cookie in cookies]
        response = await app.ask("GET", "/me", headers=headers)
        assert response.status_code == 200, cookies
    bad: list[list[bytes]] = [
        [pair + b"; " + pair],
        [pair, pair],
        [pair + b"; authapi=" + planted],
        [b"authapi=" + planted + b"; " + pair],
        [b"authapi=; " + pair],
        [pair, b"authapi="],
        [pair + b"; authapi=" + CANARY.encode()],
        [b'authapi="' + value + b'"'],
        [b"authapi=" + value + b"="],
        [b"authapi= " + value],
        [b"authapi =" + value],
        [b"AUTHAPI=" + value],
        [b"__Host-authapi=" + value],
        [b'$Version=1; $Path=/; authapi="' + value + b'"'],
        [b"authapi=" + value + b"," + b"authapi=" + value],
        [b"authapi="],
        [b"authapi=" + b"\xff" * 43],
        [b"authapi=" + "é".encode() * 43],
        [b"authapi=" + b"A" * 8000],
        [b"authapi=" + CANARY.encode()],
    ]
    for cookies in bad:
        headers = [(b"cookie", cookie) for cookie in cookies]
        response = await app.ask("GET", "/me", headers=headers)
        problem(response, 401, "unauthenticated")


async def test_an_invalid_header_is_refused_despite_a_valid_cookie(app: CheckedApp) -> None:
    user = await app.api.create_user()
    cookie = raw(await sign_in(app.api.services, user))
    for bad in (b"Bearer x", b"Bearer", b"Bearer aat_x", b"Basic x", b"basic", b"bearer a.b.c"):
        response = await app.ask("GET", "/me", headers=[(b"authorization", bad), *cookie])
        problem(response, 401, "unauthenticated")
    # An unknown scheme is ignored: it may be for another component, such as a proxy.
    headers = [(b"authorization", b"Negotiate YIIx"), *cookie]
    assert (await app.ask("GET", "/me", headers=headers)).status_code == 200


# Basic


def basic(raw_pair: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Basic " + base64.b64encode(raw_pair))]


async def test_basic_is_parsed_strictly(app: CheckedApp) -> None:
    await app.api.create_user("alice@example.com")
    alice = b"alice@example.com:"
    password = PASSWORD.encode()
    good = base64.b64encode(alice + password)
    assert len(good) % 4 == 0
    for text in (good, b" " + good, good + b" "):
        headers = [(b"authorization", b"Basic " + text)]
        assert (await app.ask("GET", "/me", headers=headers)).status_code == 200
    cases = {
        "no colon": basic(b"alice@example.com"),
        "no colon, a canary": basic(CANARY.encode()),
        "nothing": basic(b""),
        "colon": basic(b":"),
        "no password": basic(alice),
        "no address": basic(b":" + password),
        "wrong password": basic(alice + CANARY.encode()),
        "unknown": basic(b"bob@example.com:" + password),
        "no address at all": basic(b"alice:" + password),
        "not utf-8": basic(alice + b"\xff"),
        "latin-1": basic("alice@example.com:pässword".encode("latin-1")),
        "address not utf-8": basic(b"\xff@example.com:" + password),
        "nul": basic(alice + password + b"\0"),
        "nul in the address": basic(b"alice@example.com\0:" + password),
        "surrogate": basic(alice + b"\xed\xa0\x80"),
        "long": basic(alice + b"x" * 1025),
        "very long": basic(alice + b"x" * 5000),
        "junk behind": [(b"authorization", b"Basic " + good + b"!!!!")],
        "junk inside": [(b"authorization", b"Basic " + good[:4] + b"\n" + good[4:])],
        "padding behind": [(b"authorization", b"Basic " + good + b"====")],
        "url alphabet": [(b"authorization", b"Basic -_-_")],
        "cut": [(b"authorization", b"Basic " + good[:-1])],
        "not ascii": [(b"authorization", b"Basic \xff\xff\xff\xff")],
        "no text": [(b"authorization", b"Basic")],
        "plain": [(b"authorization", b"Basic " + alice + password)],
        "twice": [(b"authorization", b"Basic " + good + b", Basic " + good)],
    }
    answers = []
    for name, headers in cases.items():
        response = await app.ask("GET", "/me", headers=headers)
        assert response.status_code == 401, name
        answers.append(unnamed(response))
    assert all(answer == answers[0] for answer in answers)


async def test_basic_accepts_every_allowed_password(app: CheckedApp) -> None:
    passwords = ("a:b:c and some more", "pässwörd 🦉 and more", "  at both ends  ")
    for number, password in enumerate(passwords):
        email = f"a{number}@example.com"
        await app.api.create_user(email, password=password)
        response = await app.ask("GET", "/me", headers=basic(f"{email}:{password}".encode()))
        assert response.status_code == 200


async def test_basic_is_off_by_default(
    make_settings: SettingsFactory, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_checked_app(make_settings(), caplog) as app:
        await app.api.create_user("alice@example.com")
        headers = basic(f"alice@example.com:{PASSWORD}".encode())
        response = await app.ask("GET", "/me", headers=headers)
        problem(response, 401, "unauthenticated")
        assert "Basic" not in response.headers["www-authenticate"]


# All of them


async def test_forged_credentials_are_refused_by_all_operations(app: CheckedApp) -> None:
    closed = [operation for operation in app.operations if not operation.is_open]
    forged: list[Callable[[], list[tuple[bytes, bytes]]]] = [
        lambda: bearer(new_opaque_token()),
        lambda: [(b"cookie", b"authapi=" + new_secret().encode())],
        lambda: bearer(signed(b'{"alg":"none"}', b"{}", key=FOREIGN)),
        lambda: basic(f"unknown@example.com:{hashlib.sha256(b'x').hexdigest()}".encode()),
        lambda: [(b"x-forwarded-user", b"admin"), (b"x-role", b"admin")],
        lambda: [(b"authorization", b"Bearer null"), (b"cookie", b"authapi=null")],
    ]
    for operation in closed:
        for forge in forged:
            headers = forge()
            response = await app.ask(operation.method, operation.path, headers=headers)
            # RFC 6749, section 5.2: at these paths, `Basic` is an unknown client.
            is_client = headers[0][1].startswith(b"Basic ") and operation.path in CLIENTS_AT
            problem(response, 401, "invalid_client" if is_client else "unauthenticated")
