"""POST /login for accounts with a second factor, and POST /login/second-factor."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest

from authapi import create_app
from authapi.clock import now
from authapi.crypto.secrets import new_secret
from authapi.domain.events import EventType
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import PERIOD, SecondFactors, add_second_factors
from tests.storage.rows import sql
from tests.web.responses import check_headers, problem

STRATEGIES = ["session", "token", "jwt"]
NEW_PASSWORD = "another horse another battery"


async def alice_of(api: Client) -> SecondFactors:
    return await add_second_factors(api.services, await api.create_user("alice@example.com"))


async def begin(api: Client, strategy: str = "token", **more: object) -> httpx.Response:
    """The first step, by password."""
    body = {"email": "alice@example.com", "password": PASSWORD, "strategy": strategy, **more}
    answer = await api.post("/login", json=body)
    assert answer.status_code == 401
    assert answer.json()["code"] == "second_factor_required"
    return answer


async def finish(api: Client, answer: httpx.Response, **code: object) -> httpx.Response:
    """The second step. The client sends the cookie of the first step itself."""
    ticket = {"ticket": answer.json()["ticket"]} if "ticket" in answer.json() else {}
    return await api.post("/login/second-factor", json={**ticket, **code})


async def sessions(api: Client, factors: SecondFactors) -> int:
    return len(await api.services.sessions.list_for_user(factors.user.id))


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_login_with_a_code_gets_the_credential_of_its_strategy(
    api_on_each: Client, strategy: str
) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    answer = await begin(api, strategy)
    check_headers(answer)
    body = answer.json()
    assert body["methods"] == ["totp", "recovery"]
    lasts = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < lasts <= timedelta(minutes=5)
    assert ("ticket" in body) == (strategy != "session")
    assert ("set-cookie" in answer.headers) == (strategy == "session")
    assert await sessions(api, alice) == 0

    done = await finish(api, answer, code=alice.code())
    assert done.status_code == 200
    assert done.json()["strategy"] == strategy
    if strategy != "session":
        api.headers["Authorization"] = f"Bearer {done.json()['access_token']}"
    identity = (await api.get("/me/identity")).json()
    assert identity["amr"] == ["pwd", "otp", "mfa"]
    assert await sessions(api, alice) == 1
    events = await api.services.audit.page(alice.user.id, before=None, limit=9)
    login = next(event for event in events if event.type is EventType.LOGIN)
    assert login.detail["amr"] == ["pwd", "otp", "mfa"]


async def test_the_cookie_of_a_login_is_safe_and_short_lived(api: Client) -> None:
    alice = await alice_of(api)
    answer = await begin(api, "session")
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    assert cookie.key == "authapi-login"
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
    assert cookie["max-age"] == "300"
    done = await finish(api, answer, code=alice.code())
    kept, deleted = done.headers.get_list("set-cookie")
    assert kept.startswith("authapi=")
    assert deleted == "authapi-login=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"


async def test_over_tls_only_this_host_can_set_the_cookie(make_settings: SettingsFactory) -> None:
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        await alice_of(api)
        cookie = (await begin(api, "session")).headers["set-cookie"]
    assert cookie.startswith("__Host-authapi-login=")
    assert "; Secure" in cookie


async def test_remember_and_the_strategy_are_those_of_the_first_step(api: Client) -> None:
    alice = await alice_of(api)
    answer = await begin(api, "session", remember=True)
    done = await finish(api, answer, code=alice.code())
    assert "Max-Age=7776000" in done.headers.get_list("set-cookie")[0]


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_ticket_is_no_credential(api: Client, strategy: str) -> None:
    await alice_of(api)
    answer = await begin(api, strategy)
    ticket = answer.json().get("ticket")
    secrets = [ticket] if ticket else list(SimpleCookie(answer.headers["set-cookie"]).values())
    values = [getattr(secret, "value", secret) for secret in secrets]
    for value in values:
        for headers in (
            {"authorization": f"Bearer {value}"},
            {"authorization": f"Bearer aat_{value}"},
            {"cookie": f"authapi={value}"},
            {"cookie": f"authapi-login={value}"},
        ):
            assert (await api.get("/me", headers=headers)).status_code == 401
        refresh = {"grant_type": "refresh_token", "refresh_token": value}
        assert (await api.post("/token", data=refresh)).status_code == 400


@pytest.mark.parametrize("write", [str.lower, lambda code: code.replace("-", " "), str])
async def test_a_recovery_code_stands_for_the_second_factor(
    api_on_each: Client, write: Callable[[str], str]
) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    done = await finish(api, await begin(api), recovery_code=write(alice.codes[3]))
    assert done.status_code == 200
    headers = {"authorization": f"Bearer {done.json()['access_token']}"}
    identity = (await api.get("/me/identity", headers=headers)).json()
    assert identity["amr"] == ["pwd", "recovery", "mfa"]
    events = await api.services.audit.page(alice.user.id, before=None, limit=9)
    used = next(event for event in events if event.type is EventType.RECOVERY_CODE_USED)
    assert used.detail["left"] == 9
    again = await finish(api, await begin(api), recovery_code=alice.codes[3])
    problem(again, 401, "second_factor_refused")
    assert (await finish(api, await begin(api), recovery_code=alice.codes[4])).status_code == 200


async def test_codes_of_the_steps_around_now_are_accepted_once_each(api_on_each: Client) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    with travel_to(now()) as clock:
        for steps, status in ((-2, 401), (2, 401), (-1, 200), (-1, 401), (1, 200), (0, 401)):
            done = await finish(api, await begin(api), code=alice.code(steps=steps))
            assert done.status_code == status, steps
        clock.shift(2 * PERIOD)
        spaced = f"{alice.code()[:3]} {alice.code()[3:]}"
        assert (await finish(api, await begin(api), code=spaced)).status_code == 200


async def test_a_code_of_two_steps_counts_as_the_latest_unused_one(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await alice_of(api)
    # Two steps with one code are rare: the comparison is replaced.
    monkeypatch.setattr(
        "authapi.services.factors.proofs.matching_steps", lambda *_: [100, 101, 102]
    )
    assert (await finish(api, await begin(api), code="123456")).status_code == 200
    assert (await finish(api, await begin(api), code="123456")).status_code == 401
    url = api.services.settings.resolved_database_url
    assert sql(url, "SELECT last_step FROM authapi_totp_factors") == [(102,)]
    assert alice.user.mfa


@pytest.mark.parametrize(
    "code",
    [
        "1234567",
        "12345",
        "１２３４５６",
        "١٢٣٤٥٦",
        "12345a",
        "-12345",
        "+12345",
        "0x1234",
    ],
)
async def test_other_texts_are_wrong_codes(api: Client, code: str) -> None:
    alice = await alice_of(api)
    refused = await finish(api, await begin(api), code=code)
    problem(refused, 401, "second_factor_refused")
    assert alice.user.mfa


async def test_five_attempts_end_a_ticket(api_on_each: Client) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    answer = await begin(api)
    for left in (4, 3, 2, 1, 0):
        refused = await finish(api, answer, recovery_code="0000-0000-0000-0000")
        problem(refused, 401, "second_factor_refused")
        assert refused.json()["attempts_left"] == left
    expired = await finish(api, answer, code=alice.code())
    problem(expired, 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_wrong_codes_of_many_tickets_count_together(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()) as clock:
        for _ in range(5):
            refused = await finish(api, await begin(api), code=alice.wrong_code())
            assert refused.status_code == 401
        over = await finish(api, await begin(api), code=alice.code())
        problem(over, 429, "too_many_attempts")
        assert int(over.headers["retry-after"]) <= 300
        # A recovery code cannot be guessed, so it is not counted.
        done = await finish(api, await begin(api), recovery_code=alice.codes[0])
        assert done.status_code == 200
        clock.shift(301)
        assert (await finish(api, await begin(api), code=alice.code())).status_code == 200


async def test_the_owner_has_more_attempts_where_the_account_was_used(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()):
        done = await finish(api, await begin(api), code=alice.code())
        assert done.status_code == 200
        # 127.0.0.1 is a known network now, and has a counter of its own.
        for _ in range(20):
            refused = await finish(api, await begin(api), code=alice.wrong_code())
            assert refused.status_code == 401
        over = await finish(api, await begin(api), code=alice.wrong_code())
        assert over.status_code == 429


async def test_a_right_code_is_not_counted(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()) as clock:
        for _ in range(8):
            clock.shift(PERIOD)
            assert (await finish(api, await begin(api), code=alice.code())).status_code == 200


async def test_a_hundred_wrong_codes_in_a_row_close_the_app(
    make_settings: SettingsFactory,
) -> None:
    unlimited = {"limit_second_factor": "9999/minute", "limit_second_factor_known": "9999/minute"}
    async with client(create_app(make_settings(**unlimited))) as api:
        alice = await alice_of(api)
        url = api.services.settings.resolved_database_url
        sql(url, "UPDATE authapi_totp_factors SET failures = 99")
        refused = await finish(api, await begin(api), code=alice.wrong_code())
        assert refused.status_code == 401
        assert (await finish(api, await begin(api), code=alice.code())).status_code == 401
        opened = await finish(api, await begin(api), recovery_code=alice.codes[0])
        assert opened.status_code == 200
        assert (await finish(api, await begin(api), code=alice.code())).status_code == 200


async def test_a_ticket_expires(api: Client) -> None:
    alice = await alice_of(api)
    with travel_to(now()) as clock:
        answer = await begin(api)
        clock.shift(300)
        problem(await finish(api, answer, code=alice.code()), 401, "login_expired")


async def test_a_ticket_is_used_once(api_on_each: Client) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    answer = await begin(api)
    assert (await finish(api, answer, code=alice.code())).status_code == 200
    again = await finish(api, answer, recovery_code=alice.codes[0])
    problem(again, 401, "login_expired")
    # The code was not used up with it.
    assert (await finish(api, await begin(api), recovery_code=alice.codes[0])).status_code == 200


@pytest.mark.parametrize("ticket", ["x", "A" * 43, "é" * 43, "a" * 43])
async def test_an_unknown_ticket_is_an_expired_login(api: Client, ticket: str) -> None:
    alice = await alice_of(api)
    body = {"ticket": ticket, "code": alice.code()}
    problem(await api.post("/login/second-factor", json=body), 401, "login_expired")


async def test_a_ticket_of_a_browser_needs_its_cookie(api: Client) -> None:
    alice = await alice_of(api)
    answer = await begin(api, "session")
    [cookie] = SimpleCookie(answer.headers["set-cookie"]).values()
    api.cookies.clear()
    without = await api.post("/login/second-factor", json={"code": alice.code()})
    problem(without, 401, "login_expired")
    body = {"ticket": cookie.value, "code": alice.code()}
    as_ticket = await api.post("/login/second-factor", json=body)
    problem(as_ticket, 401, "login_expired")
    for planted in (
        f"authapi-login={new_secret()}",
        f"authapi-login={cookie.value}; authapi-login=x",
    ):
        headers = {"cookie": planted}
        refused = await api.post(
            "/login/second-factor", json={"code": alice.code()}, headers=headers
        )
        problem(refused, 401, "login_expired")
    headers = {"cookie": f"authapi-login={cookie.value}"}
    done = await api.post("/login/second-factor", json={"code": alice.code()}, headers=headers)
    assert done.status_code == 200


async def test_a_login_goes_on_with_a_new_cookie_only(api: Client) -> None:
    """Another person may have put the old one into this browser."""
    alice = await alice_of(api)
    await begin(api, "session")
    planted = f"authapi-login={api.cookies['authapi-login']}"
    async with api.services.database.transaction() as store:
        await store.login_tickets.end_all(alice.user.id)
    await begin(api, "session")
    assert planted != f"authapi-login={api.cookies['authapi-login']}"
    own = dict(api.cookies)
    api.cookies.clear()
    code = {"code": alice.code()}
    refused = await api.post("/login/second-factor", json=code, headers={"cookie": planted})
    problem(refused, 401, "login_expired")
    api.cookies.update(own)
    assert (await api.post("/login/second-factor", json=code)).status_code == 200


async def test_a_logout_ends_the_login_under_way_in_this_browser(api_on_each: Client) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    answer = await begin(api, "session")
    cookies = dict(api.cookies)
    refused = await api.post("/logout")
    assert refused.status_code == 401
    assert "authapi-login=; " in refused.headers["set-cookie"]
    api.cookies.update(cookies)
    problem(await finish(api, answer, code=alice.code()), 401, "login_expired")


async def test_a_foreign_page_cannot_complete_or_abandon_a_login(api: Client) -> None:
    alice = await alice_of(api)
    answer = await begin(api, "session")
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    body = {"code": alice.code()}
    foreign = await api.post("/login/second-factor", json=body, headers=headers)
    problem(foreign, 403, "foreign_origin")
    problem(await api.post("/logout", headers=headers), 403, "foreign_origin")
    assert (await finish(api, answer, code=alice.code())).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "123456", "recovery_code": "0000-0000-0000-0000"},
        {"code": 123456},
        {"code": ""},
        {"code": "1" * 65},
        {"code": "123456\n"},
        {"code": None},
        {"ticket": "", "code": "123456"},
        {"ticket": "x" * 129, "code": "123456"},
        {"code": "123456", "password": "x"},
    ],
)
async def test_another_body_is_invalid(api: Client, body: dict[str, Any]) -> None:
    assert (await api.post("/login/second-factor", json=body)).status_code == 422


Change = Callable[[Client, SecondFactors], Awaitable[object]]


async def _change_password(api: Client, alice: SecondFactors) -> None:
    await api.services.accounts.passwords.set(alice.user.id, NEW_PASSWORD)


async def _deactivate(api: Client, alice: SecondFactors) -> None:
    await api.services.accounts.administration.change(alice.user.id, {"is_active": False})


async def _delete(api: Client, alice: SecondFactors) -> None:
    await api.services.accounts.deletion.delete(alice.user.id)


async def _remove_factor(api: Client, alice: SecondFactors) -> None:
    async with api.services.database.transaction() as store:
        await store.users.lock(alice.user.id)
        await store.totp_factors.remove_all(alice.user.id)
        await store.users.set_mfa(alice.user.id, None, at=now())


@pytest.mark.parametrize("change", [_change_password, _deactivate, _delete, _remove_factor])
async def test_a_change_of_the_account_ends_its_logins_under_way(
    api_on_each: Client, change: Change
) -> None:
    api, alice = api_on_each, await alice_of(api_on_each)
    answer = await begin(api)
    await change(api, alice)
    problem(await finish(api, answer, code=alice.code()), 401, "login_expired")
    assert await sessions(api, alice) == 0


async def test_a_damaged_secret_refuses_the_code(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await alice_of(api)
    url = api.services.settings.resolved_database_url
    sql(url, "UPDATE authapi_totp_factors SET secret = x'00112233'")
    refused = await finish(api, await begin(api), code=alice.code())
    problem(refused, 401, "second_factor_refused")
    assert "cannot be decrypted" in caplog.text
    assert sql(url, "SELECT failures FROM authapi_totp_factors") == [(0,)]
    done = await finish(api, await begin(api), recovery_code=alice.codes[0])
    assert done.status_code == 200


async def test_no_secret_of_a_login_is_logged(
    api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    alice = await alice_of(api)
    caplog.set_level("INFO")
    answer = await begin(api)
    code, wrong = alice.code(), alice.wrong_code()
    await finish(api, answer, code=wrong)
    await finish(api, answer, code=code)
    await finish(api, await begin(api), recovery_code=alice.codes[0])
    values = [str(value) for record in caplog.records for value in record.__dict__.values()]
    assert "second_factor_refused" in values
    text = caplog.text + str(values)
    for secret in (answer.json()["ticket"], alice.codes[0], alice.app.secret):
        assert secret not in text
    # Six digits may be part of any id.
    words = {word for value in values for word in value.split()}
    assert words.isdisjoint({code, wrong})
