"""The text of a token: one spelling for the same bytes, of bounded length, and nothing else."""

import json
import time
import zlib

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.crypto.forging import (
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


def other_spellings(segment: str) -> list[str]:
    """Texts that lenient decoders read as the same bytes."""
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


def test_another_spelling_of_the_same_token() -> None:
    header, payload, signature = TOKEN.split(".")
    spellings = other_spellings(signature)
    assert len(spellings) >= 11 + 15  # 86 characters leave 4 bits unused
    for other in spellings:
        refused(f"{header}.{payload}.{other}")
    for other in other_spellings(header):
        refused(f"{other}.{payload}.{signature}")
    for other in other_spellings(payload):
        refused(f"{header}.{other}.{signature}")


def test_another_spelling_of_what_was_signed() -> None:
    # Signed as it stands, so that only the spelling is wrong.
    header, payload, _ = TOKEN.split(".")
    for signed in (f"{header}=.{payload}", f"{header}.{payload}==", f"{header}.{payload}\n"):
        refused(f"{signed}.{b64(KEY.key.sign(signed.encode()))}")


def test_the_second_ecdsa_signature_of_the_same_token() -> None:
    # Not refused: of the tokens that other signers make, half have the greater s.
    twin = twin_of(TOKEN)
    assert twin != TOKEN
    assert verify(twin) == verify(TOKEN)
    assert twin_of(twin) == TOKEN


def test_other_numbers_in_a_signature() -> None:
    header, payload, signature = TOKEN.split(".")
    r, s = unb64(signature)[:32], unb64(signature)[32:]
    zero, order = bytes(32), ORDER.to_bytes(32)
    for other in (zero + s, r + zero, r + order, order + s, zero + zero, r + s + b"\0"):
        refused(f"{header}.{payload}.{b64(other)}")
    # The form of X.509 and OpenSSL, which is not that of JWS (RFC 7518, section 3.4).
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
def test_what_is_no_text(token: object) -> None:
    refused(token)


TEXTS = [
    *("", ".", "..", "...", "a.b.c", "=.=.=", TOKEN + ".", "." + TOKEN, TOKEN + "." + TOKEN),
    *(" " + TOKEN, TOKEN + " ", TOKEN + "\n", TOKEN + "\0", TOKEN[:-1], TOKEN[1:], TOKEN.upper()),
    *(f"Bearer {TOKEN}", f'"{TOKEN}"', TOKEN.replace(".", "\u2024"), TOKEN.replace(".", ",")),
    *("\ud800" * 3, "\ud800.\ud800.\ud800", TOKEN + "\ud800", "é.é.é", "\uff41.\uff42.\uff43"),
    *(TOKEN.rpartition(".")[0], TOKEN.rpartition(".")[0] + ".", TOKEN.replace(".", "")),
]


@pytest.mark.parametrize("token", TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_token(token: str) -> None:
    refused(token)


def test_a_good_token_beyond_the_longest_is_refused() -> None:
    fitting, longer = (forge(claims={**CLAIMS, "pad": "x" * n}) for n in (5_500, 6_000))
    assert len(fitting) <= 8192 < len(longer)
    verify(fitting)
    refused(longer)


def test_ten_megabytes_cost_nothing() -> None:
    size = 10 * 1024 * 1024
    tokens = ["A" * size, "." * size, "[" * size, f"{TOKEN}{'A' * size}", f"{'A' * size}.{TOKEN}"]
    started = time.thread_time()
    for token in tokens:
        refused(token)
    assert time.thread_time() - started < 0.5


def test_encrypted_tokens() -> None:
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
