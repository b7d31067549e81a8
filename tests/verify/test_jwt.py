"""JWTs of another issuer: acceptance, rejection, caching and options of `RemoteJWT`."""

import socket
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from authapi.crypto import base64url, jws
from authapi.errors import ConfigurationError
from authapi.testing import Client, client
from authapi.verify import RemoteJWT, TokenPolicy
from tests.crypto import forgery
from tests.verify.conftest import Clock, Open, application, bearer
from tests.verify.issuer import AUDIENCE, JWKS, SUBJECT, Issuer
from tests.web.responses import BEARER

NOW = forgery.NOW


async def refused(api: Client, token: str) -> dict[str, Any]:
    """Checks the 401, whose body is the same for every reason, and returns it."""
    answer = await api.get("/who", headers=bearer(token))
    assert answer.status_code == 401, answer.text
    assert answer.headers["www-authenticate"] == f'{BEARER}, error="invalid_token"'
    body: dict[str, Any] = answer.json()
    del body["request_id"]
    return body


async def test_valid_jwt_is_accepted(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    session = "0190c0de-0000-7000-8000-000000000001"
    token = issuer.token(
        sid=session,
        scope="orders:read orders:write",
        email="a@example.com",
        auth_time=NOW,
        amr=["pwd"],
    )
    async with trusting() as api:
        answer = await api.get("/who", headers=bearer(token))
    seen = answer.json()
    assert seen.pop("claims")
    assert seen == {
        "user_id": SUBJECT,
        "email": "a@example.com",
        "strategy": "jwt",
        "session_id": session,
        "scopes": ["orders:read", "orders:write"],
        "amr": ["pwd"],
    }


async def test_gates_of_a_resource_server(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    async with trusting() as api:

        async def status(path: str, **claims: Any) -> int:
            return (await api.get(path, headers=bearer(issuer.token(**claims)))).status_code

        assert (await api.get("/orders")).status_code == 401
        assert await status("/orders") == 403
        assert await status("/orders", scope="orders:readx other") == 403
        assert await status("/orders", scope="other orders:read") == 200
        assert await status("/orders", scp=["orders:read"]) == 200
        assert await status("/orders", permissions=["orders:read"]) == 403
        assert await status("/verified", email="a@example.com") == 403
        assert await status("/verified", email="a@example.com", email_verified="true") == 403
        assert await status("/verified", email_verified=True) == 403
        assert await status("/verified", email="a@example.com", email_verified=True) == 200
        assert await status("/staff", is_superuser=True, roles=["admin"]) == 403
        assert (await api.get("/maybe")).json() is False
        assert await status("/maybe") == 200
        assert await status("/maybe", aud="other") == 401

        assert await status("/fresh") == 401
        assert await status("/fresh", auth_time=NOW) == 200
        assert await status("/fresh", auth_time=NOW - 300) == 200
        assert await status("/fresh", auth_time=NOW - 301) == 401
        assert await status("/fresh", auth_time=NOW, amr=[]) == 401
        assert await status("/fresh", amr=["pwd"]) == 401
        assert await status("/fresh", auth_time=NOW + 3600) == 401
        stale = await api.get("/fresh", headers=bearer(issuer.token()))
        assert "insufficient_user_authentication" in stale.headers["www-authenticate"]


async def test_scope_claims_selects_other_claims(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    strategy = RemoteJWT(
        issuer.url, AUDIENCE, policy=TokenPolicy(scope_claims=("scope", "permissions"))
    )
    token = issuer.token(permissions=["orders:read"], scope="openid")
    async with trusting(strategy) as api:
        assert (await api.get("/orders", headers=bearer(token))).status_code == 200


async def test_websocket_authentication(issuer: Issuer, clock: Clock) -> None:
    app = application(RemoteJWT(issuer.url, AUDIENCE))
    good = issuer.token(scope="orders:read")
    async with client(app):
        told = await handshake(app, bearer(good))
        assert [message["type"] for message in told] == [
            *("websocket.accept", "websocket.send", "websocket.close")
        ]
        assert told[1]["text"] == SUBJECT
        for headers, code in ((bearer(issuer.token()), 1008), ({}, 4401), (bearer("x.y.z"), 4401)):
            [refusal] = await handshake(app, headers)
            assert (refusal["type"], refusal["code"]) == ("websocket.close", code)
        issuer.away()
        clock.move(10)
        [refusal] = await handshake(app, bearer(issuer.token(header={"kid": "new"})))
        assert (refusal["type"], refusal["code"]) == ("websocket.close", 1013)


async def handshake(app: FastAPI, headers: dict[str, str]) -> list[Message]:
    """The ASGI scope of a WebSocket handshake at /live."""
    told: list[Message] = []
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {
        "type": "websocket",
        "path": "/live",
        "raw_path": b"/live",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), *raw],
        "client": ("127.0.0.1", 1),
        "subprotocols": [],
    }

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        told.append(message)

    await app(scope, receive, send)
    return told


async def test_malformed_jwt_is_left_to_other_strategies(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    async with trusting() as api:
        for token in ("opaque", "a.b", "a.b.c.d", ""):
            assert (await api.get("/who", headers=bearer(token))).status_code == 401
    assert issuer.asked[JWKS] == 1


async def test_cached_caller_verifies_no_signature(
    issuer: Issuer, clock: Clock, trusting: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked, verify = [], jws.verify

    def counted(token: object, **options: Any) -> jws.VerifiedToken:
        checked.append(token)
        return verify(token, **options)

    monkeypatch.setattr(jws, "verify", counted)
    async with trusting() as api:
        token = issuer.token(exp=NOW + 90)
        for _ in range(3):
            assert (await api.get("/who", headers=bearer(token))).status_code == 200
        assert len(checked) == 1
        clock.move(60)
        assert (await api.get("/who", headers=bearer(token))).status_code == 200
        assert len(checked) == 2, "a minute and no longer"
        clock.move(29)
        assert (await api.get("/who", headers=bearer(token))).status_code == 200
        assert len(checked) == 2
        clock.move(1)
        await refused(api, token)


async def test_identity_cache_is_bounded(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    strategy = RemoteJWT(issuer.url, AUDIENCE, known_callers=10)
    async with trusting(strategy) as api:
        for number in range(30):
            answer = await api.get("/who", headers=bearer(issuer.token(jti=str(number))))
            assert answer.status_code == 200
        assert len(strategy._identities) == 10


async def test_times_with_leeway(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    strict, lenient = (
        RemoteJWT(
            issuer.url,
            AUDIENCE,
            policy=TokenPolicy(leeway=timedelta(seconds=s), max_lifetime=timedelta(hours=1)),
        )
        for s in (0, 60)
    )
    for strategy, late in ((strict, 0), (lenient, 60)):
        async with trusting(strategy) as api:
            goods: list[dict[str, Any]] = [
                {"exp": NOW - late + 1, "iat": NOW - 600},
                {"nbf": NOW + late},
                {"iat": NOW + late},
            ]
            for good in goods:
                answer = await api.get("/who", headers=bearer(issuer.token(**good)))
                assert answer.status_code == 200, good
            bads: list[dict[str, Any]] = [
                {"exp": NOW - late, "iat": NOW - 600},
                {"nbf": NOW + late + 1},
                {"iat": NOW + late + 1, "exp": NOW + 600},
                {"exp": NOW + 3601},
                {"exp": None},
                {"iat": None},
            ]
            for bad in bads:
                await refused(api, issuer.token(**bad))


async def test_times_without_leeway(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    # The clock of an issuer may be ahead; an expired token is expired.
    async with trusting() as api:
        for claim in ("nbf", "iat"):
            late: dict[str, Any] = {claim: NOW + 31}
            for ahead in (2, 30):
                soon: dict[str, Any] = {claim: NOW + ahead}
                answer = await api.get("/who", headers=bearer(issuer.token(**soon)))
                assert answer.status_code == 200, soon
            await refused(api, issuer.token(**late))
        await refused(api, issuer.token(exp=NOW, iat=NOW - 600))


async def test_every_rejection_has_the_same_response(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    other = forgery.new_key()
    parts = issuer.token().split(".")
    public = issuer.key.verifying.jwk
    bad = {
        "another issuer": issuer.token(iss="https://evil.example"),
        "a part of the issuer": issuer.token(iss=issuer.url[:-1]),
        "issuers": issuer.token(iss=[issuer.url]),
        "no issuer": issuer.token(iss=None),
        "another audience": issuer.token(aud="order"),
        "audiences": issuer.token(aud=["a", "b"]),
        "no audience": issuer.token(aud=None),
        "an object as audience": issuer.token(aud={AUDIENCE: 1}),
        "no subject": issuer.token(sub=None),
        "an empty subject": issuer.token(sub=""),
        "a number as subject": issuer.token(sub=7),
        "an ID token": issuer.token(header={"typ": "JWT"}),
        "a logout token": issuer.token(header={"typ": "logout+jwt"}),
        "no type": issuer.token(header={"typ": None}),
        "another key under the name of ours": issuer.token(
            key=other, header={"kid": issuer.key.verifying.kid}
        ),
        "a key of its own": issuer.token(key=other, header={"jwk": dict(other.verifying.jwk)}),
        "an address of keys": issuer.token(key=other, header={"jku": issuer.url + "/evil"}),
        "a critical extension": issuer.token(header={"crit": ["exp"]}),
        "another algorithm": issuer.token(header={"alg": "RS256"}),
        "no algorithm": issuer.token(header={"alg": "none"}),
        "the public key as a secret": issuer.token(header={"alg": "HS256"}),
        "a kid that is a path": issuer.token(header={"kid": "../../dev/null"}),
        "a kid that is SQL": issuer.token(header={"kid": "' OR 1=1"}),
        "a kid that is long": issuer.token(header={"kid": "k" * 3000}),
        "a kid that is a list": issuer.token(header={"kid": [public["kid"]]}),
        "null as kid": issuer.token(header={"kid": None}),
        "no signature": ".".join([*parts[:2], ""]),
        "half a signature": ".".join([*parts[:2], parts[2][:-4]]),
        "padding": ".".join([*parts[:2], parts[2] + "=="]),
        "brackets": f"{base64url.encode(b'[' * 1500)}.{parts[1]}.{parts[2]}",
    }
    async with trusting() as api:
        clock.move(10)
        same = await refused(api, "x.y.z")
        for reason, token in bad.items():
            assert await refused(api, token) == same, reason
        assert (await api.get("/who", headers=bearer(".".join(parts)))).status_code == 200
    assert issuer.asked["/evil"] == 0
    assert issuer.asked[JWKS] == 2, "all unknown keys together cause one read"


async def test_token_without_kid_uses_the_only_key(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    unnamed = issuer.token(header={"kid": ...})
    issuer.away()
    async with trusting() as api:
        assert (await api.get("/who", headers=bearer(unnamed))).status_code == 503
        issuer.back()
        clock.move(1)
        assert (await api.get("/who", headers=bearer(unnamed))).status_code == 200
        await refused(api, issuer.token(header={"kid": ...}, key=forgery.new_key()))
        issuer.publish(issuer.key, forgery.new_key())
        clock.move(300)
        await refused(api, unnamed)
        assert (await api.get("/who", headers=bearer(issuer.token()))).status_code == 200


async def test_issuer_and_audience_are_compared_exactly(
    issuer: Issuer, clock: Clock, trusting: Open
) -> None:
    token = issuer.token()
    async with trusting() as api:
        for place in range(0, len(token), 7):
            letter = "A" if token[place] != "A" else "B"
            changed = token[:place] + letter + token[place + 1 :]
            assert (await api.get("/who", headers=bearer(changed))).status_code == 401, place


async def test_configured_types_are_accepted(issuer: Issuer, clock: Clock, trusting: Open) -> None:
    strategy = RemoteJWT(issuer.url, {AUDIENCE, "other"}, policy=TokenPolicy(types=("JWT", None)))
    thumbprints = {"typ": "JWT", "x5t": "abc", "x5t#S256": "def"}
    async with trusting(strategy) as api:
        for token in (
            issuer.token(header=thumbprints),
            issuer.token(header={"typ": "JWT"}, aud=["third", "other"]),
        ):
            assert (await api.get("/who", headers=bearer(token))).status_code == 200
        await refused(api, issuer.token())
        for spelling in ("jwt", "application/jwt", "Application/JWT"):
            token = issuer.token(header={"typ": spelling})
            assert (await api.get("/who", headers=bearer(token))).status_code == 200, spelling
        for other in ("JWTS", "text/jwt", "JWT ", "", None):
            await refused(api, issuer.token(header={"typ": other}))


@pytest.mark.parametrize(
    ("subject", "are_ids", "is_itself"),
    [
        (SUBJECT, True, True),
        (SUBJECT, False, False),
        (SUBJECT.upper(), True, False),
        (f"{{{SUBJECT}}}", True, False),
        (SUBJECT.replace("-", ""), True, False),
        ("auth0|5f7c8ec7c33c6c004bbafe82", True, False),
        ("c87ee674-4ddc-5efb-a74e-dfe25da5d7b3", True, False),  # the version of derived ids
    ],
    ids=range(7),
)
async def test_subjects_become_user_ids(
    issuer: Issuer, clock: Clock, trusting: Open, subject: str, are_ids: bool, is_itself: bool
) -> None:
    strategy = RemoteJWT(issuer.url, AUDIENCE, subjects_are_ids=are_ids)
    async with trusting(strategy) as api:
        seen = (await api.get("/who", headers=bearer(issuer.token(sub=subject)))).json()
        again = (await api.get("/who", headers=bearer(issuer.token(sub=subject, jti="x")))).json()
    assert (seen["user_id"] == subject) is is_itself
    assert seen["user_id"] == again["user_id"]
    assert is_itself or UUID(seen["user_id"]).version == 5


async def test_openapi_names_the_issuer(issuer: Issuer) -> None:
    document = application(RemoteJWT(issuer.url, AUDIENCE)).openapi()
    scheme = document["components"]["securitySchemes"]["jwt"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert issuer.url in scheme["description"]
    assert document["paths"]["/orders"]["get"]["security"] == [{"jwt": ["orders:read"]}]


async def test_no_token_is_logged(
    issuer: Issuer, clock: Clock, trusting: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    token = issuer.token(email="canary@example.com", name="Canary")
    async with trusting() as api:
        await api.get("/staff", headers=bearer(token))
        await api.get("/who", headers=bearer(token[:-1]))
        issuer.away()
        await api.get("/who", headers=bearer(issuer.token(header={"kid": "new"})))
    for part in (*token.split("."), "canary@example.com", "Canary"):
        assert part not in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"audience": ()},
        {"audience": ""},
        {"types": ()},
        {"leeway": timedelta(seconds=61)},
        {"leeway": timedelta(seconds=-1)},
        {"scope_claims": ()},
        {"audience": None},
        {"audience": None, "client_ids": ()},
        {"client_claims": ()},
        {"algorithms": ()},
        {"algorithms": ("HS256",)},
        {"algorithms": ("RS256", "none")},
        {"algorithms": ("rs256",)},
        {"tenants": ("0190c0de-0000-7000-8000-000000000000",)},
        {"jwks_url": "http://auth.example/keys"},
        {"required_claims": {"roles": ["a"]}},
    ],
    ids=range(16),
)
def test_invalid_remote_jwt_options_are_rejected(options: dict[str, Any]) -> None:
    audience = options.pop("audience", AUDIENCE)
    with pytest.raises(ConfigurationError):
        RemoteJWT("https://auth.example", audience, policy=TokenPolicy(**options))


def test_constructor_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    application(RemoteJWT("https://auth.example", AUDIENCE))
