"""Known vulnerabilities of other products (rows 56 to 66): bodies, ids, faults, concurrency."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from authapi import Settings, create_app
from authapi.errors import ConfigurationError
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import (
    HOSTILE_JSON,
    basic,
    bearer,
    comparable,
    credentials,
    operations,
)
from tests.servers.forked import Forking
from tests.tables import sessions, users

NEW = "another horse battery staple"
JSON = {b"content-type": b"application/json"}


@pytest.fixture
async def every(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    """The application with every authentication method."""
    names = ("session", "token", "jwt", "basic")
    async with client(create_app(make_settings(strategies=names))) as found:
        yield found


async def test_row_56_no_column_is_written_through_a_body(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    before = (await api.get("/me", headers=held)).json()
    columns = {column.name for column in users.columns} | {"role", "is_admin", "is_verified"}
    columns |= {"hashed_password", "isSuperuser", "is-superuser", "IS_SUPERUSER", "user_id"}
    good: dict[str, dict[str, object]] = {
        "/register": {"email": "new@example.com", "password": PASSWORD},
        "/me": {"name": "Mallory"},
    }
    for path, body in good.items():
        method = "POST" if path == "/register" else "PATCH"
        for name in sorted(columns - {"email", "password", "name"} | {"email"} - body.keys()):
            for value in (True, str(uuid4()), {"is_superuser": True}, None):
                for extra in ({name: value}, {"data": {name: value}}, {"user": {name: value}}):
                    if extra == {"locale": None}:
                        continue  # users may set it
                    answer = await api.request(method, path, json=body | extra, headers=held)
                    assert answer.status_code == 422, extra
    form = {"email": "new@example.com", "password": PASSWORD, "is_superuser": "true"}
    assert (await api.post("/register", data=form)).status_code == 415
    query = await api.patch("/me?is_superuser=true&name=Mallory", json={}, headers=held)
    assert query.json() == before
    async with api.services.database.engine.connect() as connection:
        rows = (await connection.execute(sa.select(users))).mappings().all()
    assert len(rows) == 1
    assert (rows[0]["is_superuser"], rows[0]["name"]) == (False, None)


async def test_row_57_resources_of_other_users_look_nonexistent(api_on_each: Client) -> None:
    api = api_on_each
    alice, bob = await api.create_user(), await api.create_user()
    hers = await credentials(api, alice.email)
    his = await credentials(api, bob.email)
    made = await api.post("/me/tokens", json={"name": "script"}, headers=hers["session"])
    token = made.json()["id"]
    ids = [item["id"] for item in (await api.get("/me/sessions", headers=hers["jwt"])).json()]
    assert len(ids) == 3
    for path, targets in (("/me/sessions", [*ids, token]), ("/me/tokens", [token, *ids])):
        random = comparable(await api.delete(f"{path}/{uuid4()}", headers=his["session"]))
        assert random[0] == 404
        for target in targets:
            for strategy in ("session", "jwt"):
                answer = await api.delete(f"{path}/{target}", headers=his[strategy])
                assert comparable(answer) == random, (path, target)
    for headers in (*hers.values(), bearer(made.json()["access_token"])):
        assert (await api.get("/me", headers=headers)).status_code == 200
    for strategy in ("session", "jwt"):
        seen = json.dumps((await api.get("/me/events", headers=his[strategy])).json())
        assert not any(target in seen for target in [*ids, token, str(alice.id)])


def _filled(schema: Mapping[str, Any], field: str, raw: bytes) -> bytes:
    """A body with all required fields of a schema, and `raw` as the value of `field`."""
    members = dict.fromkeys(schema.get("properties", {}), b'"x"') | {field: raw}
    return b"{" + b",".join(json.dumps(k).encode() + b":" + v for k, v in members.items()) + b"}"


@pytest.mark.slow
async def test_row_58_no_json_is_a_server_error(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user(is_superuser=True)
    held = (await credentials(api, alice.email))["session"] | JSON
    routes = [
        item
        for item in operations((await api.get("/openapi.json")).json())
        if item.content_type == "application/json"
    ]
    assert len(routes) >= 6
    for route in routes:
        fields = list(route.schema.get("properties", {})) or ["x"]
        for reason, raw in HOSTILE_JSON.items():
            bodies = [raw, *(_filled(route.schema, field, raw) for field in fields)]
            for body in bodies:
                answer = await api.request(route.method, route.path, content=body, headers=held)
                known = {200, 400, 401, 413, 422} if route.template == "/me/session" else {400, 422}
                if route.template == "/me/reauthenticate":
                    known |= {403, 429}  # a wrong password
                if route.template == "/me":
                    known |= {200}  # most texts are valid names
                if route.template.startswith("/admin/users"):
                    known |= {201, 404, 409}  # valid values for other accounts
                if route.template.startswith("/login/"):
                    known |= {401}  # no login waits for a second factor
                if route.template.startswith("/me/factors/"):
                    known |= {403, 404}  # wrong proofs, and factors that do not exist
                assert answer.status_code in known, (route, reason, body[:80])
                assert PASSWORD not in answer.text
        for field in fields:
            answer = await api.request(
                route.method,
                route.path,
                content=_filled(route.schema, field, HOSTILE_JSON["NUL"]),
                headers=held,
            )
            assert answer.status_code == 400, (route, field)


async def test_row_59_no_basic_credential_is_a_server_error(every: Client) -> None:
    alice = await every.create_user(
        "alice@example.com", password="p\u00e4ssw\u00f6rd \U0001f40e of mine"
    )
    for raw in (
        b"",
        b"Basic",
        b"Basic ",
        b"Basic !!!!",
        b"Basic YTpi!!!!",
        b"Basic YTpi\xff",
        b"Basic YTpi YTpi",
        b"Basic YTp",
        b"Basic " + b"YQ==",
        b"Basic " + b"Og==",
        b"Basic /////w==",
        b"Basic gICAgDqAgICA",
        b"Basic YQA6YgBi",
        b"Basic " + b"A" * 8000,
    ):
        answer = await every.get("/me", headers={b"authorization": raw})
        assert answer.status_code == 401, raw
        assert "www-authenticate" in answer.headers
    assert (
        await every.get("/me", headers=basic(alice.email, "p\u00e4ssw\u00f6rd \U0001f40e of mine"))
    ).json()["id"] == str(alice.id)


async def test_row_60_forms_have_limits(api: Client) -> None:
    alice = await api.create_user()
    good = f"grant_type=password&username={alice.email}&password={PASSWORD.replace(' ', '+')}"
    kind = {b"content-type": b"application/x-www-form-urlencoded"}
    assert (await api.post("/token", content=good, headers=kind)).status_code == 200
    for body, status in (
        ("&".join(f"f{number}=x" for number in range(20_000)), 413),
        ("&".join(f"f{number}=" for number in range(60)), 400),
        ("x" * 65_537, 413),
        (f"{good};x=2", 400),
        (good.replace("&", ";"), 400),
        (f"{good}&password=x", 400),
        (f"{good}&x=%ff", 400),
        (f"{good}&x=%00", 400),
        (f"{good}&x=\xe9", 400),
        (good.replace("=", "%3D"), 400),
        ("", 400),
        ("&&&&", 400),
        ("%" * 1000, 400),
    ):
        answer = await api.post("/token", content=body.encode("latin-1"), headers=kind)
        assert answer.status_code == status, body[:80]
    boundary = {b"content-type": b"multipart/form-data; boundary=x"}
    for path in ("/login", "/token", "/register"):
        preamble = b"\r\n" * 20_000 + b"--x--"
        answer = await api.post(path, content=preamble, headers=boundary)
        assert answer.status_code == 415
    for length in (b"-1", b"+5", b"1e3", b"99999999999", b"0x10", b"\xb2", b"5, 5"):
        headers = kind | {b"content-length": length}
        answer = await api.post("/token", content=good, headers=headers)
        assert answer.status_code in (400, 413), length


async def test_row_61_ranges_are_ignored(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    ranges = {b"range": b"bytes=" + b",".join([b"0-"] * 2500)}
    for path in ("/me", "/openapi.json", "/.well-known/jwks.json"):
        plain = await api.get(path, headers=held)
        answer = await api.get(path, headers=held | ranges)
        assert (answer.status_code, answer.content) == (200, plain.content)
        assert "content-range" not in answer.headers


CANARY = "k4n4r13nv0g3l"


@pytest.mark.parametrize(
    "variables",
    [
        {"AUTHAPI_DATABASE_URL": f"postgresql://u:{CANARY}@host:port/x"},
        {"AUTHAPI_DATABASE_URL": f"mysql://u:{CANARY}@host/x"},
        {"AUTHAPI_DATABASE_URL": f"postgresql://u:{CANARY}@127.0.0.1:1/x"},
        {"AUTHAPI_REDIS_URL": f"redis://u:{CANARY}@host:port/x"},
        {"AUTHAPI_REDIS_URL": f"http://u:{CANARY}@host/x"},
        {"AUTHAPI_SECRET": CANARY},
        {"AUTHAPI_PUBLIC_URL": f"https://u:{CANARY}@host"},
    ],
    ids=["port", "driver", "away", "redis port", "redis scheme", "secret", "user in URL"],
)
def test_row_62_startup_error_contains_no_secret(
    tmp_path: Path, forking: Forking, variables: dict[str, str]
) -> None:
    done = forking.run(
        ["serve", "--port", "0"],
        {"AUTHAPI_DATA_DIR": str(tmp_path / "data"), "PATH": os.environ["PATH"], **variables},
        tmp_path,
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert CANARY not in done.stdout + done.stderr


async def test_row_62_response_contains_no_secret(every: Client) -> None:
    bodies: list[object] = [{"email": CANARY, "password": CANARY, CANARY: 1}, [CANARY], CANARY]
    bodies += [{"email": {"x": CANARY}, "password": [CANARY]}, {"password": CANARY}]
    for route in operations((await every.get("/openapi.json")).json()):
        for headers in (
            bearer(CANARY),
            basic("a@example.com", CANARY),
            {b"cookie": f"authapi={CANARY}".encode()},
        ):
            for body in bodies:
                answer = await every.request(
                    route.method, route.path + f"?x={CANARY}", json=body, headers=headers
                )
                assert CANARY not in answer.text + str(answer.headers), route


async def test_row_63_body_cannot_name_the_owner(every: Client) -> None:
    alice, bob = await every.create_user(), await every.create_user()
    his = (await credentials(every, bob.email))["session"]
    for name in ("user_id", "id", "sub", "owner", "user", "email", "account"):
        claim = {name: str(alice.id)}
        for method, path, body in (
            ("POST", "/me/tokens", {"name": "script"}),
            ("PATCH", "/me", {"name": "Mallory"}),
            ("POST", "/me/password", {"current_password": PASSWORD, "new_password": NEW}),
        ):
            for query in ("", f"?{name}={alice.id}"):
                unauthenticated = await every.request(method, path + query, json=body | claim)
                assert unauthenticated.status_code == 401
                answer = await every.request(method, path, json=body | claim, headers=his)
                assert answer.status_code == 422, claim
    named = {b"x-user-id": str(alice.id).encode(), b"x-forwarded-user": alice.email.encode()}
    assert (await every.get("/me", headers=his | named)).json()["id"] == str(bob.id)
    assert (await every.get("/me", headers=named)).status_code == 401
    seen = (await every.get("/me/tokens", headers=his)).json()
    assert seen == []


@pytest.mark.parametrize("fault", ["database", "keys", "tables", "clock", "services"])
async def test_row_64_faults_do_not_authenticate(
    every: Client, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    alice = await every.create_user()
    held = await credentials(every, alice.email)
    held["basic"] = basic(alice.email, PASSWORD)
    paths = [
        (item.method, item.path, item.strategies)
        for item in operations((await every.get("/openapi.json")).json())
        if item.strategies
    ]

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken on purpose")

    # Each fault, and the strategies that are not affected by it.
    untouched: set[str] = set()
    if fault == "database":
        monkeypatch.setattr(every.services.database, "_reader", None)
        monkeypatch.setattr(every.services.database, "_writer", None)
    elif fault == "keys":
        monkeypatch.setattr(every.services.keys, "_key_set", {})
        untouched = {"session", "token", "basic"}
    elif fault == "tables":
        async with every.services.database.engine.begin() as connection:
            await connection.execute(sa.text("ALTER TABLE authapi_sessions RENAME TO gone"))
            await connection.execute(sa.text("ALTER TABLE authapi_users RENAME TO gone_too"))
    elif fault == "clock":
        monkeypatch.setattr("authapi.services.sessions.service.now", broken)
        monkeypatch.setattr("authapi.services.accounts.authentication.now", broken)
    else:
        monkeypatch.setattr(every.services.sessions, "identify_by_secret", broken)
        monkeypatch.setattr(every.services.sessions, "identify_by_id", broken)
        monkeypatch.setattr(every.services.passwords, "verify", broken)
    asked = 0
    for method, path, strategies in paths:
        for strategy in set(strategies) & held.keys() - untouched:
            answer = await every.request(method, path, json={}, headers=held[strategy])
            assert answer.status_code in (401, 500, 503), (fault, strategy, method, path)
            assert "broken" not in answer.text
            asked += 1
    assert asked >= 10
    for body in ({"email": alice.email, "password": PASSWORD},):
        if fault != "keys":
            answer = await every.post("/login", json=body)
            assert answer.status_code in (500, 503)
            assert "set-cookie" not in answer.headers


@pytest.mark.real_hashes
async def test_row_65_one_of_many_concurrent_registrations_succeeds(database_url: str) -> None:
    settings = Settings(database_url=database_url, limit_registrations="50/minute")  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        await fifty_registrations(api)


async def fifty_registrations(api: Client) -> None:
    spellings = ["alice@example.com", "Alice@Example.com", "ALICE@EXAMPLE.COM", "alice@EXAMPLE.com"]
    bodies = [{"email": spellings[n % 4], "password": PASSWORD} for n in range(50)]
    answers = await asyncio.gather(*(api.post("/register", json=body) for body in bodies))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] + [409] * 49
    assert len({str(comparable(answer)) for answer in answers if answer.status_code == 409}) == 1
    async with api.services.database.engine.connect() as connection:
        count = sa.select(sa.func.count()).select_from(users)
        assert (await connection.execute(count)).scalar_one() == 1


async def test_row_66_one_connection_is_enough(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Health checks time out after two seconds; here they wait for a connection like all requests.
    monkeypatch.setattr("authapi.storage.database._PING_TIMEOUT", 60)
    settings = make_settings(
        database_pool_size=1,
        database_pool_timeout=60,
        hash_queue=200,
        limit_account_and_network="999/day",
    )
    async with client(create_app(settings)) as api:
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        routes = [
            item
            for item in operations((await api.get("/openapi.json")).json())
            if (item.method, item.template) not in {("DELETE", "/me"), ("POST", "/logout")}
        ]
        bodies: dict[str, dict[str, object]] = {
            "/me": {"name": "Alice"},
            "/me/tokens": {"name": "script"},
            "/me/session": {"x": 1},
            "/login": {"email": alice.email, "password": PASSWORD},
            "/me/password": {"current_password": PASSWORD, "new_password": PASSWORD},
        }

        async def ask(index: int) -> tuple[str, int]:
            route = routes[index % len(routes)]
            body = bodies.get(route.template)
            if route.template == "/register":
                body = {"email": f"new{index}@example.com", "password": PASSWORD}
            headers = held["session"] if "session" in route.strategies else {}
            if (route.method, route.template) == ("DELETE", "/me/sessions"):
                headers = {}
            answer = await api.request(route.method, route.path, json=body, headers=headers)
            return route.template, answer.status_code

        async with asyncio.timeout(100):
            answers = await asyncio.gather(*(ask(index) for index in range(10 * len(routes))))
        exports = [status for template, status in answers if template == "/me/export"]
        statuses = [status for template, status in answers if template != "/me/export"]
        # An account may have three concurrent exports.
        assert set(exports) <= {200, 429}
        assert exports.count(200) >= 3
        assert max(statuses) < 500
        assert {200, 201, 204, 401, 403, 404} >= set(statuses) - {400, 415, 422}
        async with api.services.database.engine.connect() as connection:
            count = sa.select(sa.func.count()).select_from(sessions)
            assert (await connection.execute(count)).scalar_one() > 10


async def test_row_64_a_route_for_an_unknown_strategy_does_not_start(
    make_settings: SettingsFactory,
) -> None:
    with pytest.raises(ConfigurationError):
        async with client(create_app(make_settings(strategies=("session", "nothing")))):
            pass
