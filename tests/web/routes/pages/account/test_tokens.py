"""/account/tokens lists, makes and ends personal access tokens."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.user import User
from authapi.testing import PASSWORD, Client, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH

TOKENS, NEW = "/account/tokens", "/account/tokens/new"
SCOPES = {"reports:read": "Read reports", "reports:write": ""}
ONCE = "Copy it now. It is shown this once."


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    settings = Settings(database_url=database_url, scopes=SCOPES)  # type: ignore[arg-type]  # pydantic parses it
    async with client(create_app(settings)) as found:
        yield found


@pytest.fixture
async def alice(api: Client) -> User:
    user = await api.create_user("alice@example.com")
    await api.post("/account/sign-in", data={"email": user.email, "password": PASSWORD})
    return user


async def fields(api: Client, **changes: str) -> dict[str, str]:
    """The fields of the form as it is shown, with `changes`."""
    shown = await api.get(NEW)
    assert shown.status_code == 200
    [form] = re.findall(r'name="form" value="([^"]+)"', shown.text)
    return {"form": form, "name": "backup", "expires": "90", **changes}


async def names(api: Client) -> list[str]:
    return [
        html.unescape(name) for name in re.findall("<h2>(.*?)</h2>", main_of(await api.get(TOKENS)))
    ]


def secret_of(page: httpx.Response) -> str:
    check_page(page, 200, ONCE)
    [secret] = re.findall(r'value="(aat_[\w-]+)" readonly', page.text)
    return str(secret)


async def test_a_token_is_made_used_and_ended(api: Client, alice: User) -> None:
    shown = await api.get(TOKENS)
    check_page(shown, 200, "You have no access tokens.")
    form = await fields(api, **{"name": " <b>backup ", "scope reports:read": "yes"})
    made = await api.post(NEW, data=form)
    secret = secret_of(made)
    assert "&lt;b&gt;backup" in made.text
    assert "curl -H" in made.text
    assert made.text.count(secret) == 1
    bearer = {"authorization": f"Bearer {secret}"}
    used = await httpx_get(api, "/me/identity", bearer)
    assert used.json()["scopes"] == ["reports:read"]
    listed = await api.get(TOKENS)
    check_page(listed, 200, "reports:read")
    assert secret not in listed.text
    [identifier] = re.findall(r'name="id" value="([^"]+)"', listed.text)
    sent = await api.post(TOKENS, data={"id": identifier})
    assert (sent.status_code, sent.headers["location"]) == (303, "tokens?done=now")
    check_page(await api.get("/account/tokens?done=now"), 200, "That token has ended.")
    assert (await httpx_get(api, "/me/identity", bearer)).status_code == 401
    for gone in (identifier, str(alice.id), "x", ""):
        await api.post(TOKENS, data={"id": gone, "x": "y"})
        check_page(await api.get("/account/tokens?done=now"), 200, "That token had ended already.")


async def httpx_get(api: Client, path: str, headers: dict[str, str]) -> httpx.Response:
    """Without the cookie."""
    kept = dict(api.cookies)
    api.cookies.clear()
    try:
        return await api.get(path, headers=headers)
    finally:
        api.cookies.update(kept)


async def test_a_token_of_another_account_is_none(api: Client, alice: User) -> None:
    bob = await api.create_user("bob@example.com")
    headers = await sign_in(api.services, bob)
    made = (await api.post("/me/tokens", json={"name": "of bob"}, headers=headers)).json()
    await api.post(TOKENS, data={"id": made["id"]})
    check_page(await api.get("/account/tokens?done=now"), 200, "That token had ended already.")
    assert len(await api.services.tokens.personal.list_of(bob.id)) == 1


@pytest.mark.parametrize("again", ["in turn", "at once"])
async def test_a_form_makes_one_token(api: Client, alice: User, again: str) -> None:
    form = await fields(api)
    if again == "at once":
        answers = await asyncio.gather(*(api.post(NEW, data=form) for _ in range(3)))
    else:
        answers = [await api.post(NEW, data=form) for _ in range(3)]
    assert sorted(it.status_code for it in answers) == [200, 303, 303]
    assert {it.headers["location"] for it in answers if it.status_code == 303} == {
        "../tokens?done=now"
    }
    text = "That token was made already. If you did not copy it, end it and make another."
    check_page(await api.get("/account/tokens?done=now"), 200, text)
    assert await names(api) == ["backup"]
    secret_of(await api.post(NEW, data=await fields(api)))
    assert (await api.post(NEW, data=form)).status_code == 303  # an older form
    # The API does not show the forms.
    assert (await api.get("/me/session")).json()["data"] == {}


async def test_a_refused_form_can_be_sent_again(api: Client, alice: User) -> None:
    form = await fields(api, name="")
    check_page(await api.post(NEW, data=form), 422, ENGLISH["name_empty"], is_error=True)
    secret_of(await api.post(NEW, data=form | {"name": "backup"}))


@pytest.mark.parametrize("form", ["", "x" * 65])
async def test_a_form_has_an_id(api: Client, alice: User, form: str) -> None:
    sent = await api.post(NEW, data=await fields(api, form=form))
    check_page(sent, 400, ENGLISH["malformed_request"], is_error=True)


@pytest.mark.parametrize(
    ("expires", "day", "days"),
    [
        ("7", "", 7),
        ("365", "", 365),
        ("date", "+0", 1),
        ("date", "+30", 31),
        ("date", "+365", 366),
        ("date", "+366", None),
        ("date", "-1", None),
        ("date", "", None),
        ("date", "x", None),
        ("date", "9999-12-31", None),
        ("8", "", None),
        ("", "", None),
    ],
    ids=range(12),
)
async def test_a_token_expires(
    api: Client, alice: User, expires: str, day: str, days: int | None
) -> None:
    noon = (now() + timedelta(days=1)).replace(hour=0, minute=0, second=1, microsecond=0)
    with travel_to(noon):
        await api.post("/account/sign-in", data={"email": alice.email, "password": PASSWORD})
        if day[:1] in ("+", "-"):
            day = (noon.date() + timedelta(days=int(day))).isoformat()
        sent = await api.post(NEW, data=await fields(api, expires=expires, date=day))
        if days is None:
            check_page(sent, 422, ENGLISH["expires_in_invalid"], is_error=True)
            assert 'value="backup"' in sent.text
            return
        secret_of(sent)
        [token] = await api.services.tokens.personal.list_of(alice.id)
        end = noon + timedelta(days=days)
        assert token.expires_at == (end if expires != "date" else end.replace(second=0))


async def test_presets_are_those_that_the_settings_allow(make_settings: SettingsFactory) -> None:
    settings = make_settings(
        personal_token_lifetime=timedelta(days=20), personal_token_max_lifetime=timedelta(days=60)
    )
    async with client(create_app(settings)) as api:
        headers = await sign_in(api.services, await api.create_user())
        shown = await api.get(NEW, headers=headers)
        assert re.findall(r'name="expires" type="radio" value="(\w+)"( checked)?', shown.text) == [
            ("7", ""),
            ("30", " checked"),
            ("date", ""),
        ]
        assert "May do" not in shown.text  # there are no scopes


@pytest.mark.parametrize("name", [" ", "x" * 101, "a\nb", "\u200b", "a\x85b"])
async def test_a_name_is_a_line(api: Client, alice: User, name: str) -> None:
    sent = await api.post(NEW, data=await fields(api, name=name))
    assert sent.status_code == 422
    assert 'id="name-error"' in sent.text


async def test_the_form_offers_the_scopes_of_the_caller(make_settings: SettingsFactory) -> None:
    roles = {"reader": {"reports:read"}}
    settings = make_settings(scopes=SCOPES, roles=roles, default_roles=["reader"])
    async with client(create_app(settings)) as api:
        api.headers.update(await sign_in(api.services, await api.create_user()))
        shown = await api.get(NEW)
        check_page(shown, 200, "Read reports")
        assert re.findall(r'name="(scope [^"]+)"', shown.text) == ["scope reports:read"]
        assert "checked" not in main_of(shown).partition("May do")[2]
        form = await fields(api, **{"scope reports:write": "yes"})
        sent = await api.post(NEW, data=form)
        check_page(sent, 422, ENGLISH["scope_not_allowed"], is_error=True)
        assert await names(api) == []


@pytest.mark.parametrize(
    ("ticked", "status", "text"),
    [
        (100, 200, ONCE),
        (101, 422, ENGLISH["too_many_scopes"]),
        (990, 422, ENGLISH["too_many_scopes"]),
        (1000, 400, ENGLISH["malformed_request"]),
        (5000, 400, ENGLISH["malformed_request"]),
    ],
)
async def test_many_scopes(
    make_settings: SettingsFactory, ticked: int, status: int, text: str
) -> None:
    names = [f"area{number:04}:read" for number in range(ticked)]
    settings = make_settings(scopes=dict.fromkeys(names, ""), max_body_bytes=2**20)
    async with client(create_app(settings)) as api:
        user = await api.create_user()
        api.headers.update(await sign_in(api.services, user))
        form = await fields(api, **{f"scope {name}": "yes" for name in names})
        sent = await api.post(NEW, data=form)
        assert sent.status_code == status
        assert text in main_of(sent)
        made = await api.services.tokens.personal.list_of(user.id)
        assert [token.scopes for token in made] == ([frozenset(names)] if status == 200 else [])
        if status == 422:
            assert main_of(sent).count(" checked") == ticked + 1  # and that of the lifetime


async def test_other_forms_have_few_fields(api: Client, alice: User) -> None:
    many = {f"field{number}": "x" for number in range(51)}
    for path in (TOKENS, "/account", "/account/sign-in"):
        sent = await api.post(path, data=many)
        check_page(sent, 400, ENGLISH["malformed_request"], is_error=True)


async def test_the_number_of_tokens_is_limited(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(max_personal_tokens=1))) as api:
        api.headers.update(await sign_in(api.services, await api.create_user()))
        secret_of(await api.post(NEW, data=await fields(api)))
        sent = await api.post(NEW, data=await fields(api))
        text = "You have 1 access tokens, the most there may be. End one first."
        check_page(sent, 409, text, is_error=True)


async def test_an_old_login_proves_itself_in_the_form(api: Client, alice: User) -> None:
    with travel_to(now()) as clock:
        await api.post("/account/sign-in", data={"email": alice.email, "password": PASSWORD})
        form = await fields(api)
        assert 'name="password"' not in (await api.get(NEW)).text
        clock.shift(timedelta(minutes=6))
        assert 'name="password"' in (await api.get(NEW)).text
        late = await api.post(NEW, data=form)  # shown before
        assert late.status_code == 401
        assert 'name="password"' in late.text
        wrong = await api.post(NEW, data=form | {"password": "wrong"})
        check_page(wrong, 403, ENGLISH["wrong_password"], is_error=True)
        assert 'value="backup"' in wrong.text
        assert await names(api) == []
        made = await api.post(NEW, data=form | {"password": PASSWORD})
        assert len(made.headers.get_list("set-cookie")) == 1
        assert ONCE in made.text
        assert await names(api) == ["backup"]


async def test_a_second_factor_is_proved(api: Client, alice: User) -> None:
    factors = await add_second_factors(api.services, alice)
    form = await fields(api)
    assert (await api.post(NEW, data=form)).status_code == 401
    wrong = await api.post(NEW, data=form | {"code": factors.wrong_code()})
    check_page(wrong, 403, ENGLISH["wrong_code"], is_error=True)
    made = await api.post(NEW, data=form | {"code": factors.code()})
    assert ONCE in made.text


async def test_forgotten_tokens_and_those_that_end_soon_are_marked(
    api: Client, alice: User
) -> None:
    with travel_to(now()) as clock:
        await api.post("/account/sign-in", data={"email": alice.email, "password": PASSWORD})
        await api.post(NEW, data=await fields(api, expires="30"))
        shown = await api.get(TOKENS)
        assert "Never used" in shown.text
        assert 'class="badge warn"' not in shown.text
        clock.shift(timedelta(days=8))
        headers = await sign_in(api.services, alice)
        shown = await api.get(TOKENS, headers=headers)
        assert '<span class="badge warn">Never used</span>' in shown.text
        assert "Expires soon" not in shown.text
        clock.shift(timedelta(days=16))
        headers = await sign_in(api.services, alice)
        shown = await api.get(TOKENS, headers=headers)
        assert '<span class="badge warn">Expires soon</span>' in shown.text


async def test_many_tokens_have_pages(api: Client, alice: User) -> None:
    for number in range(25):
        body = {"name": f"token {number}", "scopes": ["reports:read"]}
        assert (await api.post("/me/tokens", json=body)).status_code == 201
    pages = [await api.get(f"{TOKENS}?page={number}") for number in (1, 2, 3)]
    assert [page.text.count("<h2>") for page in pages] == [10, 10, 5]
    check_page(pages[1], 200, "token 14")
    for odd in ("0", "-1", "x", "4", "99999", ""):
        assert (await api.get(f"{TOKENS}?page={odd}")).status_code == 200


async def test_without_the_strategy_no_page_leads_to_tokens(
    make_settings: SettingsFactory,
) -> None:
    async with client(create_app(make_settings(strategies=["session"]))) as api:
        api.headers.update(await sign_in(api.services, await api.create_user()))
        assert 'href="tokens"' not in (await api.get("/account/activity")).text
        for path in (TOKENS, NEW):
            check_page(await api.get(path), 404, "Page not found", is_error=True)


async def test_a_person_who_is_signed_out_signs_in(api: Client) -> None:
    for path, up in ((TOKENS, ""), (NEW, "../")):
        shown = await api.get(path)
        assert shown.headers["location"] == f"{up}sign-in?next={path.replace('/', '%2F')}"
        sent = await api.post(path, data={"x": "y"})
        assert sent.headers["location"].startswith(f"{up}sign-in?next=")
        assert "done=ended" in sent.headers["location"]


async def test_forms_of_another_origin_are_refused(api: Client, alice: User) -> None:
    form = await fields(api)
    headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
    sent = await api.post(NEW, data=form, headers=headers)
    check_page(sent, 403, ENGLISH["foreign_origin"], is_error=True)
    assert await names(api) == []
