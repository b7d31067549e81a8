"""/account/sign-in and /account, without a browser."""

import re
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, create_app
from authapi.crypto.secrets import new_secret
from authapi.domain.email_address import parse_email
from authapi.domain.username import parse_username
from authapi.errors import ConfigurationError, StorageUnavailable
from authapi.services.accounts.authentication import Authentication
from authapi.storage.database import Database
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH

ALICE = "alice@example.com"
PAGE = "/account/sign-in"
FORM = {"email": ALICE, "password": PASSWORD}


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client(create_app(Settings(database_url=database_url))) as found:  # type: ignore[arg-type]  # pydantic parses it
        await found.create_user(ALICE)
        yield found


async def test_signing_in_leads_to_the_account(api: Client) -> None:
    sent = await api.post(PAGE, data=FORM)
    assert (sent.status_code, sent.headers["location"], sent.text) == (303, "sign-in?done=in", "")
    assert sent.headers["cache-control"] == "no-store"
    [cookie] = sent.headers.get_list("set-cookie")
    assert re.fullmatch(r"authapi=[\w-]{43}; Path=/; HttpOnly; SameSite=Lax", cookie)
    arrived = await api.get("/account/sign-in?done=in")
    assert (arrived.status_code, arrived.headers["location"]) == (303, "../account")
    account = await api.get("/account")
    check_page(account, 200, ALICE)
    assert 'action="account/sign-out"' in account.text
    assert (await api.get("/me")).json()["email"] == ALICE


async def test_the_cookie_stays_if_the_person_says_so(api: Client) -> None:
    sent = await api.post(PAGE, data={**FORM, "remember": "yes"})
    [cookie] = sent.headers.get_list("set-cookie")
    assert "; Max-Age=" in cookie


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/reports?x=1", "/reports?x=1"),
        ("https://app.example/x", "https://app.example/x"),
        ("http://127.0.0.1:8000/account", "http://127.0.0.1:8000/account"),
        ("https://evil.example/", "../account"),
        ("//evil.example", "../account"),
        ("", "../account"),
    ],
)
async def test_signing_in_leads_to_next(
    make_settings: SettingsFactory, wanted: str, location: str
) -> None:
    settings = make_settings(return_origins=("https://app.example",))
    async with client(create_app(settings)) as api:
        await api.create_user(ALICE)
        shown = await api.get(PAGE, params={"next": wanted})
        kept = re.findall(r'name="next" value="([^"]*)"', main_of(shown))
        assert bool(kept) == (location != "../account")
        # A failed attempt keeps it too.
        wrong = await api.post(PAGE, data={**FORM, "password": "x", "next": wanted})
        assert re.findall(r'name="next" value="([^"]*)"', main_of(wrong)) == kept
        sent = await api.post(PAGE, data={**FORM, "next": wanted})
        arrived = await api.get(f"/account/{sent.headers['location']}")
        assert (arrived.status_code, arrived.headers["location"]) == (303, location)


async def test_the_home_page_of_the_settings(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(home_url="https://app.example/start"))) as api:
        await api.create_user(ALICE)
        await api.post(PAGE, data=FORM)
        arrived = await api.get("/account/sign-in?done=in")
        assert arrived.headers["location"] == "https://app.example/start"


async def test_wrong_input_has_one_text(api: Client) -> None:
    texts = set()
    for form in (
        {**FORM, "password": "wrong one"},
        {"email": "unknown@example.com", "password": PASSWORD},
    ):
        wrong = await api.post(PAGE, data=form)
        check_page(wrong, 401, ENGLISH["invalid_credentials"], is_error=True)
        assert wrong.headers["www-authenticate"].startswith("Cookie ")
        assert f'value="{form["email"]}"' in wrong.text
        assert re.search(r'id="password"[^>]*autofocus', wrong.text)
        assert form["password"] not in wrong.text
        texts.add(wrong.text.replace(form["email"], ""))
    assert len(texts) == 1


async def test_after_two_refusals_the_way_out_is_beside_the_password(api: Client) -> None:
    form = {**FORM, "password": "wrong"}
    for beside in (False, True):
        wrong = await api.post(PAGE, data=form)
        assert ('class="beside"' in wrong.text) is beside
        assert wrong.text.count('href="forgot"') == 1
        [tries] = re.findall(r'name="tries" value="(\d)"', wrong.text)
        form["tries"] = tries


@pytest.mark.parametrize(
    ("form", "field", "text"),
    [
        ({}, "email", "email_invalid"),
        ({"email": "x", "password": "y"}, "email", "email_invalid"),
        ({"email": ALICE, "password": "x" * 5000}, "password", "password_too_long"),
    ],
    ids=range(3),
)
async def test_a_field_says_what_is_wrong(
    api: Client, form: dict[str, str], field: str, text: str
) -> None:
    wrong = await api.post(PAGE, data=form or {"x": "y"})
    check_page(wrong, 422, ENGLISH[text], is_error=True)
    assert re.search(rf'id="{field}"[^>]*aria-invalid="true"[^>]*autofocus', wrong.text)
    assert f'aria-describedby="{field}-error"' in wrong.text


async def test_attempts_are_limited_as_those_of_the_api(api: Client) -> None:
    for number in range(5):
        assert (await api.post(PAGE, data={**FORM, "password": f"x{number}"})).status_code == 401
        body = {**FORM, "password": f"y{number}"}
        assert (await api.post("/login", json=body)).status_code == 401
    refused = await api.post(PAGE, data=FORM)
    check_page(refused, 429, "Too many attempts. Try again in", is_error=True)
    assert f'value="{ALICE}"' in refused.text
    assert int(refused.headers["retry-after"]) > 0
    assert "<form" in main_of(refused)


async def test_an_unavailable_database_keeps_the_address(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise StorageUnavailable

    monkeypatch.setattr(Authentication, "authenticate", away)
    async with client(create_app(make_settings())) as api:
        refused = await api.post(PAGE, data=FORM)
    check_page(refused, 503, "it is our fault", is_error=True)
    assert f'value="{ALICE}"' in refused.text


@pytest.mark.parametrize(
    "path",
    [
        *("/account/sign-in", "/account/sign-in?next=/x&done=reset", "/account/sign-up"),
        *("/account/forgot", "/account/check-mail", "/account", "/account/sign-in/second"),
    ],
)
async def test_without_a_session_nothing_is_asked(
    make_settings: SettingsFactory, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async with client(create_app(make_settings())) as api:

        def refuse(*_: object) -> None:
            raise AssertionError("a query")

        monkeypatch.setattr(Database, "read", refuse)
        monkeypatch.setattr(Database, "transaction", refuse)
        answer = await api.get(path, headers={"cookie": "authapi_lang=ko; other=x"})
        assert answer.status_code in {200, 303}


async def test_cookies_that_are_blocked_are_named(api: Client) -> None:
    sent = await api.post(PAGE, data={**FORM, "next": "/x"})
    api.cookies.clear()
    arrived = await api.get(f"/account/{sent.headers['location']}", follow_redirects=True)
    check_page(arrived, 200, "Your browser did not keep the cookie.")
    assert 'name="next" value="/x"' in arrived.text


async def test_a_person_who_is_signed_in_goes_on(api: Client) -> None:
    await api.post(PAGE, data=FORM)
    shown = await api.get(f"{PAGE}?next=/reports")
    check_page(shown, 200, "You are signed in as a***@example.com.")
    assert f'<span class="quiet">{ALICE}</span>' in shown.text  # their own header
    assert 'href="/reports"' in main_of(shown)
    form = {"switch": "yes", "next": "/reports"}
    switched = await api.post("/account/sign-out", data=form, follow_redirects=True)
    check_page(switched, 200, "Sign in")
    assert 'name="next" value="/reports"' in switched.text
    assert (await api.get("/me")).status_code == 401


async def test_signing_in_replaces_the_session(api: Client) -> None:
    """A cookie that another person has planted does not become a session of the account."""
    alice = await api.create_user("bob@example.com")
    planted = await sign_in(api.services, alice)
    sent = await api.post(PAGE, data=FORM, headers=planted)
    assert sent.status_code == 303
    api.cookies.clear()
    assert (await api.get("/me", headers=planted)).status_code == 401


async def test_signed_out_pages_lead_back(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        answer = await api.get("/account?done=welcome")
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            "account/sign-in?next=%2Faccount",
        )
        expired = await api.get("/account", headers={"cookie": f"authapi={new_secret()}"})
        assert expired.status_code == 303
        assert expired.headers["set-cookie"].startswith("authapi=; ")
    auth = AuthAPI(make_settings(public_url="https://example.com/shop"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix="/api/auth")
    async with client(app, base_url="https://example.com") as api:
        # A proxy removes /shop.
        answer = await api.get("/api/auth/account")
        assert answer.headers["location"] == "account/sign-in?next=%2Fshop%2Fapi%2Fauth%2Faccount"


async def test_user_names(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(login_identifier="both"))) as api:
        await api.services.accounts.registration.create(
            parse_email("bob@example.com"), PASSWORD, username=parse_username("bobby")
        )
        shown = await api.get(PAGE)
        assert "E-mail address or user name" in shown.text
        assert 'type="email"' not in shown.text
        wrong = await api.post(PAGE, data={"email": "bobby", "password": "x"})
        check_page(wrong, 401, ENGLISH["invalid_login"], is_error=True)
        sent = await api.post(PAGE, data={"email": "Bobby", "password": PASSWORD})
        assert sent.status_code == 303


@pytest.mark.parametrize("name", ["sign-in", "sign-in/second", "sign-up", "sign-out", "prove"])
async def test_forms_of_other_origins_are_refused_as_pages(api: Client, name: str) -> None:
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = await api.post(f"/account/{name}", data=FORM, headers=headers)
        check_page(answer, 403, ENGLISH["foreign_origin"], is_error=True)
        assert "set-cookie" not in answer.headers
    answer = await api.post(f"/account/{name}", json=FORM)
    check_page(answer, 415, ENGLISH["unsupported_media_type"], is_error=True)


async def test_which_pages_there_are(make_settings: SettingsFactory) -> None:
    for changes, there, missing in (
        ({"pages": "mail"}, ["forgot"], ["sign-in", "sign-up"]),
        ({"pages": "none"}, [], ["forgot", "sign-in", "page.css"]),
        ({"strategies": ("token",), "default_strategy": "token"}, ["forgot"], ["sign-in", ""]),
        ({"mail_url": "none:"}, ["sign-in", "sign-up", "page.css"], ["forgot"]),
    ):
        async with client(create_app(make_settings(**changes))) as api:
            for name in there:
                assert (await api.get(f"/account/{name}".rstrip("/"))).status_code == 200
            for name in missing:
                answer = await api.get(f"/account/{name}".rstrip("/"))
                assert answer.status_code == 404, name
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    with pytest.raises(ConfigurationError, match="the unit account needs the unit signin"):
        auth.install(app, include=["account"])
    settings = make_settings(sign_in_link="https://app.example/in")
    auth, app = AuthAPI(settings), FastAPI()
    app.router.lifespan_context = auth.lifespan
    auth.install(app, include=["pages", "account"])
    async with client(app) as api:
        assert (await api.get("/account")).headers["location"] == "https://app.example/in"
        forgot = await api.get("/account/forgot")
        assert 'href="https://app.example/in">Back to signing in' in forgot.text
