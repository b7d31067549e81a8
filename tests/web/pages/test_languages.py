"""The languages of the pages: catalogues, and the one that a reader gets."""

import html
from pathlib import Path

import pytest
from tools.catalogues import ids, problems, read, updated

from authapi import Settings, create_app
from authapi.errors import ConfigurationError
from authapi.testing import Client, client
from authapi.web.pages.languages import LOCALE_FOLDER, Languages
from authapi.web.pages.texts import BY_STATUS, ERRORS, OUTCOMES, PROBLEMS, error_code
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page
from tests.web.pages.texts import ENGLISH, KOREAN

GERMAN = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


@pytest.mark.parametrize("path", sorted(LOCALE_FOLDER.glob("*/*/authapi.po")), ids=str)
def test_catalogues_have_all_texts(path: Path) -> None:
    assert problems(path, ids()) == []


def test_a_missing_text_is_found() -> None:
    path = LOCALE_FOLDER / "ko" / "LC_MESSAGES" / "authapi.po"
    found = problems(path, {*ids(), "A new sentence."})
    assert found == [f"{path}: no id 'A new sentence.'"]
    assert len(list(updated(read(path), {"Sign in"}))) == 2  # with the header


def test_codes_have_texts() -> None:
    assert set(BY_STATUS.values()) <= ERRORS.keys()
    assert OUTCOMES.keys() >= PROBLEMS
    assert error_code("string_too_long", 422) == "password_too_long"
    assert error_code("never_seen", 429) == "too_many_attempts"
    assert error_code("never_seen", 500) == "other"
    assert error_code("never_seen", 403) == "refused"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("ko", "ko"),
        ("de, ko;q=0.5", "ko"),
        ("en;q=0.4, ko;q=0.5", "ko"),
        ("ko;q=0", "en"),
        ("ko;q=x", "en"),
        ("*", "en"),
        ("en-GB, ko", "en"),
        ("KO-kr", "ko"),
        ("x" * 100_000, "en"),
    ],
    ids=range(11),
)
def test_accept_language_is_negotiated(accepted: str | None, language: str) -> None:
    assert Languages(Settings.isolated()).preferred(accepted) == language


@pytest.mark.parametrize(
    ("changes", "offered"),
    [
        ({}, ("en", "ko")),
        ({"locales": ("ko", "en")}, ("ko", "en")),
        ({"locales": ("ko",)}, ("ko",)),
        ({"locales": ("de",)}, ("en",)),
        ({"locales": ("de", "ko")}, ("ko",)),
        ({"page_locales": ("ko",)}, ("ko",)),
    ],
    ids=str,
)
def test_only_languages_of_the_settings_are_offered(
    changes: dict[str, tuple[str, ...]], offered: tuple[str, ...]
) -> None:
    assert Languages(Settings.isolated(**changes)).offered == offered


async def test_a_language_that_is_not_offered_is_not_given(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings(locales=("en",)))) as api:
        shown = await api.get("/account/forgot?lang=ko", headers={"accept-language": "ko"})
        check_page(shown, 200, ENGLISH["forgot.title"])
        assert "<select" not in shown.text


async def test_the_order_of_the_languages(api: Client) -> None:
    """The choice, the account, the last choice, the mail, the browser."""
    english, korean = {"accept-language": "en"}, {"accept-language": "ko"}

    async def language(path: str, headers: dict[str, str]) -> str:
        shown = await api.get(path, headers=headers)
        return shown.headers["content-language"]

    assert await language("/account/confirm", korean) == "ko"
    assert await language("/account/confirm?token=x&lang=ko", english) == "ko"
    kept = {**english, "cookie": "authapi_lang=en"}
    assert await language("/account/confirm?token=x&lang=ko", kept) == "en"
    assert await language("/account/confirm?token=x&lang=ko&chosen=1", kept) == "ko"
    alice = await api.create_user()
    await api.services.accounts.profiles.edit(alice.id, {"locale": "ko"}, is_stale=lambda _: False)
    signed_in = await sign_in(api.services, alice)
    signed_in["cookie"] += "; authapi_lang=en"
    assert await language("/account", signed_in) == "ko"
    assert await language("/account?lang=en", signed_in) == "en"
    for cookie in ("authapi_lang=xx", "authapi_lang=en; authapi_lang=en", "authapi_lang="):
        assert await language("/account/forgot", {**korean, "cookie": cookie}) == "ko"


async def test_a_choice_is_kept(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        chosen = await api.get("/account/forgot?lang=ko")
        [cookie] = chosen.headers.get_list("set-cookie")
        assert cookie == "authapi_lang=ko; Path=/; Max-Age=31536000; SameSite=Lax"
        assert (await api.get("/account/forgot")).headers["content-language"] == "ko"
        for path in ("/account/forgot?lang=xx", "/account/confirm?token=x&lang=en"):
            assert "set-cookie" not in (await api.get(path)).headers
    settings = make_settings(public_url="https://auth.example.com")
    async with client(create_app(settings), base_url="https://auth.example.com") as api:
        chosen = await api.get("/account/forgot?lang=ko")
        assert chosen.headers["set-cookie"].endswith("; Secure")


async def test_the_switch_keeps_the_query(api: Client) -> None:
    shown = await api.get("/account/sign-in?next=/account&done=reset&x=1")
    form = shown.text[shown.text.index('<form class="language"') :]
    assert '<input type="hidden" name="next" value="/account">' in form
    assert '<input type="hidden" name="done" value="reset">' in form
    assert 'name="x"' not in form


async def test_forms_keep_the_language_of_the_mail(api: Client) -> None:
    await api.create_user("alice@example.com")
    await api.post("/password/forgot", json={"email": "alice@example.com"})
    [mail] = [it for it in await api.outbox() if "reset" in it.as_string()]
    body = mail.get_body(("plain",))
    assert body is not None
    [link] = [line for line in body.get_content().splitlines() if line.startswith("http")]
    assert link.endswith("&lang=en")
    shown = await api.get(link.replace("&lang=en", "&lang=ko"))
    check_page(shown, 200, KOREAN["reset.title"])
    assert 'action="reset?lang=ko"' in shown.text
    token = link.partition("token=")[2].partition("&")[0]
    form = {"token": token, "new_password": "another horse, another battery"}
    done = await api.post("/account/reset?lang=ko", data=form, follow_redirects=True)
    assert KOREAN["reset.done"] in done.text


async def test_an_operator_adds_a_language(make_settings: SettingsFactory, tmp_path: Path) -> None:
    for tag, text in (("de", "Anmelden"), ("en", "Log on")):
        folder = tmp_path / "locale" / tag / "LC_MESSAGES"
        folder.mkdir(parents=True)
        content = f'{GERMAN}msgid "Sign in"\nmsgstr "{text}"\n'
        (folder / "authapi.po").write_text(content, encoding="utf-8")
    settings = make_settings(page_templates=tmp_path, page_locales=("en", "de", "ko"))
    async with client(create_app(settings)) as api:
        shown = await api.get("/account/sign-in", headers={"accept-language": "de"})
        assert "<h1>Anmelden</h1>" in shown.text
        assert "Forgot your password?" in html.unescape(shown.text)  # no text: the id
        assert "Deutsch" in shown.text
        assert "<h1>Log on</h1>" in (await api.get("/account/sign-in?lang=en")).text
        korean = await api.get("/account/sign-in?lang=ko")
        assert "<h1>로그인</h1>" in korean.text


async def test_a_wrong_catalogue_refuses_the_start(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"^AUTHAPI_PAGE_LOCALES has de, but there is no"):
        async with client(create_app(make_settings(page_locales=("en", "de")))):
            pass
    folder = tmp_path / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    (folder / "authapi.mo").write_bytes(b"no catalogue")
    settings = make_settings(page_templates=tmp_path, page_locales=("de",))
    with pytest.raises(ConfigurationError, match=r"^the catalogue .*authapi\.mo: "):
        async with client(create_app(settings)):
            pass
