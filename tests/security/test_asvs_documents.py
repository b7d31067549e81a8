"""The documentation that ASVS requires exists, and the running service complies with it."""

import ast
import re
from pathlib import Path

import httpx
import pytest

import authapi
from authapi import Settings, create_app
from authapi.domain.events import EventType
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.security.attack import basic, bearer, credentials, operations
from tests.tables import PREFIX, metadata

ROOT = Path(__file__).parents[2]
NEW = "another horse battery staple"
CRYPTOGRAPHY = {"cryptography", "hashlib", "hmac", "jose", "passlib", "random", "secrets", "zlib"}
CRYPTOGRAPHY |= {"argon2", "bcrypt", "ssl", "webauthn"}


def table(heading: str, page: str = "docs/asvs.md") -> list[list[str]]:
    """The rows of the table below a heading of a page, without backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    [part] = [part for part in text.split("\n## ") if part.startswith(heading)]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip().replace("`", "") for cell in line[1:-1].split("|")] for line in lines]


def pages() -> str:
    """The documents about errors and security."""
    names = ("asvs.md", "errors.md")
    return "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in names)


async def test_v2_1_1_every_field_documents_its_values(api: Client) -> None:
    document = (await api.get("/openapi.json")).json()
    checked = 0
    for route in operations(document):
        for name, field in route.schema.get("properties", {}).items():
            for schema in field.get("anyOf", [field]):
                if schema.get("type") == "string":
                    checked += 1
                    assert schema.keys() & {"maxLength", "enum", "const"}, (route, name)
                    assert schema.keys() & {"pattern", "format", "enum", "const"}, (route, name)
    assert checked > 8


async def test_v2_1_2_rules_between_fields_have_documented_codes(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    same = {"current_password": PASSWORD, "new_password": PASSWORD}
    for method, path, body, code in (
        ("POST", "/me/password", same, "password_unchanged"),
        ("POST", "/me/tokens", {"name": "s", "scopes": ["x"]}, "scope_not_allowed"),
        ("POST", "/me/tokens", {"name": "s", "expires_in": 10**9}, "lifetime_too_long"),
        (
            "POST",
            "/login",
            {"email": alice.email, "password": PASSWORD, "strategy": "x"},
            "unknown_strategy",
        ),
        ("PATCH", "/me/session", {"x": "y" * 5000}, "session_data_too_large"),
    ):
        answer = await api.request(method, path, json=body, headers=held)
        assert answer.status_code == 422
        assert [error["code"] for error in answer.json()["errors"]] == [code]
        assert f"`{code}`" in pages()


async def test_v2_1_3_limits_are_documented_and_hold(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    documented = {name: value for name, value, _ in table("Limits", "SECURITY.md")}
    fields = {name for name in Settings.model_fields if re.match(r"limit_|max_", name)}
    assert fields | {"hash_queue", "session_data_bytes"} <= documented.keys()
    assert all(documented[name] == str(getattr(settings, name)) for name in fields)
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": NEW}
        statuses = [(await api.post("/login", json=body)).status_code for _ in range(11)]
        assert statuses == [401] * 10 + [429]
        size = int(documented["max_body_bytes"])
        headers = {"content-type": "application/json"}
        for length, status in ((size, 400), (size + 1, 413)):
            answer = await api.post("/register", content=b"x" * length, headers=headers)
            assert answer.status_code == status
        long = bearer("x" * int(documented["max_credential_bytes"]))
        assert (await api.get("/me", headers=long)).status_code == 431


async def test_v6_1_2_context_words_are_documented_and_rejected(
    make_settings: SettingsFactory,
) -> None:
    assert Settings().password_context_words == ("authapi",)
    assert "by default `authapi`" in pages()
    settings = make_settings(password_context_words=("authapi", "acme"))
    async with client(create_app(settings)) as api:
        for password in ("authapi-authapi-1", "Acme.AuthAPI.acme", "alice.smith-acme1"):
            body = {"email": "alice.smith@example.com", "password": password}
            answer = await api.post("/register", json=body)
            assert answer.status_code == 422, password
            assert answer.json()["errors"][0]["code"] == "password_guessable"


@pytest.mark.parametrize(
    "row", table("Authentication pathways"), ids=lambda row: row[0].split(" (")[0]
)
async def test_v6_1_3_each_authentication_method_has_the_documented_controls(
    make_settings: SettingsFactory, row: list[str]
) -> None:
    way, *controls = row
    can_ask = way.startswith("POST /login")
    assert controls == ["yes", "refused", "yes", "asked for it" if can_ask else "refused"]
    settings = make_settings(
        strategies=("session", "token", "jwt", "basic"), limit_account_and_network="2/hour"
    )
    async with client(create_app(settings)) as api:
        alice, off = await api.create_user(), await api.create_user()
        await api.services.accounts.administration.change(off.id, {"is_active": False})
        enrolled = await api.create_user()
        await add_second_factors(api.services, enrolled)

        async def send(email: str, password: str) -> httpx.Response:
            if way.startswith("Basic"):
                answer = await api.get("/me", headers=basic(email, password))
            elif "/token" in way:
                form = {"grant_type": "password", "username": email, "password": password}
                answer = await api.post("/token", data=form)
            else:
                name = way.rpartition(" ")[2]
                body = {"email": email, "password": password, "strategy": name}
                answer = await api.post("/login", json=body)
            api.cookies.clear()
            return answer

        async def attempt(email: str, password: str) -> int:
            return (await send(email, password)).status_code

        refused = 400 if "/token" in way else 401
        assert await attempt(alice.email, PASSWORD) == 200
        assert await attempt(off.email, PASSWORD) == refused
        answer = await send(enrolled.email, PASSWORD)
        assert answer.status_code == refused
        assert (answer.json()["code"] == "second_factor_required") is can_ask
        assert [await attempt(alice.email, NEW) for _ in range(3)] == [refused, refused, 429]
        events = await api.services.audit.page(alice.id, before=None, limit=50)
        assert [item.type for item in events].count(EventType.LOGIN_REFUSED) == 2


async def test_v6_2_7_password_fields_permit_pasting(api: Client) -> None:
    page, scripts = (await api.get("/docs")).text, dict[str, str]()
    assert re.findall(r'<input[^>]*type="password"[^>]*>', page)
    for field in re.findall(r'<input[^>]*type="password"[^>]*>', page):
        assert re.search(r'autocomplete="(current|new)-password"', field), field
    names = {"page.js"}
    while unread := names - scripts.keys():
        name = unread.pop()
        scripts[name] = (await api.get(f"/docs/{name}")).text
        names |= set(re.findall(r'from "./([a-z-]+\.js)', scripts[name]))
    assert len(scripts) > 5
    script = "".join(scripts.values())
    for word in ("paste", "copy", "contextmenu"):
        assert word not in page + script


async def test_v7_1_1_lifetimes_are_documented_and_hold(make_settings: SettingsFactory) -> None:
    settings = make_settings()
    documented = {name: int(value) for name, value, _ in table("Lifetimes")}
    for name, seconds in documented.items():
        assert getattr(settings, name).total_seconds() == seconds, name
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        account = {"email": alice.email, "password": PASSWORD}
        for strategy, setting in (("token", "token_lifetime"), ("jwt", "jwt_lifetime")):
            answer = await api.post("/login", json={**account, "strategy": strategy})
            assert answer.json()["expires_in"] == documented[setting]
        answer = await api.post("/login", json={**account, "remember": True})
        assert f"Max-Age={documented['remember_absolute']}" in answer.headers["set-cookie"]


async def test_v8_1_1_access_to_each_route_is_documented(api: Client) -> None:
    documented = dict(table("Access control"))
    document = (await api.get("/openapi.json")).json()
    found = {f"{item.method} {item.template}": item for item in operations(document)}
    assert documented.keys() == found.keys()
    for route, who in documented.items():
        names, _, more = who.partition("; ")
        item = found[route]
        expected = set() if names == "public" else set(names.split(", "))
        assert set(item.strategies) == expected, route
        assert more in ("", "fresh", "scope introspect", "superuser", "superuser, fresh")
        answer = await api.request(item.method, item.path, json={})
        # The login of a ticket, which is no credential, is refused with a code of its own.
        refused = answer.status_code == 401 and answer.json()["code"] != "login_expired"
        assert refused == bool(expected), route


async def test_v8_1_2_access_to_each_field_is_documented(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    rows = [row for row in table("Data classification") if row[0].startswith("users.")]
    shown = (await api.get("/me", headers=held)).json().keys()
    readable = {row[0].partition(".")[2] for row in rows if row[2] == "yes"}
    assert shown == readable - {"email_given", "username_given"} | {"email", "username"}
    for column, _, _, writes in rows:
        name = column.partition(".")[2]
        answer = await api.patch("/me", json={name: "x"}, headers=held)
        assert (answer.status_code == 200) == (writes == "yes"), name


async def test_v11_1_2_cryptographic_inventory_is_complete(api: Client) -> None:
    package = Path(authapi.__file__).parent
    using: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found = {name.partition(".")[0] for name in names} & CRYPTOGRAPHY
            if found:
                using.setdefault(path.relative_to(package).as_posix(), set()).update(found)
    documented = {module: use for module, use, _ in table("Cryptography")}
    assert documented.keys() == using.keys()
    assert not {"random", "bcrypt"} & set().union(*using.values())
    assert {module for module, found in using.items() if "ssl" in found} == {
        "services/mail/transports/smtp.py",
        "outbound/http_client.py",
    }
    for module, uses in documented.items():
        text = (package / module).read_text(encoding="utf-8")
        called = set(re.findall(r"hashlib\.(\w+)\(", text))
        assert called <= {"sha256"} | ({"sha1"} if "SHA-1" in uses else set())
    for key in (await api.get("/.well-known/jwks.json")).json()["keys"]:
        assert (key["alg"], key["crv"], key["use"]) == ("ES256", "P-256", "sig")


async def test_v11_1_2_signing_key_signs_access_tokens_only(
    make_settings: SettingsFactory,
) -> None:
    """V11.1.1 and V11.1.2: without the keys, access tokens become invalid, and nothing else."""
    assert [stage for stage, _, _ in table("Keys")] == [
        *("generated", "stored", "used", "rotated", "destroyed")
    ]
    async with client(create_app(make_settings(scopes={}))) as api:
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        old = (await api.get("/.well-known/jwks.json")).json()["keys"]
        for headers in held.values():
            assert (await api.get("/me", headers=headers)).status_code == 200
        for key in old:
            await api.services.keys.lifecycle.retire(key["kid"])
        new = (await api.get("/.well-known/jwks.json")).json()["keys"]
        assert {key["kid"] for key in old}.isdisjoint(key["kid"] for key in new)
        answers = {
            name: (await api.get("/me", headers=headers)).status_code
            for name, headers in held.items()
        }
        assert answers == {"session": 200, "token": 200, "jwt": 401}
        body = {"email": alice.email, "password": PASSWORD, "strategy": "jwt"}
        token = (await api.post("/login", json=body)).json()["access_token"]
        assert (await api.get("/me", headers=bearer(token))).status_code == 200


async def test_v13_1_1_outgoing_connections_are_documented(api: Client) -> None:
    documented = {setting for _, setting, _ in table("Outgoing connections")}
    urls = {name for name in Settings.model_fields if name.endswith(("_url", "_urls"))}
    # Browsers follow these; the service does not connect to them.
    links = {"public_url", "home_url", "terms_url", "privacy_url", "support_url"}
    assert links <= urls
    assert documented == urls - links
    assert (await api.get("/health/ready")).status_code == 200


async def test_v14_1_stored_data_is_classified(api: Client) -> None:
    rows = {column: level for column, level, _, _ in table("Data classification")}
    columns = {
        f"{item.name.removeprefix(PREFIX)}.{column.name}"
        for item in metadata.sorted_tables
        for column in item.c
    }
    assert rows.keys() == columns
    assert set(rows.values()) == {"secret", "personal", "internal"}
    alice, bob = await api.create_user(name="Alice A."), await api.create_user()
    hers, his = await credentials(api, alice.email), await credentials(api, bob.email)
    document = (await api.get("/openapi.json")).json()
    secrets = {column.partition(".")[2] for column, level in rows.items() if level == "secret"}
    for route in operations(document):
        if route.method == "GET" and "session" in route.strategies:
            mine = await api.get(route.path, headers=hers["session"])
            other = await api.get(route.path, headers=his["session"])
            for name in secrets:
                assert f'"{name}"' not in mine.text
            assert "Alice A." not in other.text
            assert alice.email not in other.text
            directives = mine.headers["cache-control"]
            assert "no-store" in directives or "private" in directives


async def test_v16_1_1_logged_events_are_documented(api: Client) -> None:
    assert {event for event, _ in table("What is logged")} == {kind.value for kind in EventType}
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    seen = (await api.get("/me/events", headers=held)).json()["items"]
    assert {item["type"] for item in seen} == {"account_registered", "login"}
