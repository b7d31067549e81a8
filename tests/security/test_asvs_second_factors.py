"""Requirements of OWASP ASVS on second factors, over HTTP."""

import random
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pyotp
import pytest
import sqlalchemy as sa

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.testing import PASSWORD, Client
from tests.clocks import travel_to
from tests.security.attack import claims_of, forge, header, mac
from tests.security.second_factors import (
    STRATEGIES,
    alice_of,
    application,
    begin,
    credential,
    finish,
    sessions,
)
from tests.storage.rows import sql
from tests.tables import metadata
from tests.web.logins import sign_in
from tests.web.mailbox import mail_kinds
from tests.web.responses import problem

PERIOD = 30
CODE = re.compile(r"[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}")
"""16 characters of 32: 80 bits."""


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with application(database_url) as found:
        yield found


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_v6_3_3_a_login_needs_both_factors(api: Client, strategy: str) -> None:
    alice = await alice_of(api)
    asked = await begin(api, strategy)
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    assert "authapi" not in asked.cookies
    assert "access_token" not in asked.json()
    assert await sessions(api, alice) == 0
    assert (await api.get("/me")).status_code == 401
    held = await credential(api, await finish(api, asked, code=alice.code()))
    assert (await api.get("/me", headers=held)).status_code == 200


async def test_v6_4_4_a_lost_app_is_removed_with_password_and_recovery_code(api: Client) -> None:
    alice = await alice_of(api)
    one_factor = await sign_in(api.services, alice.user)
    refused = await api.delete("/me/factors/totp", headers=one_factor)
    problem(refused, 401, "insufficient_authentication")
    password = {"password": PASSWORD}
    again = await api.post("/me/reauthenticate", json=password, headers=one_factor)
    assert again.status_code == 204
    recent = {"cookie": f"authapi={again.cookies['authapi']}"}
    api.cookies.clear()
    refused = await api.delete("/me/factors/totp", headers=recent)
    problem(refused, 401, "insufficient_authentication")

    recovery = {"recovery_code": alice.codes[0]}
    held = await credential(api, await finish(api, await begin(api, "jwt"), **recovery))
    problem(await finish(api, await begin(api), **recovery), 401, "second_factor_refused")
    assert (await api.delete("/me/factors/totp", headers=held)).status_code == 204
    assert (await begin(api)).status_code == 200
    events = await api.services.audit.page(alice.user.id, before=None, limit=20)
    assert EventType.FACTOR_REMOVED in {event.type for event in events}
    kinds = await mail_kinds(api.services, "alice@example.com")
    assert {"recovery_code_used", "factor_removed"} <= set(kinds)


async def test_v6_5_1_each_code_works_once(api: Client) -> None:
    alice = await alice_of(api)
    codes = ({"code": alice.code()}, {"recovery_code": alice.codes[0]})
    for code in codes:
        statuses = [(await finish(api, await begin(api), **code)).status_code for _ in range(3)]
        assert statuses == [200, 401, 401]
    # A step-up accepts no code that a login has used, and the reverse.
    session = await sign_in(api.services, alice.user)
    for code in codes:
        answer = await api.post("/me/reauthenticate", json=code, headers=session)
        problem(answer, 403, "wrong_code")
    fresh = {"recovery_code": alice.codes[1]}
    assert (await api.post("/me/reauthenticate", json=fresh, headers=session)).status_code == 204
    api.cookies.clear()
    assert (await finish(api, await begin(api), **fresh)).status_code == 401


async def test_v6_5_2_a_copy_of_the_database_contains_no_second_factor(api: Client) -> None:
    """Also V11.3.2 and V14.2.4: secrets of apps are encrypted, all others are hashed."""
    alice = await alice_of(api)
    tickets = [await begin(api, strategy) for strategy in STRATEGIES]
    secrets = [answer.json().get("ticket") or api.cookies["authapi-login"] for answer in tickets]
    secrets += [alice.app.secret, *alice.codes, *(code.replace("-", "") for code in alice.codes)]
    plain = [text.encode() for text in secrets] + [alice.app.byte_secret()]
    seen = 0
    async with api.services.database.engine.connect() as connection:
        for table in metadata.sorted_tables:
            for row in (await connection.execute(sa.select(table))).all():
                for value in row:
                    stored = value if isinstance(value, bytes) else str(value).encode()
                    assert not any(secret in stored for secret in plain), table.name
                    seen += 1
    assert seen > 100


async def test_v6_5_3_secrets_of_factors_are_random(api: Client) -> None:
    """V6.5.3 and V6.5.4: not of a generator that an attacker could seed or foresee."""
    secrets, codes = [], []
    for name in ("bob", "carol", "dave"):
        user = await api.create_user(f"{name}@example.com")
        await api.services.accounts.email_changes.confirm_for_operator(user.id)
        headers = await sign_in(api.services, user)
        random.seed(0)
        secrets.append((await api.post("/me/factors/totp", headers=headers)).json()["secret"])
        code = {"code": pyotp.TOTP(secrets[-1]).at(now())}
        answer = await api.post("/me/factors/totp/confirm", json=code, headers=headers)
        codes += answer.json()["recovery_codes"]
        api.cookies.clear()
    assert len(set(secrets)) == 3
    assert all(re.fullmatch("[A-Z2-7]{32}", secret) for secret in secrets)  # 160 bits
    assert len(set(codes)) == 30
    assert all(CODE.fullmatch(code) for code in codes)


async def test_v6_5_5_a_code_ends_with_the_step_after_its_own(api: Client) -> None:
    alice = await alice_of(api)
    first_second = datetime.fromtimestamp(now().timestamp() // PERIOD * PERIOD, UTC)
    with travel_to(first_second) as clock:
        code, next_code, last = alice.code(), alice.code(steps=1), alice.code(steps=4)
        problem(await finish(api, await begin(api), code=last), 401, "second_factor_refused")
        clock.shift(2 * PERIOD - 1)
        assert (await finish(api, await begin(api), code=code)).status_code == 200
        clock.shift(PERIOD + 1)  # 60 seconds after the step of this code has begun
        problem(await finish(api, await begin(api), code=next_code), 401, "second_factor_refused")
        assert (await finish(api, await begin(api), code=last)).status_code == 200


async def test_v6_5_8_the_time_of_the_client_is_ignored(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()):
        future = alice.code(steps=10)
        at = str(int(now().timestamp()) + 10 * PERIOD)
        times = {"date": "Thu, 01 Jan 2099 00:00:00 GMT", "x-client-time": at, "x-timestamp": at}
        body = {"ticket": (await begin(api)).json()["ticket"], "code": future}
        refused = await api.post("/login/second-factor", json=body, headers=times)
        problem(refused, 401, "second_factor_refused")
        for member in ("time", "timestamp", "step", "counter"):
            refused = await finish(api, await begin(api), code=future, **{member: at})
            assert refused.status_code == 422
        body = {"ticket": (await begin(api)).json()["ticket"], "code": alice.code()}
        times = {"date": "Thu, 01 Jan 1970 00:00:00 GMT", "x-client-time": "0"}
        done = await api.post("/login/second-factor", json=body, headers=times)
        assert done.status_code == 200


async def test_v7_4_3_the_first_factor_ends_other_logins_and_its_end_can(api: Client) -> None:
    user = await api.create_user("alice@example.com")
    user = await api.services.accounts.email_changes.confirm_for_operator(user.id)
    others = [await sign_in(api.services, user, strategy) for strategy in STRATEGIES]
    mine = await sign_in(api.services, user)
    script = await api.post("/me/tokens", json={"name": "script"}, headers=mine)
    personal = {"authorization": f"Bearer {script.json()['access_token']}"}
    app = pyotp.TOTP((await api.post("/me/factors/totp", headers=mine)).json()["secret"])
    code = {"code": app.at(now())}
    confirmed = await api.post("/me/factors/totp/confirm", json=code, headers=mine)
    renewed = {"cookie": f"authapi={confirmed.cookies['authapi']}"}
    api.cookies.clear()
    for headers, status in (*((other, 401) for other in (*others, mine)), (personal, 200)):
        assert (await api.get("/me", headers=headers)).status_code == status

    recovery = {"recovery_code": confirmed.json()["recovery_codes"][0]}
    other = await credential(api, await finish(api, await begin(api), **recovery))
    assert (await api.delete("/me/factors/totp", headers=renewed)).status_code == 204
    assert (await api.get("/me", headers=other)).status_code == 200
    assert (await api.delete("/me/sessions", headers=renewed)).status_code in (200, 204)
    assert (await api.get("/me", headers=other)).status_code == 401
    assert (await api.get("/me", headers=renewed)).status_code == 200


async def test_v8_3_1_clients_cannot_claim_a_second_factor(api: Client) -> None:
    """The strength of a login is that of its session, not what the request says."""
    alice = await alice_of(api)
    jwt = await sign_in(api.services, alice.user, "jwt")
    token = jwt["authorization"].removeprefix("Bearer ")
    claims = claims_of(token) | {"amr": ["pwd", "otp", "mfa"], "acr": "urn:authapi:acr:2"}
    forged = forge(header(kid="x"), claims, mac(b""))
    refused = await api.post(
        "/me/factors/recovery-codes", headers={"authorization": f"Bearer {forged}"}
    )
    problem(refused, 401, "unauthenticated")
    headers = {**jwt, "x-amr": "otp mfa", "x-acr": "phr", "x-mfa": "true"}
    for path in ("/me/factors/recovery-codes?mfa=true&acr=phr", "/me/tokens?amr=mfa"):
        body = {"name": "script"} if "tokens" in path else None
        refused = await api.post(path, json=body, headers=headers)
        problem(refused, 401, "insufficient_authentication")


async def test_v11_3_3_a_modified_secret_is_no_secret(database_url: str) -> None:
    async with application(database_url) as api:
        alice = await alice_of(api)
        url = api.services.settings.resolved_database_url
        [(stored,)] = sql(url, "SELECT secret FROM authapi_totp_factors")
        literal = "decode('{}', 'hex')" if url.startswith("postgresql") else "x'{}'"
        for position in (0, len(stored) // 2, len(stored) - 1):
            changed = bytearray(stored)
            changed[position] ^= 1
            sql(url, f"UPDATE authapi_totp_factors SET secret = {literal.format(changed.hex())}")
            refused = await finish(api, await begin(api), code=alice.code())
            problem(refused, 401, "second_factor_refused")
        sql(url, f"UPDATE authapi_totp_factors SET secret = {literal.format(bytes(stored).hex())}")
        assert (await finish(api, await begin(api), code=alice.code())).status_code == 200


async def test_v16_3_1_events_have_the_factors(api: Client) -> None:
    alice = await alice_of(api)
    asked = await begin(api)
    await finish(api, asked, code=alice.wrong_code())
    await finish(api, asked, code=alice.code())
    await finish(api, await begin(api), recovery_code=alice.codes[0])
    session = await sign_in(api.services, alice.user)
    await api.post("/me/reauthenticate", json={"code": alice.wrong_code()}, headers=session)
    stepped = {"recovery_code": alice.codes[1]}
    await api.post("/me/reauthenticate", json=stepped, headers=session)
    page = await api.services.audit.page(alice.user.id, before=None, limit=50)
    seen = [(event.type.value, event.detail.get("amr"), event.outcome) for event in page]
    for expected in (
        ("second_factor_refused", None, "refused"),
        ("login", ["pwd", "otp", "mfa"], "success"),
        ("login", ["pwd", "recovery", "mfa"], "success"),
        ("reauthentication_refused", None, "refused"),
        ("reauthenticated", ["recovery"], "success"),
    ):
        assert seen.count(expected) == 1, expected
    assert [kind for kind, _, _ in seen].count("recovery_code_used") == 2
