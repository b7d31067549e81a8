"""ID tokens of a provider that is hostile, or careless with keys, algorithms and times."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authapi.clock import now
from authapi.crypto import base64url
from authapi.errors import ProviderAnswerRefused, ProviderUnavailable
from authapi.outbound.upstreams.remote import RemoteUpstream
from tests.crypto import forgery
from tests.outbound.upstreams.visits import NONCE, REDIRECT_URI, come_back, flow_of, seconds
from tests.servers.openid import CLIENT_ID, TOKEN, OpenIDServer
from tests.verify.issuer import JWKS, Reply

Claims = dict[str, Any]
ALGORITHMS = ("RS256", "ES256", "PS256", "EdDSA")
SUBJECT = "248289761001"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(algorithm: str, **members: Any) -> dict[str, Any]:
    """Returns the public key for an algorithm; None removes a member."""
    if algorithm in {"RS256", "PS256"}:
        numbers = RSA.public_key().public_numbers()
        found = {
            "kty": "RSA",
            "n": base64url.encode(numbers.n.to_bytes(256)),
            "e": base64url.encode(numbers.e.to_bytes(3)),
        }
    elif algorithm == "ES256":
        point = EC.public_key().public_numbers()
        x, y = (base64url.encode(it.to_bytes(32)) for it in (point.x, point.y))
        found = {"kty": "EC", "crv": "P-256", "x": x, "y": y}
    else:
        raw = ED.public_key().public_bytes_raw()
        found = {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(raw)}
    all_members = found | {"kid": "the-key", "alg": algorithm, "use": "sig"} | members
    return {name: it for name, it in all_members.items() if it is not None}


def signature(algorithm: str, data: bytes) -> bytes:
    sha256 = hashes.SHA256()
    if algorithm == "RS256":
        return RSA.sign(data, padding.PKCS1v15(), sha256)
    if algorithm == "PS256":
        return RSA.sign(data, padding.PSS(padding.MGF1(sha256), padding.PSS.DIGEST_LENGTH), sha256)
    if algorithm == "ES256":
        numbers = decode_dss_signature(EC.sign(data, ec.ECDSA(sha256)))
        return b"".join(it.to_bytes(32) for it in numbers)
    return ED.sign(data)


def compact(header: object, payload: object, algorithm: str) -> str:
    """Returns a token with exactly these parts, signed with `algorithm`."""
    parts = (it if isinstance(it, bytes) else json.dumps(it).encode() for it in (header, payload))
    text = ".".join(base64url.encode(part) for part in parts)
    return f"{text}.{base64url.encode(signature(algorithm, text.encode()))}"


def signs(
    server: OpenIDServer, algorithm: str, *keys: dict[str, Any], **header: Any
) -> Callable[[Claims], str]:
    """Makes the provider sign with `algorithm`; `...` removes a member of the header."""
    server.publish(*(keys or (jwk(algorithm),)))
    server.metadata["id_token_signing_alg_values_supported"] = list(ALGORITHMS)
    head = {"alg": algorithm, "kid": "the-key"} | header
    head = {name: it for name, it in head.items() if it is not ...}

    def make(claims: Claims) -> str:
        return compact(head, claims, algorithm)

    server.make_token = make
    return make


async def reason_of(acme: RemoteUpstream) -> str:
    with pytest.raises(ProviderAnswerRefused) as caught:
        await come_back(acme)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm(server: OpenIDServer, acme: RemoteUpstream, algorithm: str) -> None:
    signs(server, algorithm)
    assert (await come_back(acme)).subject == SUBJECT


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_the_hash_of_the_access_token(
    server: OpenIDServer, acme: RemoteUpstream, algorithm: str
) -> None:
    """EdDSA with Ed25519 hashes with SHA-512, of which the left half counts."""
    signs(server, algorithm)
    server.token_response["access_token"] = "the-access-token"
    digests = [hashlib.sha256(b"the-access-token"), hashlib.sha512(b"the-access-token")]
    if algorithm == "EdDSA":
        digests.reverse()
    right, wrong = (it.digest()[: it.digest_size // 2] for it in digests)
    server.claims["at_hash"] = forgery.b64(right)
    assert (await come_back(acme)).subject == SUBJECT
    for other in (wrong, right[:-1], right + b"x", b""):
        server.claims["at_hash"] = forgery.b64(other)
        assert await reason_of(acme) == "id_token at_hash"
    server.claims["at_hash"] = forgery.b64(right)
    server.token_response["access_token"] = "the-access-token-of-another"
    assert await reason_of(acme) == "id_token at_hash"
    server.token_response["access_token"] = None  # nothing that the hash could be of
    assert await reason_of(acme) == "id_token at_hash"


@pytest.mark.parametrize(("pinned", "used"), [("RS256", "PS256"), ("PS256", "RS256")])
async def test_a_key_is_pinned_to_its_algorithm(
    server: OpenIDServer, acme: RemoteUpstream, pinned: str, used: str
) -> None:
    signs(server, used, jwk(pinned))
    assert await reason_of(acme) == "id_token alg"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_a_key_without_an_algorithm(
    server: OpenIDServer, acme: RemoteUpstream, algorithm: str
) -> None:
    signs(server, algorithm, jwk(algorithm, alg=None))
    assert (await come_back(acme)).subject == SUBJECT


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_algorithm_that_the_metadata_does_not_list(
    server: OpenIDServer, acme: RemoteUpstream, algorithm: str
) -> None:
    signs(server, algorithm, jwk(algorithm, alg=None))
    others = [it for it in ALGORITHMS if it != algorithm]
    server.metadata["id_token_signing_alg_values_supported"] = [*others, "none", "HS256"]
    assert await reason_of(acme) == "id_token alg"


@pytest.mark.parametrize("name", ["rs256", "RS512", "RS1", "ES256K", "Ed25519", "", None, 7, ["x"]])
async def test_names_of_algorithms(
    server: OpenIDServer, acme: RemoteUpstream, name: object
) -> None:
    signs(server, "RS256", jwk("RS256", alg=None), alg=name)
    server.metadata["id_token_signing_alg_values_supported"] = None
    assert await reason_of(acme) == "id_token alg"


@pytest.mark.parametrize("form", ["pem", "der", "modulus", "jwk"])
async def test_the_public_key_is_no_shared_secret(
    server: OpenIDServer, acme: RemoteUpstream, form: str
) -> None:
    signs(server, "RS256")
    server.metadata["id_token_signing_alg_values_supported"] = ["RS256", "HS256"]
    public = RSA.public_key()
    secret = {
        "pem": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "modulus": public.public_numbers().n.to_bytes(256),
        "jwk": json.dumps(jwk("RS256")).encode(),
    }[form]

    def make(claims: Claims) -> str:
        head = {"alg": "HS256", "kid": "the-key"}
        text = ".".join(forgery.b64(json.dumps(it).encode()) for it in (head, claims))
        return f"{text}.{forgery.b64(hmac.digest(secret, text.encode(), 'sha256'))}"

    server.make_token = make
    assert await reason_of(acme) == "id_token alg"


async def test_symmetric_keys_are_never_used(server: OpenIDServer, acme: RemoteUpstream) -> None:
    """Also not if the provider publishes one."""
    secret = b"0" * 32
    server.metadata["id_token_signing_alg_values_supported"] = ["HS256", "ES256"]
    server.publish({"kty": "oct", "k": forgery.b64(secret), "kid": "the-key", "alg": "HS256"})

    def make(claims: Claims) -> str:
        head = {"alg": "HS256", "kid": "the-key"}
        text = ".".join(forgery.b64(json.dumps(it).encode()) for it in (head, claims))
        return f"{text}.{forgery.b64(hmac.digest(secret, text.encode(), 'sha256'))}"

    server.make_token = make
    assert await reason_of(acme) == "id_token alg"


OTHER = {"kid": "another"}
KIDS: dict[str, tuple[list[Claims], dict[str, Any], str | None]] = {
    "none, and one key": ([jwk("ES256")], {"kid": ...}, None),
    "none, and keys of other types": ([jwk("ES256"), jwk("RS256", **OTHER)], {"kid": ...}, None),
    "none, and keys without one": ([jwk("ES256", kid=None)], {"kid": ...}, None),
    "none, and several named keys": (
        [jwk("ES256"), dict(forgery.new_key().verifying.jwk)],
        {"kid": ...},
        "id_token key",
    ),
    "of two keys": ([jwk("ES256"), jwk("RS256")], {}, "id_token key"),
    "of one key twice": ([jwk("ES256"), jwk("ES256")], {}, "id_token key"),
    "of another key": (
        [jwk("ES256"), dict(forgery.new_key().verifying.jwk) | OTHER],
        OTHER,
        "id_token signature",
    ),
    "of a key of another type": ([jwk("RS256")], {}, "id_token alg"),
    "unknown": ([jwk("ES256")], OTHER, "id_token key"),
    "empty": ([jwk("ES256")], {"kid": ""}, "id_token key"),
    "null": ([jwk("ES256")], {"kid": None}, "id_token key"),
    "a number": ([jwk("ES256")], {"kid": 7}, "id_token key"),
    "a list": ([jwk("ES256")], {"kid": ["the-key"]}, "id_token key"),
    "a path": ([jwk("ES256")], {"kid": "../../the-key"}, "id_token key"),
    "of a key for encryption": ([jwk("ES256", use="enc")], {}, "id_token key"),
    "of a key that wraps": ([jwk("ES256", key_ops=["wrapKey"])], {}, "id_token key"),
    "of a key that is published as private": ([jwk("ES256", d="AA")], {}, "id_token key"),
}


@pytest.mark.parametrize("case", KIDS)
async def test_key_ids(server: OpenIDServer, acme: RemoteUpstream, case: str) -> None:
    keys, header, reason = KIDS[case]
    signs(server, "ES256", *keys, **header)
    if reason is None:
        assert (await come_back(acme)).subject == SUBJECT
    else:
        assert await reason_of(acme) == reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"crit": []}, "header"),
        ({"crit": ["b64"], "b64": True}, "header"),
        ({"crit": None}, "header"),
        ({"crit": "exp"}, "header"),
        ({"b64": False}, "header"),
        ({"typ": "logout+jwt"}, "typ"),
        ({"typ": "dpop+jwt"}, "typ"),
        ({"typ": 7}, "typ"),
        ({"typ": None}, "typ"),
    ],
    ids=str,
)
async def test_headers(
    server: OpenIDServer, acme: RemoteUpstream, header: Claims, reason: str
) -> None:
    signs(server, "ES256", **header)
    assert await reason_of(acme) == f"id_token {reason}"


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "jwt"},
        {"typ": "application/jwt"},
        {"zip": "DEF", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "x5c": ["x"]},
    ],
    ids=str,
)
async def test_headers_without_a_meaning(
    server: OpenIDServer, acme: RemoteUpstream, header: Claims
) -> None:
    signs(server, "ES256", **header)
    assert (await come_back(acme)).subject == SUBJECT


CLAIMS: tuple[tuple[str, object, str], ...] = (
    ("aud", [[CLIENT_ID]], "aud"),
    ("aud", [], "aud"),
    ("aud", {CLIENT_ID: CLIENT_ID}, "aud"),
    ("aud", [CLIENT_ID, 7], "aud"),
    ("aud", [CLIENT_ID, None], "aud"),
    ("aud", CLIENT_ID.upper(), "aud"),
    ("aud", f"{CLIENT_ID} another", "aud"),
    ("aud", [CLIENT_ID, CLIENT_ID], "azp"),
    ("azp", [CLIENT_ID], "azp"),
    ("azp", True, "azp"),
    ("nonce", "", "nonce"),
    ("nonce", None, "nonce"),
    ("nonce", ["n-" + "1" * 41], "nonce"),
    ("sub", True, "identifiers"),
    ("sub", 1e3, "identifiers"),
    ("sub", "Jane\u00eb", "identifiers"),
    ("sub", "a\nb", "identifiers"),
    ("sub", "a\x00b", "format"),
    ("iss", ["x"], "identifiers"),
    ("exp", "2000000000", "exp"),
    ("exp", True, "exp"),
    ("exp", [2000000000], "exp"),
    ("exp", -1, "exp"),
    ("exp", 1 << 53, "exp"),
    ("exp", 10**300, "exp"),
    ("iat", "1000", "iat"),
    ("iat", False, "iat"),
    ("iat", 10**300, "iat"),
    ("iat", -1.5, "iat"),
    ("nbf", "0", "nbf"),
    ("nbf", None, "nbf"),
    ("nbf", True, "nbf"),
    ("nbf", 1 << 53, "nbf"),
    ("auth_time", 10**300, "auth_time"),
    ("auth_time", -1, "auth_time"),
    ("auth_time", [1], "auth_time"),
)


@pytest.mark.parametrize(("claim", "value", "check"), CLAIMS, ids=range(len(CLAIMS)))
async def test_claims(
    server: OpenIDServer, acme: RemoteUpstream, claim: str, value: object, check: str
) -> None:
    make = signs(server, "ES256")
    server.make_token = lambda claims: make(claims | {claim: value})
    assert await reason_of(acme) == f"id_token {check}"


@pytest.mark.parametrize(
    ("claim", "offset", "is_valid"),
    [
        ("exp", -50, True),
        ("exp", -50.5, True),
        ("exp", -70, False),
        ("iat", 50, True),
        ("iat", 50.5, True),
        ("iat", 70, False),
        ("nbf", 50, True),
        ("nbf", 70.5, False),
        ("auth_time", 50, True),
        ("auth_time", 70, False),
    ],
)
async def test_clocks_may_differ_by_a_minute(
    server: OpenIDServer, acme: RemoteUpstream, claim: str, offset: float, is_valid: bool
) -> None:
    make = signs(server, "ES256")

    def shifted(claims: Claims) -> str:
        now = claims["iat"]
        return make(claims | {"iat": now - 300} | {claim: now + offset})

    server.make_token = shifted
    if is_valid:
        person = await come_back(acme)
        assert person.subject == SUBJECT
    else:
        assert await reason_of(acme) == f"id_token {claim}"


PAYLOADS = (
    b"\xef\xbb\xbf{}",
    b'{"sub": "\xff"}',
    b'{"sub": "\\ud800"}',
    b"[]",
    b"null",
    b"",
    b'{"a": NaN}',
    b'{"a": 1e999}',
    b'{"exp": ' + b"9" * 5000 + b"}",
    b"[" * 5000,
    b'{"a": 1, "a": 1}',
    b'{"aud": ["a"], "\\u0061ud": ["b"]}',
)


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
async def test_payloads_that_are_no_claims(
    server: OpenIDServer, acme: RemoteUpstream, payload: bytes
) -> None:
    signs(server, "ES256")
    head = {"alg": "ES256", "kid": "the-key"}
    server.make_token = lambda _: compact(head, payload, "ES256")
    assert await reason_of(acme) == "id_token format"
    server.make_token = lambda claims: compact(payload, claims, "ES256")
    assert await reason_of(acme) == "id_token format"


async def test_other_serializations(server: OpenIDServer, acme: RemoteUpstream) -> None:
    make = signs(server, "ES256")
    for change in (
        lambda token: f"{token}.{token}",  # five parts, as an encrypted token
        lambda token: ".".join([*token.split("."), "", ""]),
        lambda token: token + "=",
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.rpartition(".")[0] + ".",
        lambda token: token.rpartition(".")[0],
        lambda token: {"payload": token.split(".")[1], "signatures": []},
        lambda token: [token],
        lambda token: token.replace(".", "\uff0e"),
    ):
        server.make_token = lambda claims, change=change: change(make(claims))  # type: ignore[misc]
        assert (await reason_of(acme)).startswith("id_token")


async def verified(acme: RemoteUpstream, token: str) -> object:
    """Verifies a token alone: many visits at once would need as many connections."""
    endpoints = await acme.endpoints.current()
    try:
        claims = await acme.id_tokens.verify(token, endpoints, nonce=NONCE, access_token=None)
    except ProviderAnswerRefused as error:
        return error.reason
    return claims["sub"]


def claims_of(server: OpenIDServer) -> Claims:
    at = seconds(now())
    return server.claims | {
        "iss": server.url,
        "aud": CLIENT_ID,
        "nonce": NONCE,
        "iat": at,
        "exp": at + 600,
    }


async def test_a_storm_of_unknown_keys_is_one_read(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    make = signs(server, "ES256", kid="invented")
    token = make(claims_of(server))
    await acme.authorization_url(flow_of(), redirect_uri=REDIRECT_URI)
    found = await asyncio.gather(*(verified(acme, token) for _ in range(50)))
    assert set(found) == {"id_token key"}
    # The first read is that of a process without keys. Another follows after ten seconds.
    assert server.asked[JWKS] == 1
    keys = acme.id_tokens.keys(await acme.endpoints.current())
    keys._read_at = None  # instead of ten seconds of waiting
    found = await asyncio.gather(*(verified(acme, token) for _ in range(50)))
    assert set(found) == {"id_token key"}
    assert server.asked[JWKS] == 2


async def test_a_rotation_during_many_visits_is_one_read(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    server.metadata["id_token_signing_alg_values_supported"] = list(ALGORITHMS)
    await come_back(acme)
    assert server.asked[JWKS] == 1
    token = signs(server, "RS256", jwk("RS256"))(claims_of(server))
    keys = acme.id_tokens.keys(await acme.endpoints.current())
    keys._read_at = None  # instead of ten seconds of waiting
    assert set(await asyncio.gather(*(verified(acme, token) for _ in range(50)))) == {SUBJECT}
    assert server.asked[JWKS] == 2


async def test_keys_at_another_url_do_not_end_a_visit_that_waits(
    server: OpenIDServer, acme: RemoteUpstream
) -> None:
    """The metadata may change while callbacks wait for the keys of the former one."""
    endpoints = await _endpoints(acme)
    waiting = acme.id_tokens.keys(endpoints)
    server.may_answer.clear()
    read = asyncio.create_task(waiting.refresh(waiting.cached()))
    await asyncio.sleep(0)
    server.replies["/other"] = server.replies[JWKS]
    other = replace(endpoints, jwks_url=server.url + "/other")
    assert acme.id_tokens.keys(other) is not waiting
    server.may_answer.set()
    assert await read


async def _endpoints(acme: RemoteUpstream) -> Any:
    await come_back(acme)
    await acme.id_tokens.stop()
    return await acme.endpoints.current()


@pytest.mark.parametrize("keys", [{"keys": [{}] * 101}, {"keys": {}}, {"keys": None}, {}, []])
async def test_key_sets_that_are_none(
    server: OpenIDServer, acme: RemoteUpstream, keys: object
) -> None:
    server.replies[JWKS] = Reply(keys)
    with pytest.raises(ProviderUnavailable) as caught:
        await come_back(acme)
    assert caught.value.retry_after >= 1


async def test_no_token_is_in_a_log(
    server: OpenIDServer, acme: RemoteUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    made: list[str] = []
    make = signs(server, "ES256")

    def remembered(claims: Claims) -> str:
        made.append(make(claims | {"nonce": "another"}))
        return made[-1]

    server.make_token = remembered
    server.token_response["access_token"] = "the-access-token"
    await reason_of(acme)
    told = "".join(f"{it.getMessage()} {it.__dict__}" for it in caplog.records if it.name != "root")
    for secret in (*made, "the-access-token", server.forms[0]["code_verifier"]):
        assert secret not in told
    assert server.asked[TOKEN] == 1
