"""Tokens that other implementations have accepted or failed on; all of them are rejected.

Unless a test says otherwise, the signature is valid, so that the named change causes the rejection.
"""

import base64
import builtins
import hashlib
import hmac
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from tests.crypto.forgery import (
    AUDIENCE,
    CLAIMS,
    HEADER,
    ISSUER,
    KEY,
    NOW,
    b64,
    forge,
    raw,
    refused,
    unb64,
    verify,
    without,
)

PEM = KEY.verifying.key.to_pem()
PUBLIC = load_pem_public_key(PEM)
assert isinstance(PUBLIC, ec.EllipticCurvePublicKey)
TOKEN = forge()
PUBLIC_KEY_AS_SECRET = {
    "pem": PEM,
    "pem without end": PEM.rstrip(),
    "der": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "openssh": PUBLIC.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "point": PUBLIC.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
    "compressed point": PUBLIC.public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
    "jwk": json.dumps(dict(KEY.verifying.jwk)).encode(),
    "compact jwk": json.dumps(dict(KEY.verifying.jwk), separators=(",", ":")).encode(),
    "x": unb64(KEY.verifying.jwk["x"]),
    "kid": KEY.verifying.kid.encode(),
    "empty": b"",
}


def hmac_token(header: object, secret: bytes, digest: str) -> str:
    signed = ".".join(b64(json.dumps(part).encode()) for part in (header, CLAIMS))
    return f"{signed}.{b64(hmac.new(secret, signed.encode(), digest).digest())}"


def test_base_token_is_valid() -> None:
    assert verify(TOKEN) == CLAIMS


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("secret", PUBLIC_KEY_AS_SECRET.values(), ids=PUBLIC_KEY_AS_SECRET.keys())
def test_hmac_with_the_public_key_as_secret_is_rejected(secret: bytes, digest: str) -> None:
    for algorithm in (f"HS{digest[3:]}", "ES256"):
        refused(hmac_token({**HEADER, "alg": algorithm}, secret, digest))
        refused(hmac_token(without({**HEADER, "alg": algorithm}, "kid"), secret, digest))


ALGORITHMS = [
    *("none", "None", "NONE", "nOnE", "none\0", "", "es256", "ES256 ", " ES256", "S256", "ES256\0"),
    *("HS256", "RS256", "PS256", "ES384", "ES512", "ES256K", "EdDSA", "dir", "RSA1_5"),
    *(["none"], ["ES256"], {}, {"ES256": 1}, None, 0, 256, True, 1.5),
]


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=repr)
def test_other_algorithm_is_rejected(algorithm: object) -> None:
    header = {**HEADER, "alg": algorithm}
    refused(forge(header))
    refused(forge(header, key=None))
    refused(forge(header, key=None) + b64(b"any"))


def test_alg_none_is_rejected() -> None:
    refused(forge(without(HEADER, "alg")))
    refused(forge(without(HEADER, "alg"), key=None))


MEMBERS = {
    "crit": ["exp"],
    "crit unknown": ["x"],
    "crit empty": [],
    "crit text": "exp",
    "b64": False,
    "jku": "http://127.0.0.1:9/keys",
    "x5u": "http://127.0.0.1:9/cert",
    "jwk": dict(KEY.verifying.jwk),
    "x5c": [base64.b64encode(PUBLIC_KEY_AS_SECRET["der"]).decode()],
    "x5t": "AAAA",
    "cty": "JWT",
    "zip": "DEF",
    "enc": "A256GCM",
    "ALG": "ES256",
    "": "",
    "ö": 1,
}


@pytest.mark.parametrize("name", MEMBERS)
def test_unknown_header_member_is_rejected(name: str) -> None:
    refused(forge({**HEADER, name.partition(" ")[0]: MEMBERS[name]}))


def test_unencoded_payload_is_rejected() -> None:
    refused(forge({**HEADER, "crit": ["b64"], "b64": False}))


@pytest.mark.parametrize(
    "value",
    [
        "JWT",
        "jwt",
        "AT+JWT",
        "at+jwt ",
        "application/at+jwt",
        "",
        "refresh+jwt",
        None,
        1,
        ["at+jwt"],
    ],
    ids=repr,
)
def test_other_typ_is_rejected(value: object) -> None:
    refused(forge({**HEADER, "typ": value}))
    refused(forge(without(HEADER, "typ")))


KIDS = [
    *("../../dev/null", "/dev/null", "/etc/hostname", "file:///dev/null", "http://127.0.0.1:9/"),
    *("' OR 1=1 --", "x' UNION SELECT 'key", "| id", "\0", KEY.verifying.kid + "\0", "x" * 3000),
    *("", KEY.verifying.kid.lower(), KEY.verifying.kid[:-1], f" {KEY.verifying.kid}", "\ud800"),
    *(0, -1, 1.5, True, None, [], [KEY.verifying.kid], {}, {KEY.verifying.kid: 1}),
]


@pytest.mark.parametrize("kid", KIDS, ids=range(len(KIDS)))
def test_kid_is_only_used_for_lookup(kid: object, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    for module in (builtins, os):
        monkeypatch.setattr(module, "open", lambda *path, **_: opened.append(path))
    header = {**HEADER, "kid": kid}
    tokens = [forge(header), hmac_token({**header, "alg": "HS256"}, b"", "sha256")]
    for token in tokens:
        refused(token)
    monkeypatch.undo()
    assert opened == []


def test_missing_kid_is_rejected() -> None:
    refused(forge(without(HEADER, "kid")))


def test_key_in_the_header_is_rejected() -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    signed = forge(
        {**HEADER, "kid": "mine", "jwk": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}},
        key=None,
    ).rstrip(".")
    r, s = utils.decode_dss_signature(own.sign(signed.encode(), ec.ECDSA(SHA256())))
    refused(f"{signed}.{b64(r.to_bytes(32) + s.to_bytes(32))}")


@pytest.mark.parametrize(
    "header",
    [
        raw(HEADER)[:-1] + b',"alg":"ES256"}',
        b'{"alg":"none",' + raw(HEADER)[1:],
        raw(HEADER)[:-1] + b',"\\u0061lg":"ES256"}',
        b'{"typ":"JWT",' + raw(HEADER)[1:],
        b'{"kid":"other",' + raw(HEADER)[1:],
    ],
)
def test_duplicate_header_member_is_rejected(header: bytes) -> None:
    refused(forge(header))


@pytest.mark.parametrize(
    "claims",
    [
        raw(CLAIMS)[:-1] + b',"sub":"another user"}',
        raw(CLAIMS)[:-1] + f',"exp":{NOW + 600}}}'.encode(),
        b'{"iss":"other",' + raw(CLAIMS)[1:],
        raw(CLAIMS)[:-1] + b',"data":{"a":1,"a":2}}',
        raw(CLAIMS)[:-1] + b',"\\u0073ub":"x"}',
    ],
)
def test_duplicate_claim_is_rejected(claims: bytes) -> None:
    refused(forge(claims=claims))


NOT_OBJECTS = {
    **{text: text.encode() for text in ("null", "1", '"x"', "[]", "true", "{", "", " ", "NaN")},
    "list of pairs": json.dumps(list(HEADER.items())).encode(),
    "latin-1": b'{"\xe9":1}',
    "surrogate": b'{"\xed\xa0\x80":1}',
    "two": raw(HEADER) * 2,
    "python": repr(dict(HEADER)).encode(),
}


@pytest.mark.parametrize("part", NOT_OBJECTS.values(), ids=NOT_OBJECTS.keys())
def test_part_that_is_not_a_json_object_is_rejected(part: bytes) -> None:
    refused(forge(part))
    refused(forge(claims=part))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_rejected(encoding: str) -> None:
    refused(forge(json.dumps(HEADER).encode(encoding)))
    refused(forge(claims=json.dumps(CLAIMS).encode(encoding)))


@pytest.mark.parametrize("count", [25, 1_000, 2_000, 5_000, 12_000, 40_000])
def test_deep_nesting_is_rejected(count: int) -> None:
    for text in (b"[" * count, b'{"alg":' * count, raw(HEADER, alg="[" * count + "]" * count)):
        refused(forge(text))
        refused(forge(claims=text))


TIMES = [
    *("1e999", "-1e999", "1e400", "NaN", "Infinity", "-Infinity", "null", "[]", "{}", "true"),
    *("false", '"9"', '"9999999999"', '" 9_999_999_999 "', '"\u0661\u0662"', '""', "-1", "-0.5"),
    *(str(1 << 53), str(1 << 63), str(10**40), "1e30", "[9999999999]", '{"$date":9999999999}'),
]


@pytest.mark.parametrize("text", TIMES)
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
def test_invalid_time_is_rejected(name: str, text: str) -> None:
    refused(forge(claims=raw(CLAIMS, **{name: text})))


@pytest.mark.parametrize("name", ["iss", "sub", "jti"])
@pytest.mark.parametrize(
    "text",
    [
        *("null", "1", "true", "[]", '["x"]', "{}", '""', r'"\u0000"', r'"a\u0000"', r'"\ud800"'),
        *(r'"\n"', r'"\u007f"', '"é"', r'"\u202e"', f'"{"x" * 256}"'),
    ],
)
def test_invalid_identifier_is_rejected(name: str, text: str) -> None:
    refused(forge(claims=raw(CLAIMS, **{name: text})))


@pytest.mark.parametrize(
    "issuer",
    [
        *(ISSUER[:-1], ISSUER[1:], ISSUER + "/", ISSUER + ".evil.example", ISSUER.upper()),
        *(f" {ISSUER}", "https://", "e", [ISSUER], {ISSUER: ISSUER}),
    ],
    ids=repr,
)
def test_other_issuer_is_rejected(issuer: object) -> None:
    refused(forge(claims={**CLAIMS, "iss": issuer}))


@pytest.mark.parametrize(
    "audience",
    [
        *(AUDIENCE[:-1], AUDIENCE[1:], AUDIENCE + "s", AUDIENCE.upper(), f" {AUDIENCE}", "", "e"),
        *([], [AUDIENCE[:-1]], ["other"], [[AUDIENCE]], [AUDIENCE, 1], [None], [AUDIENCE, None]),
        *({AUDIENCE: 1}, None, 0, True),
    ],
    ids=repr,
)
def test_other_audience_is_rejected(audience: object) -> None:
    refused(forge(claims={**CLAIMS, "aud": audience}))


def test_other_signatures_are_rejected() -> None:
    signed, _, text = TOKEN.rpartition(".")
    signature = unb64(text)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    others = [
        b"",
        bytes(64),  # r and s zero, which a careless implementation accepts for every message
        b"\xff" * 64,
        bytes(31) + b"\1" + bytes(31) + b"\1",
        signature[:-1],
        signature + b"\0",
        b"\0" + signature,
        signature[:32],
        signature[32:] + signature[:32],
        signature * 2,
        utils.encode_dss_signature(r, s),
        (r + 1).to_bytes(32) + s.to_bytes(32),
        hashlib.sha256(signed.encode()).digest() * 2,
    ]
    for other in others:
        refused(f"{signed}.{b64(other)}")


def test_parts_of_two_valid_tokens_are_rejected() -> None:
    other = forge(claims={**CLAIMS, "sub": "another user"})
    verify(other)
    header, payload, signature = TOKEN.split(".")
    refused(f"{header}.{other.split('.')[1]}.{signature}")
    refused(f"{header}.{payload}.{other.split('.')[2]}")
