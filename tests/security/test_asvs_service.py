"""Requirements of OWASP ASVS 5.0 that no other test covers, each over HTTP."""

import logging
import socket
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from starlette.types import Message, Scope

from authapi import Settings, create_app
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.attack import (
    FOREIGN,
    SECRET,
    bearer,
    claims_of,
    cookie,
    credentials,
    forge,
    header,
    operations,
)
from tests.servers.postgres import PostgresServer
from tests.tables import users

NEW = "another horse battery staple"


async def test_v2_2_2_service_validates_input_itself(api: Client) -> None:
    body = {"email": "new@example.com", "password": "seven 7"}
    assert (await api.post("/register", json=body)).status_code == 422
    async with api.services.database.engine.connect() as connection:
        assert (await connection.execute(sa.select(users))).all() == []


async def test_v3_2_2_html_in_a_name_is_rendered_as_text(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    name = "<img src=x onerror=alert(1)>"
    answer = await api.patch("/me", json={"name": name}, headers=held)
    assert answer.json()["name"] == name
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


HEADERS = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


async def test_v3_4_every_response_has_the_headers(make_settings: SettingsFactory) -> None:
    names = ("session", "token", "jwt", "tests.security.attack:Crashing")
    settings = make_settings(
        public_url="https://auth.example.com", limit_account_and_network="1/hour", strategies=names
    )
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        alice = await api.create_user()
        wrong = {"email": alice.email, "password": NEW}
        answers = [
            await api.get("/health/live"),
            await api.get("/me"),
            await api.get("/nothing"),
            await api.put("/me"),
            await api.post("/login", content=b"x" * 70_000),
            await api.post("/login", content=b"x"),
            await api.post("/login", json={}),
            await api.post("/login", json=wrong),
            await api.post("/login", json=wrong),
            await api.get("/me", headers={"cookie": "x" * 9000}),
            await api.get("/me", headers={"x-crash": "1"}),
            await api.post("/login", content=b"{", headers={"content-type": "application/json"}),
            await api.get("/openapi.json"),
            await api.get("/.well-known/jwks.json"),
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 401, 404, 405, 413, 415, 422, 401, 429, 431, 500, 400, 200, 200]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value], answer
        policy = answer.headers["content-security-policy"]
        for directive in ("default-src", "object-src", "base-uri", "frame-ancestors"):
            assert f"{directive} 'none'" in policy
        kind = "application/json" if answer.is_success else "application/problem+json"
        assert answer.headers["content-type"] == kind
        body = answer.json()
        assert answer.is_success or body["status"] == answer.status_code
        assert "server" not in answer.headers


async def test_v4_1_2_plain_http_is_rejected_and_not_redirected(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(
        public_url="https://auth.example.com", trusted_proxies=("127.0.0.1/32",)
    )
    app = create_app(settings)
    async with client(app, base_url="https://auth.example.com") as api:
        alice = await api.create_user()
        body = {"email": alice.email, "password": PASSWORD}
        plain = {"X-Forwarded-Proto": "http"}
        for answer in (
            await api.post("/login", json=body, headers=plain),
            await api.get("/me", headers=plain),
            await api.get("/docs", headers=plain),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "https_required")
            assert "location" not in answer.headers
            assert "set-cookie" not in answer.headers
        good = await api.post("/login", json=body, headers={"X-Forwarded-Proto": "https"})
        assert good.status_code == 200


async def test_v4_4_1_websocket_over_plain_http_is_closed(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        public_url="https://auth.example.com", trusted_proxies=("127.0.0.1/32",)
    )
    app = create_app(settings)
    async with client(app):
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "websocket",
            "path": "/anything",
            "raw_path": b"/anything",
            "scheme": "ws",
            "query_string": b"",
            "root_path": "",
            "subprotocols": [],
            "headers": [(b"x-forwarded-proto", b"ws")],
            "client": ("127.0.0.1", 1),
        }
        await app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_v6_3_2_there_are_no_default_accounts(api: Client) -> None:
    for name in ("admin", "root", "sa", "test", "authapi"):
        for password in (name, "password", PASSWORD):
            body = {"email": f"{name}@example.com", "password": password}
            assert (await api.post("/login", json=body)).status_code == 401
    async with api.services.database.engine.connect() as connection:
        assert (await connection.execute(sa.select(users))).all() == []


async def test_v6_4_2_there_are_no_secret_questions(api: Client) -> None:
    document = (await api.get("/openapi.json")).text.lower()
    document = document.replace("token_type_hint", "")  # a parameter of RFC 7009
    assert not any(word in document for word in ("hint", "question", "mother", "sms", "phone"))
    body = {"email": "a@example.com", "password": PASSWORD}
    for name in ("password_hint", "security_question", "phone"):
        assert (await api.post("/register", json={**body, name: "x"})).status_code == 422


async def test_v7_2_3_session_tokens_are_random_and_unique(api: Client) -> None:
    alice = await api.create_user()
    logins = []
    for name in ("session", "token", "jwt") * 8:
        body = {"email": alice.email, "password": PASSWORD, "strategy": name}
        logins.append(await api.post("/login", json=body))
        api.cookies.clear()
    secrets = [
        answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
        if "set-cookie" in answer.headers
        else answer.json()["access_token"]
        for answer in logins
    ]
    assert len(set(secrets)) == 24
    assert {len(secret) for secret in secrets if "." not in secret} == {43, 4 + 43 + 6}
    jtis = {claims_of(secret)["jti"] for secret in secrets if "." in secret}
    assert len(jtis) == 8


async def test_v7_4_4_every_login_can_log_out(api: Client) -> None:
    found = {
        (item.method, item.template): item.strategies
        for item in operations((await api.get("/openapi.json")).json())
    }
    assert set(found["POST", "/logout"]) == {"session", "token", "jwt"}
    assert found["POST", "/login"] == ()


async def test_v7_4_5_operator_can_end_sessions(api: Client) -> None:
    alice, bob = await api.create_user(), await api.create_user()
    hers = await credentials(api, alice.email)
    his = await credentials(api, bob.email)
    # As `authapi sessions end` does, on the database of the running service.
    [first, *_] = await api.services.sessions.list_for_user(alice.id)
    await api.services.sessions.end(first.id)
    statuses = [(await api.get("/me", headers=headers)).status_code for headers in hers.values()]
    assert sorted(statuses) == [200, 200, 401]
    await api.services.sessions.end_all(alice.id)
    for headers in hers.values():
        assert (await api.get("/me", headers=headers)).status_code == 401
    for headers in his.values():
        assert (await api.get("/me", headers=headers)).status_code == 200


async def test_v8_3_1_headers_and_claims_grant_no_rights(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(secret=SECRET))) as api:
        alice = await api.create_user()
        held = await credentials(api, alice.email)
        token = held["jwt"][b"authorization"].partition(b" ")[2].decode()
        claims = claims_of(token) | {"role": "admin", "is_superuser": True, "scope": "admin"}
        forged = forge(header(), claims, FOREIGN.key.sign)
        assert (await api.get("/me", headers=bearer(forged))).status_code == 401
        named = {b"x-role": b"admin", b"x-is-superuser": b"true", b"x-scopes": b"admin"}
        answer = await api.get("/me", headers=held["session"] | named)
        assert answer.json()["is_superuser"] is False
        # Claims grant no rights, even if the service's own key has signed them.
        signed = forge(header(), claims)
        answer = await api.get("/me/identity", headers=bearer(signed))
        assert (answer.status_code, answer.json()["scopes"]) == (200, [])


@pytest.mark.real_hashes
async def test_v11_4_2_password_is_stored_as_argon2id(api: Client) -> None:
    body = {"email": "new@example.com", "password": PASSWORD}
    assert (await api.post("/register", json=body)).status_code == 201
    async with api.services.database.engine.connect() as connection:
        stored = (await connection.execute(sa.select(users.c.password_hash))).scalar_one()
    text: str = stored.text
    assert text.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    with pytest.raises(ValueError, match="argon2_memory"):
        Settings(argon2_memory=19455)


async def test_v11_5_1_id_is_not_a_credential(api: Client) -> None:
    alice = await api.create_user()
    held = (await credentials(api, alice.email))["session"]
    seen = (await api.get("/me/identity", headers=held)).json()
    made = await api.post("/me/tokens", json={"name": "script"}, headers=held)
    for known in (
        str(alice.id),
        seen["session_id"],
        made.json()["id"],
        made.headers["x-request-id"],
    ):
        for headers in (bearer(known), cookie(known), bearer(f"aat_{known}")):
            assert (await api.get("/me", headers=headers)).status_code == 401


async def test_v13_2_2_service_needs_only_row_privileges(
    postgres: PostgresServer, fresh_postgres_url: str
) -> None:
    """V13.2.2 and V16.4.2: the service can change neither the schema nor recorded events.

    Personal data in events is deleted together with the account.
    """
    parts = psycopg.conninfo.conninfo_to_dict(fresh_postgres_url)
    role = f"app_{parts['dbname']}"
    grants = (
        "CREATE ROLE {role} LOGIN PASSWORD 'app'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT SELECT ON authapi_version TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_users, authapi_usernames TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_sessions TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_refresh_families TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_signing_keys TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_email_tokens, authapi_outbox TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_login_tickets TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_totp_factors TO {role}",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON authapi_recovery_codes TO {role}",
        "GRANT SELECT, INSERT ON authapi_events TO {role}",
        "GRANT UPDATE (ip, network, user_agent, request_id, detail) ON authapi_events TO {role}",
    )
    with psycopg.connect(fresh_postgres_url, autocommit=True) as connection:
        for grant in grants:
            connection.execute(sql.SQL(grant).format(role=sql.Identifier(role)))
    url = f"postgresql://{role}:app@{parts['host']}:{parts['port']}/{parts['dbname']}"
    try:
        async with client(create_app(Settings(database_url=url))) as api:  # type: ignore[arg-type]
            body: dict[str, Any] = {"email": "new@example.com", "password": PASSWORD}
            assert (await api.post("/register", json=body)).status_code == 201
            held = await credentials(api, body["email"])
            assert (await api.patch("/me", json={"name": "N"}, headers=held["jwt"])).is_success
            assert (
                await api.post("/me/tokens", json={"name": "s"}, headers=held["jwt"])
            ).is_success
            change = {"current_password": PASSWORD, "new_password": NEW}
            assert (await api.post("/me/password", json=change, headers=held["jwt"])).is_success
            assert (await api.get("/me/events", headers=held["jwt"])).json()["items"]
            assert (await api.delete("/me", headers=held["jwt"])).status_code == 204
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in (
                "UPDATE authapi_events SET outcome = 'success'",
                "UPDATE authapi_events SET type = 'login'",
                "UPDATE authapi_events SET user_id = NULL",
                "UPDATE authapi_events SET at = now()",
                "DELETE FROM authapi_events",
                "DROP TABLE authapi_users",
                "CREATE TABLE mine (x int)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
    finally:
        with psycopg.connect(fresh_postgres_url, autocommit=True) as connection:
            for tidy in ("DROP OWNED BY {role}", "DROP ROLE {role}"):
                connection.execute(sql.SQL(tidy).format(role=sql.Identifier(role)))


async def test_v13_2_4_no_request_causes_an_outgoing_connection(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[object] = []

    def connect(_: socket.socket, address: object) -> None:
        connected.append(address)
        raise OSError("no way out")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket.socket, "connect_ex", connect)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **_: connected.append(a))
    for host in ("127.0.0.1:9", "evil.example", "169.254.169.254"):
        body = {"email": "a@evil.example", "password": PASSWORD, "name": f"http://{host}/"}
        headers = {"Referer": f"http://{host}/", "Origin": "http://127.0.0.1:8000"}
        await api.post("/register", json=body, headers=headers)
        await api.post("/login", json={"email": body["email"], "password": PASSWORD})
        await api.get("/me", headers=bearer(forge(header(jku=f"http://{host}/"), {})))
        await api.get(f"http://{host}/me")
    assert connected == []


async def test_v16_3_2_failed_authorization_is_logged(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = await api.create_user(), await api.create_user()
    hers = (await credentials(api, alice.email))["session"]
    his = (await credentials(api, bob.email))["session"]
    [mine, *_] = (await api.get("/me/sessions", headers=hers)).json()
    caplog.set_level(logging.INFO, "authapi.refusals")
    kind = {"content-type": "application/json"}
    for answer, code, user in (
        (await api.delete(f"/me/sessions/{mine['id']}", headers=his), "not_found", str(bob.id)),
        (await api.post("/logout", headers=his | {b"origin": b"null"}), "foreign_origin", None),
        (await api.get("/me", headers=bearer("a.b.c")), "unauthenticated", None),
        (await api.post("/login", content=b"{", headers=kind), "malformed_json", None),
    ):
        request_id = answer.headers["x-request-id"]
        [line] = [x for x in caplog.records if getattr(x, "request_id", None) == request_id]
        said = line.__dict__
        assert (said["code"], said["user_id"]) == (code, user)
        assert said["ip"] == "127.0.0.1"
    unknown = await api.get("/nothing", headers=his)
    assert unknown.headers["x-request-id"] not in caplog.text
    secret = his[b"cookie"].decode().partition("=")[2]
    assert secret not in str([record.__dict__ for record in caplog.records])
