"""Known vulnerabilities of other products (rows 31 to 49): addresses, passwords and links."""

import hmac
import json
from collections.abc import AsyncIterator, Mapping
from functools import partial
from uuid import uuid4

import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.crypto.encryption import Cipher
from authapi.crypto.passwords import PasswordHash, PasswordHasher
from authapi.domain.email_address import parse_email
from authapi.errors import DecryptionFailed
from authapi.services.keys.key_set import private_key_context
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import (
    SECRET,
    basic,
    bearer,
    claims_of,
    comparable,
    credentials,
    forge,
    header,
    operations,
)
from tests.tables import users

NEW = "another horse battery staple"


class Hashes(list[str]):
    """The passwords that were hashed or verified, in order."""


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> Hashes:
    """Counts every run of argon2."""
    seen = Hashes()
    hash_, verify = PasswordHasher.hash, PasswordHasher.verify

    def counted_hash(self: PasswordHasher, password: str) -> PasswordHash:
        seen.append("hash")
        return hash_(self, password)

    def counted_verify(self: PasswordHasher, password: str, stored: PasswordHash | None) -> None:
        seen.append("verify")
        verify(self, password, stored)

    monkeypatch.setattr(PasswordHasher, "hash", counted_hash)
    monkeypatch.setattr(PasswordHasher, "verify", counted_verify)
    return seen


@pytest.fixture
async def every(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The application with every authentication method, and a secret that these tests know."""
    names = ("session", "token", "jwt", "basic")
    changes = {"secret": SECRET, "limit_account_and_network": "100/minute"}
    async with client(create_app(make_settings(strategies=names, **changes))) as found:
        yield found


LOOKALIKES = (
    ("mike@example.org", "m\u0131ke@example.org"),  # dotless i
    ("mike@example.org", "M\u0130KE@example.org"),  # dotted I
    ("kelvin@example.org", "\u212aelvin@example.org"),  # Kelvin sign
    ("sam@example.org", "\u017fam@example.org"),  # long s
    ("anna@example.org", "\uff41nna@example.org"),  # full width
    ("anna@example.org", "\u0430nna@example.org"),  # Cyrillic
    ("anna@example.org", "anna\uff20example.org"),  # full-width at
    ("anna@example.org", "anna@example\u3002org"),  # ideographic full stop
    ("anna@example.org", "anna@\uff45xample.org"),
    ("anna@viii.com", "anna@\u2167.com"),  # Roman numeral eight as one character
    ("anna@example.org", "anna@exam\u00adple.org"),  # soft hyphen
    ("anna@example.org", "an\u200bna@example.org"),  # zero width space
)


@pytest.mark.parametrize(("victim", "attacker"), LOOKALIKES)
async def test_row_31_lookalike_address_does_not_match_an_account(
    api_on_each: Client, victim: str, attacker: str
) -> None:
    api = api_on_each
    alice = await api.create_user(victim)
    for path in ("/login", "/register"):
        answer = await api.post(path, json={"email": attacker, "password": PASSWORD})
        assert answer.status_code == 422, path
        assert attacker not in answer.text
    found = await api.post("/login", json={"email": victim.upper(), "password": PASSWORD})
    assert found.json()["user"]["id"] == str(alice.id)


async def test_row_32_one_mailbox_has_one_account(api_on_each: Client) -> None:
    api = api_on_each
    twins = (
        ("a@b\u00fccher.example", "A@xn--bcher-kva.EXAMPLE"),
        ("a@fa\u00df.example", "a@xn--fa-hia.example"),
        ("a@EXAMPLE.com", "A@example.COM"),
    )
    for first, second in twins:
        body = {"email": first, "password": PASSWORD}
        made = await api.post("/register", json=body)
        assert made.status_code == 201
        again = await api.post("/register", json={**body, "email": second})
        assert (again.status_code, again.json()["code"]) == (409, "email_taken")
        found = await api.post("/login", json={**body, "email": second})
        assert found.json()["user"]["id"] == made.json()["id"]
        api.cookies.clear()
    # Different domains are different mailboxes, even if a mapping makes them equal.
    other = await api.post("/register", json={"email": "a@fass.example", "password": PASSWORD})
    assert other.status_code == 201
    for several in ("Name <a@example.com>", "a@x.example,b@x.example", "a@x.example\nBcc:b@y.org"):
        answer = await api.post("/register", json={"email": several, "password": PASSWORD})
        assert answer.status_code == 422


async def test_row_36_host_header_is_not_used_in_urls(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(public_url="https://auth.example.com", secret=SECRET)
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        document = (await api.get("/openapi.json")).json()
        for host in (b"evil.example", b"localhost/../x", b"a@evil.example", b"", b"evil.example:1"):
            headers = {b"host": host, b"x-forwarded-host": b"evil.example"}
            headers |= {b"forwarded": b"host=evil.example", b"x-original-url": b"/evil.example"}
            body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
            login = await api.post("/login", json=body, headers=headers)
            assert claims_of(login.json()["access_token"])["iss"] == "https://auth.example.com"
            for path in ("/me", "/nothing", "/me/", "/login", "/openapi.json", "/health/ready"):
                answer = await api.get(path, headers=headers)
                assert "evil" not in answer.text
                assert "evil" not in str(answer.headers)
                assert "location" not in answer.headers
            assert (await api.get("/openapi.json", headers=headers)).json() == document
    with pytest.raises(ValueError, match="AUTHAPI_PUBLIC_URL"):
        Settings(env="production", secret=SECRET, database_url="postgresql://db/x")  # type: ignore[arg-type]


async def test_row_37_no_route_redirects(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    targets: tuple[str, ...] = (
        "//evil.example",
        "/\\evil.example",
        "https:evil.example",
        "javascript:alert(1)",
    )
    targets += ("https://good@evil.example", "%2f%2fevil.example", "https://evil.example")
    names = ("next", "url", "redirect_uri", "redirect", "return_to", "callbackURL", "RelayState")
    for target in targets:
        query = "&".join(f"{name}={target}" for name in names)
        for method, path in (("GET", "/me"), ("POST", "/login"), ("GET", "/nothing")):
            body = {"email": alice.email, "password": PASSWORD} if method == "POST" else None
            headers = {} if body else held
            answer = await api.request(method, f"{path}?{query}", json=body, headers=headers)
            assert answer.status_code in (200, 404)
            assert "location" not in answer.headers
            assert "evil" not in answer.text + str(answer.headers)
            api.cookies.clear()
        body = {"email": alice.email, "password": PASSWORD, "next": target}
        assert (await api.post("/login", json=body)).status_code == 422
    for route in operations((await api.get("/openapi.json")).json()):
        answer = await api.request(route.method, route.path + "/")
        assert answer.status_code == 404, route
        assert "location" not in answer.headers


GUESSED = ("", "secret", "changeme" * 4, "0" * 32, "super-secret-key-change-in-production")


async def test_row_40_guessable_secrets_and_forged_cursors_are_rejected(every: Client) -> None:
    alice = await every.create_user()
    held = await credentials(every, alice.email)
    token = held["jwt"][b"authorization"].decode().partition(" ")[2]
    async with every.services.database.read() as store:
        stored = await store.signing_keys.all()
    for guess in GUESSED:
        # With the secret, an attacker who can read the database could decrypt the keys, and any
        # attacker could sign tokens.
        for key in stored:
            assert key.private_key
            with pytest.raises(DecryptionFailed):
                Cipher(guess.encode()).decrypt(
                    key.private_key, context=private_key_context(key.kid)
                )
        sign = partial(hmac.digest, guess.encode(), digest="sha256")
        for algorithm in ("HS256", "ES256"):
            forged = forge(header(alg=algorithm), claims_of(token), sign)
            assert (await every.get("/me", headers=bearer(forged))).status_code == 401
    for guess in GUESSED[2:]:
        with pytest.raises(ValueError, match=r"secret|SECRET"):
            Settings(
                env="production",
                secret=guess,  # type: ignore[arg-type]
                public_url="https://auth.example.com",
                database_url="postgresql://db/x",  # type: ignore[arg-type]
            )
    mine = (await every.get("/me/events", headers=held["session"])).json()["items"]
    assert mine
    for cursor in ("'", "1 OR 1=1", "0", "x" * 5000, "%00", "null", "-1", "[]", "{}"):
        answer = await every.get("/me/events", params={"before": cursor}, headers=held["session"])
        assert answer.status_code == 422, cursor
    for cursor in (str(uuid4()), "00000000-0000-0000-0000-000000000000"):
        answer = await every.get(f"/me/events?before={cursor}", headers=held["session"])
        assert all(item in mine for item in answer.json()["items"])


async def test_row_42_every_refused_login_costs_the_same_and_says_the_same(
    every: Client, hashes: Hashes
) -> None:
    known = await every.create_user()
    off = await every.create_user()
    await every.services.accounts.administration.change(off.id, {"is_active": False})
    bare = parse_email("bare@example.com")
    await every.services.accounts.registration.create(bare, None)
    broken = await every.create_user()
    async with every.services.database.engine.begin() as connection:
        damaged = PasswordHash("$argon2id$v=19$m=19456,t=2,p=1$damaged$damaged")
        await connection.execute(
            sa.update(users).where(users.c.id == broken.id).values(password_hash=damaged)
        )
    cases = {
        "unknown": ("unknown@example.com", NEW),
        "wrong": (known.email, NEW),
        "deactivated": (off.email, PASSWORD),
        "without password": (bare.original, PASSWORD),
        "damaged hash": (broken.email, PASSWORD),
        "longest password": (known.email, "x" * 1024),
    }
    seen = []
    for email, password in cases.values():
        hashes.clear()
        for strategy in (None, "session", "token", "jwt"):
            body = {"email": email, "password": password, "strategy": strategy}
            answer = await every.post("/login", json=body)
            seen.append(comparable(answer))
        assert hashes == ["verify"] * 4
    assert seen == [seen[0]] * len(seen)
    assert seen[0][0] == 401
    seen.clear()
    for email, password in cases.values():
        hashes.clear()
        seen.append(comparable(await every.get("/me", headers=basic(email, password))))
        assert hashes == ["verify"]
    assert seen == [seen[0]] * len(seen)
    # Input that cannot be a password is not hashed, for known and unknown accounts alike.
    hashes.clear()
    answers = []
    for email in (known.email, "unknown@example.com"):
        for password in ("x" * 1025, "x\ud800"):
            content = json.dumps({"email": email, "password": password}).encode()
            headers = {"content-type": "application/json"}
            answers.append(comparable(await every.post("/login", content=content, headers=headers)))
    assert hashes == []
    assert answers[:2] == answers[2:]
    assert {status for status, _, _ in answers} == {400, 422}


async def test_row_44_no_part_of_a_password_is_ignored(every: Client, hashes: Hashes) -> None:
    password = "pa\u00e9 " + "".join(chr(0x4E00 + number) for number in range(1020))
    assert len(password) == 1024
    alice = await every.create_user(password=password)
    for at in (0, 2, 71, 72, 73, 254, 255, 1022, 1023):
        other = password[:at] + "x" + password[at + 1 :]
        body = {"email": alice.email, "password": other}
        hashes.clear()
        assert (await every.post("/login", json=body)).status_code == 401, at
        assert hashes == ["verify"]
    for cut in (password[:-1], password[1:], password.upper(), password.strip("p")):
        assert (await every.get("/me", headers=basic(alice.email, cut))).status_code == 401
    # A correct password is verified every time: successful verifications are not cached.
    hashes.clear()
    bob = await every.create_user(password=password)
    hashes.clear()
    for _ in range(3):
        assert (await every.get("/me", headers=basic(bob.email, password))).status_code == 200
    assert hashes == ["verify"] * 3


async def test_row_45_password_length_is_checked_before_hashing(
    every: Client, hashes: Hashes
) -> None:
    alice = await every.create_user()
    held = await credentials(every, alice.email)
    hashes.clear()
    for path, body in (
        ("/login", {"email": alice.email, "password": "%s"}),
        ("/register", {"email": "new@example.com", "password": "%s"}),
        ("/me/password", {"current_password": "%s", "new_password": NEW}),
        ("/me/password", {"current_password": PASSWORD, "new_password": "%s"}),
        ("/me/reauthenticate", {"password": "%s"}),
    ):
        for length, status in ((1025, 422), (60_000, 422), (1_000_000, 413)):
            filled = {k: v.replace("%s", "x" * length) for k, v in body.items()}
            answer = await every.post(path, json=filled, headers=held["session"])
            assert answer.status_code == status, (path, length)
    for email in ("\u0130" * 15_000 + "@x.example", "a@" + "\u00fc" * 15_000, "x" * 1_000_000):
        answer = await every.post("/login", json={"email": email, "password": PASSWORD})
        assert answer.status_code in (413, 422)
    form = {"grant_type": "password", "username": alice.email, "password": "x" * 1025}
    assert (await every.post("/token", data=form)).status_code == 400
    assert (await every.get("/me", headers=basic(alice.email, "x" * 1025))).status_code == 401
    assert hashes == []


async def attempt(
    api: Client, way: str, email: str, password: str, held: Mapping[bytes, bytes]
) -> int:
    """Authenticate with a password by one of the methods."""
    if way == "basic":
        answer = await api.get("/me", headers=basic(email, password))
    elif way == "form":
        form = {"grant_type": "password", "username": email, "password": password}
        answer = await api.post("/token", data=form)
    elif way == "change":
        change = {"current_password": password, "new_password": NEW}
        answer = await api.post("/me/password", json=change, headers=held)
    else:
        body = {"email": email, "password": password, "strategy": way}
        answer = await api.post("/login", json=body)
    if answer.status_code == 429:
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["code"] == "too_many_attempts"
    return answer.status_code


@pytest.mark.parametrize("way", ["session", "token", "jwt", "form", "basic", "change"])
async def test_row_47_limit_applies_to_every_login_method(
    make_settings: SettingsFactory, way: str
) -> None:
    names = ("session", "token", "jwt", "basic")
    settings = make_settings(strategies=names, limit_account_and_network="2/hour")
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        held = (await credentials(api, alice.email))["session"]
        refused = {"form": 400, "change": 403}.get(way, 401)
        seen = [await attempt(api, way, alice.email, NEW + "x", held) for _ in range(3)]
        assert seen == [refused, refused, 429]
        # The right password is rejected as well, or the limit would reveal that it was found. All
        # methods and spellings share one counter. A change of password by a live session has its
        # own: guesses by attackers must not prevent the owner from changing the password.
        logins, changes = ("session", "form", "basic"), ("change",)
        same, others = (changes, logins) if way == "change" else (logins, changes)
        for other in same:
            assert await attempt(api, other, alice.email.upper(), PASSWORD, held) == 429
        for other in others[:2]:  # as many as the limit allows
            assert await attempt(api, other, alice.email, NEW + "x", held) in (400, 401, 403)
        assert (await api.get("/me", headers=held)).status_code == 200


async def test_row_47_registrations_have_their_own_limit(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(limit_registrations="2/hour"))) as api:
        statuses = []
        for number in range(3):
            body = {"email": f"new{number}@example.com", "password": PASSWORD}
            statuses.append((await api.post("/register", json=body)).status_code)
        assert statuses == [201, 201, 429]


async def test_row_48_missing_password_is_not_an_empty_password(every: Client) -> None:
    bare = parse_email("bare@example.com")
    await every.services.accounts.registration.create(bare, None)
    for password in ("", " ", "null", "None", "!", "*"):
        body = {"email": bare.original, "password": password}
        assert (await every.post("/login", json=body)).status_code in (401, 422)
        assert (await every.get("/me", headers=basic(bare.original, password))).status_code == 401
        form = {"grant_type": "password", "username": bare.original, "password": password}
        assert (await every.post("/token", data=form)).status_code == 400
    for absent in ({}, {"password": None}):
        body_ = {"email": bare.original, **absent}
        assert (await every.post("/login", json=body_)).status_code == 422
    alice = await every.create_user()
    held = (await credentials(every, alice.email))["session"]
    for change in (
        {"new_password": NEW},
        {"current_password": None, "new_password": NEW},
        {"current_password": "", "new_password": NEW},
    ):
        assert (await every.post("/me/password", json=change, headers=held)).status_code == 422
    await credentials(every, alice.email)


async def test_row_49_failing_strategy_does_not_authenticate(
    make_settings: SettingsFactory,
) -> None:
    names = ("session", "tests.security.attack:Crashing", "jwt")
    async with client(create_app(make_settings(strategies=names))) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD, "strategy": "crashing"}
        answer = await api.post("/login", json=body)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "hook" not in answer.text
        assert await api.services.sessions.list_for_user(alice.id) == []
        held = {}
        for name in ("session", "jwt"):
            login = await api.post("/login", json={**body, "strategy": name})
            held[name] = login.json().get("access_token") or login.cookies["authapi"]
            api.cookies.clear()
        good = {b"cookie": f"authapi={held['session']}".encode()}
        for headers in ({}, good):
            answer = await api.get("/me", headers=headers | {b"x-crash": b"1"})
            assert answer.status_code == 500
        assert (await api.get("/me", headers=good)).status_code == 200
