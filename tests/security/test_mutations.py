"""Mutations of valid requests are rejected and cause no crash.

`make test` tries a few hundred of each kind, `make test-slow` 20,000. The variable MUTATIONS sets
the smaller number. The seed is fixed, so failures are reproducible.
"""

import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from authapi import create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import (
    HOSTILE_JSON,
    KEY,
    SECRET,
    Operation,
    b64,
    basic,
    claims_of,
    credentials,
    forge,
    header,
    operations,
)

SEED = 20261123
FEW = int(os.environ.get("MUTATIONS", "300"))
MANY = 20_000
COUNTS = [pytest.param(FEW, id="some"), pytest.param(MANY, id="all", marks=pytest.mark.slow)]

Headers = list[tuple[bytes, bytes]]
Row = tuple[int, bytes]


async def ask(
    app: FastAPI, method: str, path: str, headers: Headers, body: bytes = b""
) -> tuple[int, bytes]:
    """Status and body of the response, by calling the ASGI application directly."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000"), *headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }
    incoming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    status: int = start["status"]
    return status, b"".join(message.get("body", b"") for message in sent)


def mutated(good: bytes, random: Random) -> bytes:
    """Bytes that differ from `good`, mostly in a few places."""
    data = bytearray(good)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at, kind = random.randrange(len(data) + 1), random.randrange(8)
        if kind == 0:
            data[at:at] = random.randbytes(random.choice((1, 1, 2, 8)))
        elif kind == 1:
            del data[at : at + random.choice((1, 1, 2, 8, 64))]
        elif kind == 2 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 3 and data:
            data[at % len(data)] = random.choice(b'.=-_+/;,: \t"\0\xff%{}[]\\A0')
        elif kind == 4:
            data[at:at] = data[: random.randrange(64)]
        elif kind == 5:
            data = data[at:] + data[:at]
        elif kind == 6:
            data[at:at] = random.choice(
                (b"..", b"==", b"\xc3\xa9", b"%00", b"\\ud800", b"\r", b"a" * 500)
            )
        else:
            data = data[:at]
    return bytes(data)


async def run(
    name: str, count: int, attacks: AsyncIterator[Row], good: Callable[[int], bool]
) -> None:
    """Check `count` responses against the expected ones."""
    seen: Counter[int] = Counter()
    bad = []
    async for status, body in attacks:
        seen[status] += 1
        if status >= 500 or not good(status):
            bad.append((status, body[:200]))
    by_status = ", ".join(f"{number} x {status}" for status, number in sorted(seen.items()))
    print(f"mutated {name}: {seen.total()} tried: {by_status}")  # noqa: T201  # reports the number of mutations
    assert seen.total() == count
    assert not bad, bad[:3]


@asynccontextmanager
async def service(make_settings: SettingsFactory) -> AsyncIterator[tuple[Client, FastAPI]]:
    """The application with the cheapest hashes and the highest limits that the settings permit."""
    app = create_app(
        make_settings(
            max_personal_tokens=100_000,  # many of the bodies are valid
            secret=SECRET,
            limit_account_and_network="999999999/day",
            limit_account="999999999/day",
            limit_network="999999999/day",
            limit_total="999999999/day",
            limit_registrations="999999999/day",
        )
    )
    async with client(app) as api:
        yield api, app


def bad_tokens(good: str, random: Random) -> Iterator[bytes]:
    """An endless series of invalid tokens, half of them with a valid signature."""
    claims, raw = claims_of(good), good.encode()
    values: list[object] = [
        None,
        True,
        0,
        -1,
        1e300,
        "",
        "x",
        [],
        {},
        [None],
        "\ud800",
        "\0",
        1 << 63,
    ]
    names = ["iss", "sub", "aud", "exp", "iat", "jti", "sid"]
    heads = ["alg", "typ", "kid", "crit", "jwk", "jku", "x5u", "zip", "b64", "cty"]
    odd = [text for text in HOSTILE_JSON.values() if len(text) < 100]
    while True:
        kind = random.randrange(7)
        if kind <= 1:
            token = mutated(raw, random)
            if token.strip(b" ") != raw:
                yield token
        elif kind == 2:
            # A required part is missing in both.
            name, value = random.choice(names), random.choice(values)
            if (name, value) not in (("jti", "x"), ("iat", 0)):
                yield forge(header(), claims | {name: value}).encode()
        elif kind == 3:
            name, value = random.choice(heads), random.choice(values)
            yield forge(header(**{name: value}), claims).encode()
        elif kind == 4:
            head, payload, signature = good.split(".")
            parts = [
                head,
                payload,
                signature,
                b64(random.randbytes(random.randrange(80))),
                "",
                "e30",
            ]
            text = ".".join(random.choice(parts) for _ in range(random.choice((3, 3, 3, 1, 2, 5))))
            if text != good:
                yield text.encode()
        elif kind == 5:
            name = random.choice(names)
            literal = random.choice(odd)
            rest = json.dumps({key: item for key, item in claims.items() if key != name}).encode()
            if (name, literal) != ("jti", b'"x"') and name != "iat":
                yield forge(
                    header(), rest[:-1] + b',"' + name.encode() + b'":' + literal + b"}"
                ).encode()
        else:
            body = mutated(json.dumps(claims).encode(), random)
            other = mutated(json.dumps(header()).encode(), random)
            # The signature is valid, so claims that identify the same session are accepted.
            if not says_the_same(body, claims):
                yield forge(random.choice((other, header())), body, KEY.key.sign).encode()


def says_the_same(body: bytes, claims: Mapping[str, object]) -> bool:
    """Whether the claims, parsed leniently, still identify the same session."""
    try:
        found = json.loads(body)
    except ValueError:
        return False

    def plain(value: object) -> str:
        return str(value).lower().replace("-", "").strip("{}")

    names = ("iss", "aud", "sub", "sid")
    return isinstance(found, dict) and all(plain(found.get(n)) == plain(claims[n]) for n in names)


@pytest.mark.parametrize("count", COUNTS)
async def test_mutated_jwt_is_rejected(make_settings: SettingsFactory, count: int) -> None:
    random = Random(SEED)
    async with service(make_settings) as (api, app):
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        good = held["jwt"][b"authorization"].partition(b" ")[2].decode()
        tokens = bad_tokens(good, random)

        async def attacks() -> AsyncIterator[Row]:
            for _ in range(count):
                yield await ask(app, "GET", "/me", [(b"authorization", b"Bearer " + next(tokens))])

        await run("JWTs", count, attacks(), lambda status: status in (401, 431))
        assert (await ask(app, "GET", "/me", list(held["jwt"].items())))[0] == 200


def good_bodies(email: str) -> Mapping[str, dict[str, Any]]:
    """Well-formed bodies by path. Those of expensive or destructive operations are rejected."""
    return {
        "/register": {"email": "new@example.com", "password": "short", "name": "New"},
        "/login": {"email": email, "password": "wrong", "strategy": "token", "remember": False},
        "/me": {"name": "Alice"},
        "/me/password": {"current_password": "wrong", "new_password": PASSWORD},
        "/me/session": {"cart": [1, {"x": None}]},
        "/me/tokens": {"name": "script", "scopes": [], "expires_in": 60},
    }


def mutated_value(value: object, random: Random) -> object:
    """Another value, or the same value with one part changed."""
    others: list[object] = [
        None,
        True,
        0,
        -1,
        1e308,
        1 << 70,
        "",
        "x",
        [],
        {},
        "\0",
        "\ud800",
        "x" * 2000,
    ]
    others += [[value], {"x": value}, [[[[[]]]]], "\u212a@example.com", {"$ne": None}]
    if isinstance(value, dict) and value and random.random() < 0.8:
        name = random.choice(list(value))
        kind = random.randrange(4)
        if kind == 0:
            return {key: item for key, item in value.items() if key != name}
        if kind == 1:
            return value | {
                random.choice(("is_superuser", "id", "x", "", "\ud800", "__proto__")): 1
            }
        return value | {name: mutated_value(value[name], random)}
    return random.choice(others)


@pytest.mark.parametrize("count", COUNTS)
async def test_mutated_body_causes_no_crash(make_settings: SettingsFactory, count: int) -> None:
    random = Random(SEED)
    async with service(make_settings) as (api, app):
        alice = await api.create_user()
        held = list((await credentials(api, alice.email))["session"].items())
        document = (await api.get("/openapi.json")).json()
        routes = [item for item in operations(document) if item.content_type]
        bodies = good_bodies(alice.email)
        assert {item.template for item in routes} >= bodies.keys()
        kinds = [b"application/json"] * 8 + [b"text/plain", b"application/x-www-form-urlencoded"]

        def body_for(route: Operation) -> bytes:
            if route.template == "/token":
                form = b"grant_type=refresh_token&username=a%40example.com&password=x&scope=a+b"
                return mutated(form, random)
            good = bodies.get(route.template, {"x": 1})
            if random.random() < 0.1:
                return random.choice(list(HOSTILE_JSON.values()))
            raw = json.dumps(mutated_value(good, random)).encode()
            return mutated(raw, random) if random.random() < 0.5 else raw

        async def attacks() -> AsyncIterator[Row]:
            for _ in range(count):
                route = random.choice(routes)
                kind = random.choice(kinds)
                if route.template == "/token":
                    kind = b"application/x-www-form-urlencoded"
                body = body_for(route)
                headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
                headers += [] if route.template == "/login" else held
                status, answer = await ask(app, route.method, route.path, headers, body)
                # Bodies that are still valid are accepted by routes that change little.
                if status < 300:
                    assert route.template in ("/me", "/me/session", "/me/tokens"), (route, body)
                    assert kind == b"application/json"
                    assert isinstance(json.loads(body), dict)
                yield status, answer

        expected = {200, 201, 400, 401, 403, 413, 415, 422, 429, 431}
        await run("bodies", count, attacks(), lambda status: status in expected)
        me = json.loads((await ask(app, "GET", "/me", held))[1])
        assert (me["id"], me["is_superuser"]) == (str(alice.id), False)


@pytest.mark.parametrize("count", COUNTS)
async def test_mutated_credential_header_is_rejected(
    make_settings: SettingsFactory, count: int
) -> None:
    random = Random(SEED)
    async with service(make_settings) as (api, app):
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        held["basic"] = basic(alice.email, PASSWORD)
        names = list(held)
        document = (await api.get("/openapi.json")).json()
        routes = [item for item in operations(document) if item.strategies]

        def changed(name: str) -> Headers:
            [(field, value)] = held[name].items()
            other = mutated(value, random)
            headers = [(field, other)]
            if random.random() < 0.1:
                headers.append((random.choice((b"authorization", b"cookie")), other))
            return headers

        def is_good(headers: Headers) -> bool:
            # Only ignored parts were added, such as another cookie.
            for field, value in headers:
                for name in ("session", "token", "jwt"):
                    [(known, good)] = held[name].items()
                    if field == known and field == b"cookie":
                        pairs = [pair.strip(b" \t") for pair in value.split(b";")]
                        if pairs.count(good) >= 1:
                            return True
                    elif field == known:
                        scheme, _, token = value.partition(b" ")
                        if (scheme.lower(), token.strip(b" ")) == (b"bearer", good[7:]):
                            return True
            return False

        async def attacks() -> AsyncIterator[Row]:
            tried = 0
            while tried < count:
                headers = changed(random.choice(names))
                if is_good(headers):
                    continue
                tried += 1
                route = random.choice(routes)
                yield await ask(app, route.method, route.path, headers)

        await run("credentials", count, attacks(), lambda status: status in (400, 401, 431))
        for name in ("session", "token", "jwt"):
            assert (await ask(app, "GET", "/me", list(held[name].items())))[0] == 200, name
