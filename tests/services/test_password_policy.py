"""The password policy, and exact comparison of passwords at login."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from authapi import create_app
from authapi.crypto.passwords import PasswordHasher
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.servers.forked import Forking

COMMON = (
    "password123456789",
    "PassWordPassWord",
    "123456789012345",
    "qwertyuiopasdfgh",
    "CorrectHorseBatteryStaple",
    "ｐａｓｓｗｏｒｄ１２３４５６７８９",
)
GOOD = {
    "20 lower-case letters": "qzjxkvbnwpfmtgrdhlys",
    "15 emoji": "🦊🐻🐼🐨🐯🦁🐮🐷🐸🐵🐔🐧🐦🐤🦆",
    "20 CJK characters": "春眠不覚暁処処聞啼鳥夜来風雨声花落知多少",
    "spaces and digits": " 4 8 15 16 23 42 108  ",
    "only digits": "94713260581946372058",
    "spaces at both ends": "  by the sea, by the sea  ",
    "64 characters": "the quick onyx goblin jumps over a lazy dwarf, 64 times a night!",
    "the longest": "".join(chr(0x4E00 + number) for number in range(1024)),
}


class Counter:
    """Counts the runs of argon2."""

    def __init__(self) -> None:
        self.hashed = self.verified = 0

    @property
    def total(self) -> int:
        return self.hashed + self.verified


@pytest.fixture
def argon2(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """Counts hashes since the start of the service, without its decoy."""
    counter = Counter()
    hash_it, verify_it = PasswordHasher.hash, PasswordHasher.verify

    def counted_hash(self: PasswordHasher, password: str) -> object:
        counter.hashed += 1
        return hash_it(self, password)

    def counted_verify(self: PasswordHasher, password: str, stored: object) -> None:
        counter.verified += 1
        verify_it(self, password, stored)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(PasswordHasher, "hash", counted_hash)
    monkeypatch.setattr(PasswordHasher, "verify", counted_verify)
    return counter


@pytest.fixture
async def alice(api: Client) -> User:
    """A user who is logged in with a cookie."""
    user = await api.create_user("alice@corp.example")
    await api.login(user)
    return user


async def register(api: Client, password: object, email: str = "bob@example.com") -> httpx.Response:
    return await api.post("/register", json={"email": email, "password": password})


async def change(api: Client, new: object) -> httpx.Response:
    body = {"current_password": PASSWORD, "new_password": new}
    return await api.post("/me/password", json=body)


async def log_in(api: Client, password: str, email: str = "bob@example.com") -> int:
    return (await api.post("/login", json={"email": email, "password": password})).status_code


def refusal(response: httpx.Response, code: str, field: str) -> None:
    assert response.status_code == 422, response.text
    (error,) = response.json()["errors"]
    assert (error["code"], error["loc"]) == (code, ["body", field])


@pytest.mark.parametrize("password", COMMON)
async def test_common_password_is_rejected_at_registration(
    api: Client, argon2: Counter, password: str
) -> None:
    refusal(await register(api, password), "password_common", "password")
    assert argon2.total == 0


@pytest.mark.parametrize("password", COMMON)
async def test_common_password_is_rejected_at_a_change(
    api: Client, alice: User, password: str
) -> None:
    refusal(await change(api, password), "password_common", "new_password")
    assert await log_in(api, PASSWORD, alice.email) == 200


def test_common_password_is_rejected_on_the_command_line(
    sqlite_url: str, forking: Forking, tmp_path: Path
) -> None:
    def command(*arguments: str, typed: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "AUTHAPI_DATABASE_URL": sqlite_url}
        return forking.run(arguments, environment, tmp_path, typed)

    refused = command("users", "create", "bob@example.com", typed="PassWordPassWord\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "authapi: password: this password is too common\n"
    made = command("users", "create", "bob@example.com", typed=PASSWORD + "\n")
    assert made.returncode == 0, made.stderr
    again = command("users", "set-password", "bob@example.com", typed="passwordpassword\n")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr == refused.stderr


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("alice@corp.example", "alice-corp-2026!!"),
        ("alice@corp.example", "ALICE@CORP.EXAMPLE"),
        ("jo@abc.def.ghi.com", "jo@abc.def.ghi.com!"),
        ("alice@corp.example", "ａｌｉｃｅ-corp-alice"),
        ("alice.winter+news@corp.example", "winter-alice-news-9"),
        ("anne-marie@department.corp.example", "Department-Marie-1"),
        ("bob@example.com", "authapi authapi 1!"),
    ],
)
async def test_own_address_and_context_words_do_not_count(
    api: Client, argon2: Counter, email: str, password: str
) -> None:
    refusal(await register(api, password, email), "password_guessable", "password")
    assert argon2.total == 0


async def test_own_address_does_not_count_at_a_change(api: Client, alice: User) -> None:
    refusal(await change(api, "alice-corp-2026!!"), "password_guessable", "new_password")


async def test_context_words_of_the_settings_do_not_count(make_settings: SettingsFactory) -> None:
    settings = make_settings(password_context_words=("Wonderland", "rabbit"))
    async with client(create_app(settings)) as api:
        refusal(await register(api, "Rabbit in wonderland"), "password_guessable", "password")
        assert (await register(api, "Rabbit in wonderland, late at tea")).status_code == 201


async def test_short_parts_of_an_address_are_ignored(api: Client) -> None:
    # Many words contain "al" and "co".
    response = await register(api, "calm ocean alcove coal", "al@co.example")
    assert response.status_code == 201, response.text


@pytest.mark.parametrize("password", GOOD.values(), ids=GOOD)
async def test_good_password_is_accepted_and_logs_in(api: Client, password: str) -> None:
    assert (await register(api, password)).status_code == 201
    assert await log_in(api, password) == 200


@pytest.mark.parametrize("character", ["é", "🦊", "花", "x"])
async def test_length_is_counted_in_characters(api: Client, character: str) -> None:
    # Varied characters, so that no other rule applies; the two differ by one character.
    base = "".join(character + letter for letter in "vjqkzxwpm")
    refusal(await register(api, base[:14]), "password_too_short", "password")
    assert (await register(api, base[:15])).status_code == 201


async def test_over_long_password_is_not_hashed(api: Client, alice: User, argon2: Counter) -> None:
    before = argon2.total
    longer = "".join(chr(0x4E00 + number) for number in range(1025))
    for response in (
        await register(api, longer),
        await change(api, longer),
        await api.post("/login", json={"email": "bob@example.com", "password": longer}),
        await api.post("/me/password", json={"current_password": longer, "new_password": PASSWORD}),
    ):
        assert response.status_code == 422
        assert longer[:50] not in response.text
    huge = await register(api, "x" * 1_000_000)
    assert huge.status_code == 413
    assert argon2.total == before


async def test_length_limits_apply_to_new_passwords_only(make_settings: SettingsFactory) -> None:
    settings = make_settings(password_min_length=20, password_max_length=64)
    async with client(create_app(settings)) as api:
        good = GOOD["64 characters"]
        assert len(good) == 64
        refusal(await register(api, good + "!"), "password_too_long", "password")
        refusal(await register(api, good[:19]), "password_too_short", "password")
        assert (await register(api, good)).status_code == 201
        assert await log_in(api, good) == 200
        # At login, a password outside the limits gets the same response as any wrong one.
        assert await log_in(api, good + "!") == 401


@pytest.mark.parametrize("length", [72, 255, 1023])
async def test_cve_2025_22228_long_password_is_not_truncated(api: Client, length: int) -> None:
    start = ("the sea is wide and the night is long; " * 40)[:length]
    await api.create_user("bob@example.com", password=start + "a")
    assert await log_in(api, start + "a") == 200
    assert await log_in(api, start + "b") == 401
    assert await log_in(api, start) == 401


@pytest.mark.parametrize(
    "other",
    [
        "Pä ss und viel mehr davon ",
        " Pä ss und viel mehr davon",
        "pä ss und viel mehr davon",
        "Ｐä ss und viel mehr davon",
        "Pä  ss und viel mehr davon",
    ],
)
async def test_password_is_compared_exactly_as_received(api: Client, other: str) -> None:
    password = "Pä ss und viel mehr davon"
    assert (await register(api, password)).status_code == 201
    assert await log_in(api, password) == 200
    assert await log_in(api, other) == 401


async def test_each_login_verifies_the_password_once(
    api: Client, alice: User, argon2: Counter
) -> None:
    # Correct passwords are not cached.
    before = argon2.verified, argon2.hashed
    for number in range(1, 4):
        assert await log_in(api, PASSWORD, alice.email) == 200
        assert (argon2.verified, argon2.hashed) == (before[0] + number, before[1])
    assert await log_in(api, PASSWORD + "!", alice.email) == 401
    assert argon2.verified == before[0] + 4


async def test_account_without_password_cannot_log_in_with_one(api: Client) -> None:
    from authapi.domain.email_address import parse_email

    await api.services.accounts.registration.create(parse_email("bob@example.com"), None)
    assert await log_in(api, " ") == 401
    for empty in ("", None):
        body = {"email": "bob@example.com", "password": empty}
        assert (await api.post("/login", json=body)).status_code == 422


async def test_change_requires_the_current_password_and_a_new_one(api: Client, alice: User) -> None:
    response = await api.post("/me/password", json={"new_password": GOOD["spaces and digits"]})
    assert response.status_code == 422
    refusal(await change(api, PASSWORD), "password_unchanged", "new_password")


async def test_passwords_do_not_expire(
    api: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import timedelta

    from authapi.clock import now
    from authapi.services.accounts import authentication, passwords
    from authapi.services.sessions import service as sessions

    later = now() + timedelta(days=3653)
    for module in (authentication, passwords, sessions):
        monkeypatch.setattr(module, "now", lambda: later)
    assert await log_in(api, PASSWORD, alice.email) == 200


async def test_password_fields_have_format_password(api: Client) -> None:
    document = (await api.get("/openapi.json")).json()
    found = {
        f"{name}.{field}": schema
        for name, model in document["components"]["schemas"].items()
        for field, schema in model.get("properties", {}).items()
        if "password" in field
    }
    assert set(found) == {
        "LoginRequest.password",
        "Registration.password",
        "PasswordChange.current_password",
        "PasswordChange.new_password",
        "PasswordReset.new_password",
        "EmailChange.current_password",
        "EmailConfirmation.password",
        "InvitationAcceptance.password",
        "Reauthentication.password",
    }
    for schema in found.values():
        assert (schema["format"], schema["writeOnly"]) == ("password", True)


def test_package_contains_no_list_of_passwords() -> None:
    # The package contains digests, which cannot be used as a list of passwords.
    from authapi.services import common_passwords

    folder = Path(common_passwords.__file__).parent
    for path in folder.iterdir():
        if path.is_file():
            assert b"password123456789" not in path.read_bytes()
