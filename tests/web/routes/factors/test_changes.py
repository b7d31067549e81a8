"""/me/factors: adding, confirming and removing an authenticator app, with pyotp as the app."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pyotp
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.second_factors import words_of
from tests.web.logins import Headers, sign_in
from tests.web.mailbox import client_with_mailbox, mail_kinds
from tests.web.responses import check_headers, input_errors, problem

STEP, LATER = timedelta(seconds=30), timedelta(minutes=6)


@pytest.fixture
async def api_on_each(database_url: str) -> AsyncIterator[Client]:
    async with client_with_mailbox(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


async def a_user(api: Client, *, confirmed: bool = True) -> User:
    user = await api.create_user()
    if confirmed:
        user = await api.services.accounts.email_changes.confirm_for_operator(user.id)
    return user


async def enrol(api: Client, headers: Headers) -> tuple[pyotp.TOTP, dict[str, Any]]:
    answer = await api.post("/me/factors/totp", headers=headers)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    return pyotp.TOTP(found["secret"]), found


def renewed(api: Client, answer: Any, headers: Headers) -> Headers:
    """The headers of further requests: with the new cookie, if there was one."""
    cookie = answer.headers.get("set-cookie")
    api.cookies.clear()
    return headers if cookie is None else {"cookie": cookie.partition(";")[0]}


async def add_app(api: Client, headers: Headers) -> tuple[pyotp.TOTP, list[str], Headers]:
    app, _ = await enrol(api, headers)
    code = {"code": app.at(now())}
    answer = await api.post("/me/factors/totp/confirm", json=code, headers=headers)
    assert answer.status_code == 200, answer.text
    return app, answer.json()["recovery_codes"], renewed(api, answer, headers)


async def factors(api: Client, headers: Headers) -> dict[str, Any]:
    answer = await api.get("/me/factors", headers=headers)
    assert answer.status_code == 200
    check_headers(answer)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("strategy", ["session", "jwt"])
async def test_an_app_is_added_used_and_removed(api_on_each: Client, strategy: str) -> None:
    api = api_on_each
    alice = await a_user(api)
    with travel_to(now()) as clock:
        headers = await sign_in(api.services, alice, strategy)
        nothing: dict[str, Any] = {"mfa": False, "required": False, "totp": None, "passkeys": []}
        assert await factors(api, headers) == {**nothing, "recovery_codes": None}
        app, enrolled = await enrol(api, headers)
        assert enrolled.keys() == {"id", "secret", "uri", "qr_svg", "expires_at"}
        assert pyotp.parse_uri(enrolled["uri"]).secret == enrolled["secret"]
        assert await factors(api, headers) == {**nothing, "recovery_codes": None}
        code = {"code": app.at(now())}
        answer = await api.post("/me/factors/totp/confirm", json=code, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        codes = answer.json()["recovery_codes"]
        assert len(codes) == 10
        assert ("set-cookie" in answer.headers) is (strategy == "session")
        old, headers = headers, renewed(api, answer, headers)
        if strategy == "session":
            problem(await api.get("/me", headers=old), 401, "unauthenticated")
        found = await factors(api, headers)
        assert (found["mfa"], found["required"], found["passkeys"]) == (True, False, [])
        assert found["totp"].keys() == {"id", "created_at", "confirmed_at", "last_used_at"}
        assert found["totp"]["id"] == enrolled["id"]
        made_at = found["totp"]["confirmed_at"]
        assert found["recovery_codes"] == {"left": 10, "made_at": made_at}
        identity = (await api.get("/me/identity", headers=headers)).json()
        assert identity["amr"] == ["pwd", "otp", "mfa"]
        # The login that follows asks for the app.
        clock.shift(STEP)
        body = {"email": alice.email, "password": PASSWORD, "strategy": "token"}
        asked = await api.post("/login", json=body)
        assert asked.status_code == 401
        step = {"ticket": asked.json()["ticket"], "code": app.at(now())}
        done = await api.post("/login/second-factor", json=step)
        assert done.status_code == 200
        problem(await api.post("/me/factors/totp", headers=headers), 409, "factor_exists")
        answer = await api.delete("/me/factors/totp", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert await factors(api, headers) == {**nothing, "recovery_codes": None}
        problem(await api.delete("/me/factors/totp", headers=headers), 404, "not_found")
        assert (await api.post("/login", json=body)).status_code == 200
    kinds = [kind for kind in await mail_kinds(api.services, alice.email) if "factor" in kind]
    assert sorted(kinds) == ["factor_added", "factor_removed"]


async def test_changes_require_a_fresh_login_that_has_proved_a_factor(api: Client) -> None:
    alice = await a_user(api)
    calls = [
        ("DELETE", "/me/factors/totp"),
        ("POST", "/me/factors/recovery-codes"),
        ("POST", "/me/factors/totp"),
    ]
    with travel_to(now()) as clock:
        headers = await sign_in(api.services, alice)
        app, codes, headers = await add_app(api, headers)
        # A session of the time before, as it would be without the rule that the others end.
        async with api.services.database.read() as store:
            user = await store.users.find(alice.id)
        assert user is not None
        weak = await sign_in(api.services, user)
        for method, path in calls:
            answer = await api.request(method, path, headers=weak)
            problem(answer, 401, "insufficient_authentication")
        clock.shift(LATER)
        for method, path in calls:
            answer = await api.request(method, path, headers=headers)
            problem(answer, 401, "stale_authentication")
        # The password alone makes the login fresh; what it has proved before stays.
        answer = await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=headers)
        headers = renewed(api, answer, headers)
        made = await api.post("/me/factors/recovery-codes", headers=headers)
        assert made.status_code == 200
        assert made.headers["cache-control"] == "no-store"
        assert not set(made.json()["recovery_codes"]) & set(codes)
        # A weak session becomes strong by a code.
        weak = renewed(
            api,
            await api.post("/me/reauthenticate", json={"password": PASSWORD}, headers=weak),
            weak,
        )
        answer = await api.post("/me/reauthenticate", json={"code": app.at(now())}, headers=weak)
        assert answer.status_code == 204
        weak = renewed(api, answer, weak)
        assert (await api.delete("/me/factors/totp", headers=weak)).status_code == 204


@pytest.mark.parametrize("strategy", ["token", "basic"])
async def test_other_credentials_are_refused(database_url: str, strategy: str) -> None:
    strategies = ("session", "token", "jwt", "basic")
    settings = Settings(database_url=database_url, strategies=strategies)  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        alice = await a_user(api)
        if strategy == "token":
            headers = await sign_in(api.services, alice, "token")
        else:
            api.auth, headers = (alice.email, PASSWORD), {}
        for method, path in (
            ("GET", "/me/factors"),
            ("POST", "/me/factors/totp"),
            ("DELETE", "/me/factors/totp"),
            ("POST", "/me/factors/recovery-codes"),
        ):
            answer = await api.request(method, path, headers=headers)
            problem(answer, 401, "unauthenticated")


async def test_wrong_codes_and_missing_enrolments(api: Client) -> None:
    headers = await sign_in(api.services, await a_user(api))
    path, right = "/me/factors/totp/confirm", {"code": "123456"}
    problem(await api.post(path, json=right, headers=headers), 404, "not_found")
    app, _ = await enrol(api, headers)
    shown = {app.at(now(), counter_offset=steps) for steps in range(-3, 4)}
    wrong = next(code for code in map("{:06}".format, range(10)) if code not in shown)
    for code in (wrong, "１２３４５６", "12345", "abcdef", "-12345"):
        problem(await api.post(path, json={"code": code}, headers=headers), 403, "wrong_code")
    problem(await api.post(path, json=right, headers=headers), 404, "not_found")
    app, _ = await enrol(api, headers)
    code = app.at(now())
    spaced = {"code": f"{code[:3]} {code[3:]}"}
    assert (await api.post(path, json=spaced, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"code": ""}, {"code": "1" * 65}, {"code": 123456}, {"code": "1", "x": 1}, []]
)
async def test_malformed_confirmations(api: Client, body: object) -> None:
    headers = await sign_in(api.services, await a_user(api))
    answer = await api.post("/me/factors/totp/confirm", json=body, headers=headers)
    problem(answer, 422, "validation_failed")


async def test_an_unconfirmed_address_adds_nothing(api: Client) -> None:
    headers = await sign_in(api.services, await a_user(api, confirmed=False))
    problem(await api.post("/me/factors/totp", headers=headers), 403, "email_not_confirmed")


async def test_the_operator_can_disable_second_factors(database_url: str) -> None:
    settings = Settings(database_url=database_url, mfa="off")  # type: ignore[arg-type]
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await a_user(api))
        problem(await api.post("/me/factors/totp", headers=headers), 403, "mfa_disabled")
        code = {"code": "123456"}
        answer = await api.post("/me/factors/totp/confirm", json=code, headers=headers)
        problem(answer, 403, "mfa_disabled")


async def test_the_qr_code_is_an_svg_element(api: Client) -> None:
    _, enrolled = await enrol(api, await sign_in(api.services, await a_user(api)))
    element = ET.fromstring(enrolled["qr_svg"])
    assert element.tag == "svg"
    tags = {child.tag for child in element.iter()}
    assert tags <= {"svg", "g", "path"}, "no script, no link"


async def test_without_the_extra_there_is_no_qr_code(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "segno", None)
    _, enrolled = await enrol(api, await sign_in(api.services, await a_user(api)))
    assert enrolled["qr_svg"] is None
    assert enrolled["uri"]


async def test_a_step_up_by_code(api_on_each: Client) -> None:
    api = api_on_each
    alice = await a_user(api)
    with travel_to(now()) as clock:
        headers = await sign_in(api.services, alice)
        app, codes, headers = await add_app(api, headers)
        path, before = "/me/reauthenticate", await identity_of(api, headers)
        clock.shift(LATER)
        used = {"code": app.at(now())}
        answer = await api.post(path, json=used, headers=headers)
        assert answer.status_code == 204
        old, headers = headers, renewed(api, answer, headers)
        problem(await api.get("/me", headers=old), 401, "unauthenticated")
        after = await identity_of(api, headers)
        assert after["auth_time"] == before["auth_time"], "a code alone is no fresh login"
        assert after["amr"] == ["pwd", "otp", "mfa"]
        problem(await api.post(path, json=used, headers=headers), 403, "wrong_code")
        code = {"recovery_code": codes[0].lower().replace("-", " ")}
        answer = await api.post(path, json=code, headers=headers)
        assert answer.status_code == 204
        headers = renewed(api, answer, headers)
        assert (await identity_of(api, headers))["amr"] == ["pwd", "otp", "mfa", "recovery"]
        problem(await api.post(path, json=code, headers=headers), 403, "wrong_code")
        assert (await factors(api, headers))["recovery_codes"]["left"] == 9


async def identity_of(api: Client, headers: Headers) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/me/identity", headers=headers)).json()
    return found


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"password": PASSWORD, "code": "123456"},
        {"code": "123456", "recovery_code": "7K2M-Q4XP-9RTD-3WHN"},
        {"password": PASSWORD, "code": "1", "recovery_code": "2"},
    ],
)
async def test_a_step_up_takes_exactly_one_proof(api: Client, body: dict[str, str]) -> None:
    headers = await sign_in(api.services, await a_user(api))
    answer = await api.post("/me/reauthenticate", json=body, headers=headers)
    assert input_errors(answer) == [(("body",), "one_proof")]


@pytest.mark.parametrize("name", ["password", "code", "recovery_code"])
async def test_a_null_proof_is_refused(api: Client, name: str) -> None:
    headers = await sign_in(api.services, await a_user(api))
    answer = await api.post("/me/reauthenticate", json={name: None}, headers=headers)
    assert input_errors(answer) == [(("body", name), "string_type")]


async def test_wrong_codes_of_a_session_are_limited(api: Client) -> None:
    alice = await a_user(api)
    _, _, headers = await add_app(api, await sign_in(api.services, alice))
    answers = [
        await api.post("/me/reauthenticate", json={"code": "x"}, headers=headers) for _ in range(21)
    ]
    # The network is known, because the account has logged in from there.
    assert [answer.status_code for answer in answers] == [403] * 20 + [429]


async def test_a_callers_identity_in_memory_is_renewed(api_on_each: Client) -> None:
    api = api_on_each
    alice = await a_user(api)
    headers = await sign_in(api.services, alice, "jwt")
    assert (await identity_of(api, headers))["amr"] == ["pwd"]  # cached from now on
    await add_app(api, headers)
    assert (await identity_of(api, headers))["amr"] == ["pwd", "otp", "mfa"]


async def test_the_export_has_the_factors_without_secrets(api: Client) -> None:
    headers = await sign_in(api.services, await a_user(api))
    app, codes, headers = await add_app(api, headers)
    answer = await api.get("/me/export", headers=headers)
    assert answer.json()["factors"] == await factors(api, headers)
    assert not any(secret in answer.text for secret in (app.secret, *codes))


async def test_an_account_with_factors_can_be_deleted(api_on_each: Client) -> None:
    api = api_on_each
    headers = await sign_in(api.services, await a_user(api))
    _, _, headers = await add_app(api, headers)
    assert (await api.delete("/me", headers=headers)).status_code == 204
    async with api.services.database.read() as store:
        assert await store.totp_factors.page(after=None, limit=1) == []


async def test_the_owner_is_told_in_their_language(database_url: str) -> None:
    async with client(create_app(Settings(database_url=database_url))) as api:  # type: ignore[arg-type]
        alice = await a_user(api)
        headers = await sign_in(api.services, alice)
        await api.patch("/me", json={"locale": "ko", "name": "앨리스"}, headers=headers)
        app, codes, headers = await add_app(api, headers)
        body = {"recovery_code": codes[0]}
        answer = await api.post("/me/reauthenticate", json=body, headers=headers)
        headers = renewed(api, answer, headers)
        await api.patch("/me", json={"locale": "en"}, headers=headers)
        body = {"recovery_code": codes[1]}
        headers = renewed(
            api, await api.post("/me/reauthenticate", json=body, headers=headers), headers
        )
        await api.post("/me/factors/recovery-codes", headers=headers)
        await api.delete("/me/factors/totp", headers=headers)
        sent = await api.outbox()
        subjects = {str(message["Subject"]) for message in sent}
        assert subjects == {
            "계정에 인증 앱이 추가되었습니다",
            "계정의 복구 코드가 사용되었습니다",
            "A recovery code of your account was used",
            "New recovery codes were made for your account",
            "The authenticator app of your account was removed",
        }
        texts = {str(message["Subject"]): text_of(message) for message in sent}
        assert "앨리스님" in texts["계정에 인증 앱이 추가되었습니다"]
        assert "남은 복구 코드: 9개" in texts["계정의 복구 코드가 사용되었습니다"]
        assert "Codes that are left: 8." in texts["A recovery code of your account was used"]
        secrets = (app.secret, *codes)
        assert not any(secret in text for text in texts.values() for secret in secrets)


def text_of(message: Any) -> str:
    return str(message.get_body(("plain",)).get_content())


async def test_no_secret_is_logged(api: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="authapi")
    app, codes, headers = await add_app(api, await sign_in(api.services, await a_user(api)))
    proofs: list[dict[str, str]] = [
        {"code": app.at(now(), counter_offset=1)},
        {"recovery_code": codes[0]},
        {"code": "999999"},
    ]
    for proof in proofs:
        answer = await api.post("/me/reauthenticate", json=proof, headers=headers)
        headers = renewed(api, answer, headers)
    assert caplog.records
    secrets = {app.secret, *codes, *proofs[0].values()}
    assert not secrets & words_of(caplog.records)
