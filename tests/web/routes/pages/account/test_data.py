"""/account/data: the file with everything, and the deletion of the account."""

from datetime import timedelta

import pytest

from authapi import create_app
from authapi.clock import now
from authapi.domain.events import EventFilter, EventType
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.storage.rows import sql
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page
from tests.web.pages.texts import ENGLISH

ALICE = "alice@example.com"
DATA, EXPORT, DELETE = "/account/data", "/account/data/export", "/account/data/delete"
FORM = {"email": ALICE, "password": PASSWORD}


@pytest.fixture
async def api(api_on_each: Client) -> Client:
    return api_on_each


@pytest.fixture
async def alice(api: Client) -> User:
    user = await api.create_user(ALICE)
    await api.post("/account/sign-in", data=FORM)
    return user


async def test_everything_is_downloaded(api: Client, alice: User) -> None:
    check_page(await api.get(DATA), 200, "Download everything")
    with travel_to(now()):
        answer = await api.get(EXPORT)
        name = f"authapi-export-{now():%Y-%m-%d}.json"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["cache-control"] == "no-store"
        same = await api.get("/me/export")
    body, other = answer.json(), same.json()
    assert body.pop("exported_at") == other.pop("exported_at")
    assert body == other
    assert body["account"]["email"] == ALICE


async def test_the_account_is_deleted(api: Client, alice: User) -> None:
    shown = await api.get(DELETE)
    check_page(shown, 200, "This cannot be undone.")
    assert "Your past activity stays without addresses" in shown.text
    stolen = {"cookie": f"authapi={api.cookies['authapi']}"}
    sent = await api.post(DELETE, data=FORM | {"email": " Alice@EXAMPLE.com "})
    assert (sent.status_code, sent.headers["location"]) == (303, "../sign-in?done=deleted")
    assert all(it.startswith("authapi=;") for it in sent.headers.get_list("set-cookie"))
    check_page(await api.get("/account/sign-in?done=deleted"), 200, "Your account is deleted.")
    for credential in ({}, stolen):
        assert (await api.get("/me", headers=credential)).status_code == 401
    again = await api.post("/account/sign-in", data=FORM)
    check_page(again, 401, ENGLISH["invalid_credentials"], is_error=True)
    found = await api.services.audit.search(EventFilter(user_id=alice.id), limit=1)
    assert [event.type for event in found] == [EventType.ACCOUNT_DELETED]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"email": "bob@example.com"}, 422, "wrong_own_address"),
        ({"email": ""}, 422, "wrong_own_address"),
        ({"email": "alice"}, 422, "wrong_own_address"),
        ({"password": ""}, 422, "password_missing"),
        ({"password": "wrong"}, 403, "wrong_password"),
        ({"password": "x" * 1025}, 422, "password_too_long"),
    ],
    ids=range(6),
)
async def test_the_address_and_the_password_are_needed(
    api: Client, alice: User, changes: dict[str, str], status: int, code: str
) -> None:
    sent = await api.post(DELETE, data=FORM | changes)
    check_page(sent, status, ENGLISH[code], is_error=True)
    assert PASSWORD not in sent.text
    assert (await api.get("/me")).status_code == 200


async def test_an_old_login_needs_no_other_password(api: Client, alice: User) -> None:
    with travel_to(now()) as clock:
        await api.post("/account/sign-in", data=FORM)
        clock.shift(timedelta(minutes=6))
        assert (await api.delete("/me")).status_code == 401
        assert (await api.get(DELETE)).text.count('type="password"') == 1
        sent = await api.post(DELETE, data=FORM)
        assert sent.headers["location"] == "../sign-in?done=deleted"


async def test_a_second_factor_is_proved(api: Client, alice: User) -> None:
    factors = await add_second_factors(api.services, alice)
    check_page(await api.get(DELETE), 200, "Six digits of your app, or a recovery code.")
    wrong = await api.post(DELETE, data=FORM | {"code": factors.wrong_code()})
    check_page_with_cookie = wrong.headers.pop("set-cookie", None)
    assert check_page_with_cookie is not None  # the password was right: the login is recent
    check_page(wrong, 403, ENGLISH["wrong_code"], is_error=True)
    sent = await api.post(DELETE, data=FORM | {"code": factors.code()})
    assert sent.headers["location"] == "../sign-in?done=deleted"


async def test_the_last_administrator_stays(api: Client) -> None:
    await api.create_user(ALICE, is_superuser=True)
    await api.post("/account/sign-in", data=FORM)
    sent = await api.post(DELETE, data=FORM)
    sent.headers.pop("set-cookie")
    check_page(sent, 409, ENGLISH["last_superuser"], is_error=True)
    assert (await api.get("/me")).status_code == 200


async def test_an_account_without_a_password_proves_its_login(
    api: Client, alice: User, database_url: str
) -> None:
    sql(database_url, "UPDATE authapi_users SET password_hash = NULL")
    shown = await api.get(DELETE)
    assert 'type="password"' not in shown.text
    sent = await api.post(DELETE, data={"email": ALICE})
    assert sent.headers["location"] == "../sign-in?done=deleted"


async def test_attempts_are_limited(api: Client, alice: User) -> None:
    answers = [
        await api.post(DELETE, data=FORM | {"password": f"guess {number}"}) for number in range(11)
    ]
    assert [it.status_code for it in answers] == [403] * 10 + [429]
    assert "Too many attempts." in answers[-1].text


async def test_the_page_says_what_stays(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(deleted_events="erase"))) as api:
        api.headers.update(await sign_in(api.services, await api.create_user()))
        assert "Your past activity" not in (await api.get(DELETE)).text


async def test_a_login_by_one_factor_gets_no_file(make_settings: SettingsFactory) -> None:
    # The login is older than the setting.
    async with client(create_app(make_settings(mfa="required"))) as api:
        api.headers.update(await sign_in(api.services, await api.create_user()))
        for path in (DATA, EXPORT, DELETE, "/account/tokens", "/account/activity"):
            assert (await api.get(path)).status_code == 303


async def test_a_person_who_is_signed_out_signs_in(api: Client) -> None:
    for path in (DATA, EXPORT, DELETE):
        shown = await api.get(path)
        assert shown.status_code == 303
        assert shown.headers["location"].endswith(f"sign-in?next={path.replace('/', '%2F')}")
    assert (await api.post(DELETE, data=FORM)).headers["location"].startswith("../sign-in?next=")
