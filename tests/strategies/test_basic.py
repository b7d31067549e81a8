"""HTTP Basic: the contract, and the parser for RFC 7617."""

import base64
from collections.abc import AsyncIterator

import pytest

from authapi import Settings, User, create_app
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD, Client, client
from authapi.testing.strategy_contract import StrategyContract
from authapi.testing.strategy_harness import Credential, Harness, Headers, statements
from tests.conftest import SettingsFactory
from tests.strategies.on_each_database import OnEachDatabase

UTF8_PASSWORD = "pässwörter 日本語 \N{KEY} длинный"


def basic(user: str | bytes, password: str | bytes = PASSWORD) -> Headers:
    raw = b":".join(part if isinstance(part, bytes) else part.encode() for part in (user, password))
    return {"Authorization": "Basic " + base64.b64encode(raw).decode()}


async def test_foreign_origin_cannot_use_remembered_credentials(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(strategies="basic", allowed_origins=("https://app.example.com",))
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        for sent, status in (
            ({}, 200),
            ({"sec-fetch-site": "same-origin"}, 200),
            ({"origin": "http://127.0.0.1:8000"}, 200),
            ({"sec-fetch-site": "cross-site", "origin": "https://app.example.com"}, 200),
            ({"sec-fetch-site": "cross-site", "origin": "https://evil.example"}, 403),
            ({"sec-fetch-site": "same-site"}, 403),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
        ):
            headers = {**basic(alice.email), **sent}
            answer = await api.patch("/me", json={"name": "x"}, headers=headers)
            assert answer.status_code == status, sent
            assert status == 200 or answer.json()["code"] == "foreign_origin"
            # GET is safe: the page cannot read the response. Loading it as a script is not safe.
            assert (await api.get("/me", headers=headers)).status_code == 200
        script = {**basic(alice.email), "sec-fetch-dest": "script"}
        answer = await api.get("/me", headers=script)
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_destination")


class TestBasic(OnEachDatabase, StrategyContract):
    spec = "basic"
    has_session = False
    records_refusals = True

    async def obtain(self, harness: Harness, user: User) -> Credential:
        # The first authentication of a day is recorded as a login, like those of other strategies.
        credential = Credential(basic(user.email), PASSWORD)
        assert (await harness.get("/async", credential)).status_code == 200
        return credential

    def malformed(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        email = harness.alice.email
        text = good.headers["Authorization"].removeprefix("Basic ")
        plain = {
            "no colon": base64.b64encode(f"{email}{PASSWORD}".encode()).decode(),
            "nothing": "",
            "only a colon": base64.b64encode(b":").decode(),
            "not base64": "YTpi!!!!",
            "junk inside": text[:4] + "!" + text[4:],
            "junk behind": text + "!!!!",
            "a space inside": text[:4] + " " + text[4:],
            "padding missing": base64.b64encode(f"{email}:{PASSWORD}x".encode()).decode()[:-1],
            "padding inside": "YQ==" + text,
            "the alphabet of URLs": base64.urlsafe_b64encode(b"a:\xfb\xff").decode(),
            "not encoded": f"{email}:{PASSWORD}",
            "not ASCII": text + "é",
        }
        pairs = {
            "no password": basic(email, ""),
            "no user": basic(""),
            "not UTF-8": basic(email, b"correct horse \xff battery"),
            "Latin-1": basic(email, "pässwörter".encode("latin-1")),
            "UTF-8 of a surrogate": basic(email, b"correct horse \xed\xa0\x80 battery"),
            "NUL in the password": basic(email, PASSWORD + "\0"),
            "NUL in the user": basic(email + "\0"),
            "a password longer than any": basic(email, "x" * 1025),
            "no address": basic("alice"),
            "a name before the address": basic(f"Alice <{email}>"),
            "a space before the address": basic(" " + email),
            "two addresses": basic(f"{email},{email}"),
        }
        return {
            reason: {"Authorization": f"Basic {text}"} for reason, text in plain.items()
        } | pairs

    def unknown(self, harness: Harness, good: Credential) -> dict[str, Headers]:
        email = harness.alice.email
        return {
            "unknown address": basic("unknown@example.com"),
            "another password": basic(email, "x" + PASSWORD),
            "the password in capitals": basic(email, PASSWORD.upper()),
            "the password with a space behind": basic(email, PASSWORD + " "),
            "the password cut": basic(email, PASSWORD[:-1]),
        }


@pytest.fixture
async def api(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The shipped app with HTTP Basic enabled."""
    names = ("session", "token", "jwt", "basic")
    async with client(create_app(make_settings(strategies=names))) as found:
        yield found


async def test_strategy_is_disabled_by_default(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    assert "basic" not in settings.strategies
    app = create_app(settings)
    async with client(app) as api:
        alice = await api.create_user()
        with statements(api) as seen:
            answer = await api.get("/me", headers=basic(alice.email))
        assert answer.status_code == 401
        assert len(seen) == 0, "the password is not verified"
        assert "Basic" not in str(answer.headers.get_list("www-authenticate"))
    assert "basic" not in app.openapi()["components"]["securitySchemes"]


async def test_user_and_password_are_utf8(api: Client) -> None:
    alice = await api.create_user("alice@bücher.example", password=UTF8_PASSWORD)
    for address in ("alice@bücher.example", "alice@xn--bcher-kva.example", "Alice@Bücher.EXAMPLE"):
        answer = await api.get("/me", headers=basic(address, UTF8_PASSWORD))
        assert answer.status_code == 200, address
        assert answer.json()["id"] == str(alice.id)
    challenges = (await api.get("/me")).headers.get_list("www-authenticate")
    assert 'Basic realm="authapi", charset="UTF-8"' in challenges


async def test_password_with_colons_and_outer_spaces_is_accepted(api: Client) -> None:
    password = ": a:password: of:colons : "
    alice = await api.create_user(password=password)
    assert (await api.get("/me", headers=basic(alice.email, password))).status_code == 200
    assert (await api.get("/me", headers=basic(alice.email, password.strip()))).status_code == 401


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC"])
async def test_scheme_is_case_insensitive(api: Client, scheme: str) -> None:
    alice = await api.create_user()
    credential = basic(alice.email)["Authorization"].removeprefix("Basic ")
    headers = {"Authorization": f"{scheme} {credential}"}
    assert (await api.get("/me", headers=headers)).status_code == 200


async def test_identity_of_basic_credentials(make_settings: SettingsFactory) -> None:
    settings = make_settings(strategies=("session", "basic"), scopes={"a": "A", "b": "B"})
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        seen = (await api.get("/me/identity", headers=basic(alice.email))).json()
    assert seen["strategy"] == "basic"
    assert (seen["session_id"], seen["expires_at"]) == (None, None)
    assert (seen["scopes"], seen["amr"]) == (["a", "b"], ["pwd"])


async def test_logout_is_refused(api: Client) -> None:
    alice = await api.create_user()
    answer = await api.post("/logout", headers=basic(alice.email))
    assert answer.status_code == 401
    assert "Basic" not in str(answer.headers.get_list("www-authenticate"))
    body = {"email": alice.email, "password": PASSWORD, "strategy": "basic"}
    refused = await api.post("/login", json=body)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["loc"] == ["body", "strategy"]


async def test_account_without_password_is_refused(api: Client) -> None:
    await api.services.accounts.registration.create(parse_email("invited@example.com"), None)
    for password in (PASSWORD, "None", "!", "x"):
        answer = await api.get("/me", headers=basic("invited@example.com", password))
        assert answer.status_code == 401


@pytest.mark.real_hashes
async def test_weak_hash_is_rehashed(database_url: str) -> None:
    names = ("session", "basic")
    weak = Settings(database_url=database_url, strategies=names)  # type: ignore[arg-type]
    async with client(create_app(weak)) as api:
        alice = await api.create_user()
    strong = Settings(database_url=database_url, strategies=names, argon2_passes=3)  # type: ignore[arg-type]
    async with client(create_app(strong)) as api:
        for expected in (["SELECT", "UPDATE", "INSERT"], ["SELECT"]):
            with statements(api) as seen:
                assert (await api.get("/me", headers=basic(alice.email))).status_code == 200
            assert [t.split()[0] for t in seen if "BEGIN" not in t] == expected
