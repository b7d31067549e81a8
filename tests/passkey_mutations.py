"""Random changes of what a browser and an authenticator send."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import cbor2

from tests.soft_authenticator import SoftAuthenticator, b64, cose_key, unb64

JSON_VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 2**64, 0.5, 1e308, "", "x", "=", "AA", "\x00", "\u00e9", [], {}, [[]]),
    {"": {}},
    "A" * 5000,
    [None] * 100,
)
CBOR_VALUES: tuple[object, ...] = (
    *(None, True, 0, -1, 2**64, 0.5, "", "x", b"", bytes(77), [], {}, {1: {}}, [[]]),
    cbor2.undefined,
    cbor2.CBORTag(2, b"\x01"),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flips, removes, repeats or inserts bytes."""
    found, place = bytearray(data), rng.randrange(len(data))
    length = rng.choice((1, 2, 8, 64))
    match rng.randrange(5):
        case 0:
            found[place] ^= 1 << rng.randrange(8)
        case 1:
            del found[place : place + length]
        case 2:
            found[place:place] = found[place : place + length]
        case 3:
            found[place:place] = rng.randbytes(length)
        case _:
            found[place] = rng.choice((0x00, 0x7F, 0x80, 0x9F, 0xBF, 0xF6, 0xF7, 0xFF))
    return bytes(found)


def restructured(data: bytes, rng: random.Random) -> bytes:
    """An attestation object in which a member, or a member of the key, is of another type."""
    found = dict(cbor2.loads(data))
    if rng.randrange(3):
        key = dict(cose_key(SoftAuthenticator(rng.choice((-7, -8))).key))
        key[rng.choice((1, 3, -1, -2, -3))] = rng.choice(CBOR_VALUES)
        if not rng.randrange(3):
            del key[rng.choice(tuple(key))]
        found["authData"] = found["authData"][:87] + cbor2.dumps(key)
    else:
        found[rng.choice(("fmt", "attStmt", "authData"))] = rng.choice(CBOR_VALUES)
    return cbor2.dumps(rng.choice((found, found, list(found.values()))))


def mutated_body(body: Mapping[str, Any], credential: str, rng: random.Random) -> bytes:
    """A JSON body with one change: in the bytes of a member, in a member, or in the text.

    `credential` is the member with what the browser sends.
    """
    copy = json.loads(json.dumps(body))
    change = rng.choice((_change_bytes, _change_bytes, _change_client_data, _change_member, None))
    if change is None:
        return mutated(json.dumps(copy).encode(), rng)
    change(copy if change is _change_member else copy[credential], rng)
    return json.dumps(copy).encode()


def _change_bytes(credential: dict[str, Any], rng: random.Random) -> None:
    response = credential["response"]
    names = [name for name, value in response.items() if isinstance(value, str)]
    name = rng.choice((*names, "id"))
    place = credential if name == "id" else response
    change: Callable[[bytes, random.Random], bytes] = mutated
    if name == "attestationObject":
        change = rng.choice((mutated, restructured))
    place[name] = b64(change(unb64(place[name]), rng))


def _change_client_data(credential: dict[str, Any], rng: random.Random) -> None:
    response = credential["response"]
    members = json.loads(unb64(response["clientDataJSON"]))
    _change_member(members, rng)
    response["clientDataJSON"] = b64(json.dumps(members).encode())


def _change_member(members: dict[str, Any], rng: random.Random) -> None:
    name = rng.choice(tuple(members))
    while isinstance(members[name], dict) and members[name] and rng.randrange(4):
        members = members[name]
        name = rng.choice(tuple(members))
    match rng.randrange(4):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("", "x", "topOrigin", "code", "__proto__"))] = members.pop(name)
        case _:
            members[name] = rng.choice(JSON_VALUES)
