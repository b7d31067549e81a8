"""The encoding of a token: canonical, of bounded length."""

import json
import time
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.crypto.forgery import (
    CLAIMS,
    HEADER,
    KEY,
    ORDER,
    b64,
    forge,
    refused,
    twin_of,
    unb64,
    verify,
)

TOKEN = forge()


def other_encodings(segment: str) -> list[str]:
    """Returns texts that lenient decoders decode to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    found = [segment + "=", segment + "==", segment + "====", segment + "\n", segment + "\n   "]
    found += [" " + segment, segment[:8] + "!*$~" + segment[8:], segment[:4] + "\n" + segment[4:]]
    found += [segment[:4] + "\0" + segment[4:], segment + "A===", segment[:4] + "=" + segment[4:]]
    if translated := segment.translate(str.maketrans("-_", "+/")).replace(segment, ""):
        found.append(translated)
    if len(segment) % 4:
        found += [
            segment[:-1] + last
            for last in alphabet.replace(segment[-1], "")
            if unb64(segment[:-1] + last) == unb64(segment)
        ]
    return found


def test_other_encoding_of_the_same_token_is_rejected() -> None:
    header, payload, signature = TOKEN.split(".")
    encodings = other_encodings(signature)
    assert len(encodings) >= 11 + 15  # 86 characters leave 4 bits unused
    for other in encodings:
        refused(f"{header}.{payload}.{other}")
    for other in other_encodings(header):
        refused(f"{other}.{payload}.{signature}")
    for other in other_encodings(payload):
        refused(f"{header}.{other}.{signature}")


def test_non_canonical_encoding_with_a_valid_signature_is_rejected() -> None:
    # Signed in this encoding, so that only the encoding is wrong.
    header, payload, _ = TOKEN.split(".")
    for signed in (f"{header}=.{payload}", f"{header}.{payload}==", f"{header}.{payload}\n"):
        refused(f"{signed}.{b64(KEY.key.sign(signed.encode()))}")


def test_second_ecdsa_signature_of_a_token_is_accepted() -> None:
    # Accepted, because half of the signatures of other libraries have the greater s.
    twin = twin_of(TOKEN)
    assert twin != TOKEN
    assert verify(twin) == verify(TOKEN)
    assert twin_of(twin) == TOKEN


def test_other_signature_encodings_are_rejected() -> None:
    header, payload, signature = TOKEN.split(".")
    r, s = unb64(signature)[:32], unb64(signature)[32:]
    zero, order = bytes(32), ORDER.to_bytes(32)
    for other in (zero + s, r + zero, r + order, order + s, zero + zero, r + s + b"\0"):
        refused(f"{header}.{payload}.{b64(other)}")
    # The DER encoding of X.509 and OpenSSL, which JWS does not use (RFC 7518, section 3.4).
    refused(f"{header}.{payload}.{b64(encode_dss_signature(int.from_bytes(r), int.from_bytes(s)))}")


class Hostile(str):
    __slots__ = ()

    def isascii(self) -> bool:
        raise MemoryError

    def split(self, *_: object) -> list[str]:
        raise RecursionError


OBJECTS: list[object] = [
    *(None, 0, 1.5, True, [], {}, set(), object(), b"", TOKEN.encode(), bytearray(TOKEN.encode())),
    *(
        [TOKEN],
        TOKEN.split("."),
        {"token": TOKEN},
        {"payload": "", "signatures": []},
        Hostile("a.b"),
    ),
    *(type, NotImplemented, ..., memoryview(TOKEN.encode()), lambda: TOKEN),
]


@pytest.mark.parametrize("token", OBJECTS, ids=range(len(OBJECTS)))
def test_values_other_than_strings_are_rejected(token: object) -> None:
    refused(token)


TEXTS = [
    *("", ".", "..", "...", "a.b.c", "=.=.=", TOKEN + ".", "." + TOKEN, TOKEN + "." + TOKEN),
    *(" " + TOKEN, TOKEN + " ", TOKEN + "\n", TOKEN + "\0", TOKEN[:-1], TOKEN[1:], TOKEN.upper()),
    *(f"Bearer {TOKEN}", f'"{TOKEN}"', TOKEN.replace(".", "\u2024"), TOKEN.replace(".", ",")),
    *("\ud800" * 3, "\ud800.\ud800.\ud800", TOKEN + "\ud800", "é.é.é", "\uff41.\uff42.\uff43"),
    *(TOKEN.rpartition(".")[0], TOKEN.rpartition(".")[0] + ".", TOKEN.replace(".", "")),
]


@pytest.mark.parametrize("token", TEXTS, ids=range(len(TEXTS)))
def test_malformed_tokens_are_rejected(token: str) -> None:
    refused(token)


def test_valid_token_above_the_maximum_length_is_rejected() -> None:
    fitting, longer = (forge(claims={**CLAIMS, "pad": "x" * n}) for n in (5_500, 6_000))
    assert len(fitting) <= 8192 < len(longer)
    verify(fitting)
    refused(longer)


def test_ten_megabytes_are_rejected_quickly() -> None:
    size = 10 * 1024 * 1024
    tokens = ["A" * size, "." * size, "[" * size, f"{TOKEN}{'A' * size}", f"{'A' * size}.{TOKEN}"]
    started = time.thread_time()
    for token in tokens:
        refused(token)
    assert time.thread_time() - started < 0.5


def test_encrypted_tokens_are_rejected() -> None:
    bomb = zlib.compress(bytes(3_000_000), 9)[2:-4]
    for header in (
        {"alg": "dir", "enc": "A256GCM", "zip": "DEF"},
        {"alg": "RSA1_5", "enc": "A128CBC-HS256"},
        {**HEADER, "zip": "DEF"},
    ):
        five = [json.dumps(header).encode(), b"", b"\0" * 12, bomb, b"\0" * 16]
        refused(".".join(map(b64, five)))
        refused(".".join([TOKEN, b64(bomb), ""]))
        refused(forge(header, bomb))
