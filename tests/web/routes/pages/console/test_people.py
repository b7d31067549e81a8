"""/console/people: the accounts, searched and in pages."""

from collections.abc import Sequence

import pytest

from authapi.domain.email_address import parse_email
from authapi.domain.user import UserOrder
from tests.web.pages.browser import Page
from tests.web.pages.scenes import create_person
from tests.web.routes.pages.console.scene import ROOT, Scene, console, console_settings
from tests.web.routes.pages.people import ALICE

PATH = "/console/people"
HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}"


def rows_of(page: Page) -> Sequence[str]:
    """The addresses of the accounts on a page."""
    return [cell.text for cell in page.root.all("td") if cell["data-label"] in {"Address", "주소"}]


def state_of(page: Page, email: str) -> str:
    """The badges of an account."""
    [row] = [row for row in page.root.all("tr") if email in row.text]
    return row.children[2].text


async def test_accounts_are_listed_the_newest_first(scene: Scene) -> None:
    page = await scene.browser.open(PATH)
    assert rows_of(page) == [ALICE, ROOT]
    assert "2 accounts on this page" in page.text
    assert page.root.all("nav")[0].text == "People Events Mail Webhooks Keys Status My account"
    assert [link.text for link in page.root.all("a") if link["aria-current"]] == ["People"]


async def test_badges_tell_the_state_of_an_account(scene: Scene) -> None:
    administration = scene.api.services.accounts.administration
    await administration.invite(parse_email("invited@example.com"))
    await scene.api.create_user("unconfirmed@example.com")
    await administration.change(
        scene.alice.id, {"is_active": False, "roles": frozenset({"reader"})}
    )
    page = await scene.browser.open(PATH)
    states = {email: state_of(page, email) for email in rows_of(page)}
    assert states == {
        ROOT: "Superuser",
        ALICE: "Deactivated",
        "invited@example.com": "Invited",
        "unconfirmed@example.com": "Not confirmed",
    }
    assert "reader" in page.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("email=AL", [ALICE]),
        ("email=%25", []),
        ("email=nobody", []),
        ("active=false", ["off@example.com"]),
        ("active=true&confirmed=true", [ALICE, ROOT]),
        ("confirmed=false", ["off@example.com"]),
        ("superuser=true", [ROOT]),
        ("superuser=false&confirmed=true", [ALICE]),
        ("role=editor", [ALICE]),
        ("sort=email", [ALICE, "off@example.com", ROOT]),
        ("sort=-email", [ROOT, "off@example.com", ALICE]),
        ("sort=created_at", [ROOT, ALICE, "off@example.com"]),
    ],
)
async def test_filters(scene: Scene, query: str, found: list[str]) -> None:
    administration = scene.api.services.accounts.administration
    off = await scene.api.create_user("off@example.com")
    await administration.change(off.id, {"is_active": False})
    await administration.change(scene.alice.id, {"roles": frozenset({"editor"})})
    page = await scene.browser.open(f"{PATH}?{query}")
    assert rows_of(page) == found
    assert ("Clear filters" in page.text) is not query.startswith("sort")
    if not found:
        assert "No account matches." in page.text


@pytest.mark.parametrize(
    "query",
    [
        *("after=x", "after=%00", f"after={'a' * 600}", "after=", "active=maybe", "sort=name"),
        *("role=unknown", f"email={'a' * 300}", "email=%00", "superuser=%F0%9F%98%80", "x=y"),
    ],
)
async def test_malformed_filters_show_the_first_page(scene: Scene, query: str) -> None:
    assert rows_of(await scene.browser.open(f"{PATH}?{query}")) == [ALICE, ROOT]


@pytest.mark.parametrize("order", list(UserOrder))
async def test_pages_lead_through_all_accounts(scene: Scene, order: UserOrder) -> None:
    for number in range(43):
        await scene.api.create_user(f"user{number:02}@example.com")
    page, seen = await scene.browser.open(f"{PATH}?sort={order}&active=true"), list[str]()
    following = ""
    for _ in range(3):
        seen += rows_of(page)
        [following] = [link["href"] for link in page.root.all("a") if link.text == "Next"] or [""]
        if following:
            page = await scene.browser.open(page.url.rpartition("/")[0] + "/" + following)
    assert len(seen) == len(set(seen)) == 45
    assert following == ""
    [first] = [link["href"] for link in page.root.all("a") if link.text == "First page"]
    assert "after" not in first
    assert "active=true" in first


async def test_the_form_repeats_the_filters(scene: Scene) -> None:
    page = await scene.browser.open(f"{PATH}?email=al&active=true&sort=email")
    [form] = [form for form in page.forms() if form.form["class"] == "filter"]
    assert form.values == {
        "email": "al",
        "active": "true",
        "confirmed": "",
        "superuser": "",
        "role": "",
        "sort": "email",
    }
    again = await scene.browser.send(form)
    assert rows_of(again) == [ALICE]
    [language] = [form for form in page.forms() if form.form["class"] == "language"]
    korean = await scene.browser.send(language, lang="ko")
    assert rows_of(korean) == [ALICE]
    assert korean.root["lang"] == "ko"


async def test_names_of_accounts_are_text(scene: Scene) -> None:
    await scene.api.services.accounts.administration.change(scene.alice.id, {"name": HOSTILE})
    for path in (PATH, scene.person, "/console/events"):
        page = await scene.browser.open(path)  # the strict parser finds markup
        assert page.root.all("img") == []
    assert HOSTILE in (await scene.browser.open(PATH)).text


async def test_user_names_where_there_are_some(database_url: str) -> None:
    async with console(console_settings(database_url, login_identifier="both")) as scene:
        await scene.api.create_user("bob@example.com", username="Bobby")
        page = await scene.browser.open(f"{PATH}?username=bob")
        assert rows_of(page) == ["bob@example.com"]
        assert "Bobby" in page.text


async def test_without_mail_there_is_no_invitation(database_url: str) -> None:
    async with console(console_settings(database_url, mail_url="none:")) as scene:
        page = await scene.browser.open(PATH)
        assert "Invite" not in page.text
        form = await scene.browser.open(f"{PATH}/new")
        assert "this service sends none" in form.text


async def test_pages_are_light(database_url: str) -> None:
    settings = console_settings(
        database_url, login_identifier="both", terms_url="https://acme.example/terms"
    )
    async with console(settings, language="ko") as scene:
        for number in range(20):
            email = f"a.person.with.a.long.name.{number}@mail.example.com"
            await create_person(scene.api, email)
        # The browser of the tests limits the weight of each page.
        page = await scene.browser.open(f"{PATH}?active=true&confirmed=true&sort=-created_at")
        assert len(rows_of(page)) == 20
