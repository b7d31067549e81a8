"""/console/people/new: the form that invites several people at once."""

import pytest

from authapi.clock import now
from authapi.domain.events import EventType
from authapi.domain.user import UserFilter
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.web.mailbox import sent_mail
from tests.web.pages.anatomy import alerts_of, page_of
from tests.web.pages.browser import Page
from tests.web.pages.texts import ENGLISH
from tests.web.routes.pages.console.scene import Scene, console, console_settings, form_of
from tests.web.routes.pages.people import ALICE, STALE

PATH = "/console/people/new"
INVALID = ENGLISH["email_invalid"]
MIXED = f"bob@example.com\r\n  carol@example.com ,dan@example.com\r\n\r\n{ALICE}\r\nno address"


def results_of(page: Page) -> list[tuple[str, str]]:
    """The lines of the table, with what became of them."""
    rows = [row for row in page.root.all("tr") if row.all("td")]
    return [(row.children[0].text, row.children[1].text) for row in rows]


async def accounts(scene: Scene) -> list[str]:
    page = await scene.api.services.accounts.administration.page(UserFilter())
    return sorted(user.email for user in page.items)


async def test_several_people_are_invited(scene: Scene) -> None:
    page = await scene.browser.open(PATH)
    form = form_of(page, "Invite")
    shown = await scene.browser.send(form, **{"emails": MIXED, "role reader": "yes"})
    assert shown.status == 200
    exists = "There is an account with this address already. Not invited"
    assert results_of(shown) == [
        ("bob@example.com", "Invited"),
        ("carol@example.com", "Invited"),
        ("dan@example.com", "Invited"),
        (ALICE, exists),
        ("no", f"{INVALID} Not invited"),
        ("address", f"{INVALID} Not invited"),
    ]
    assert "3 people are invited." in shown.text
    bob = (await scene.api.services.accounts.administration.page(UserFilter("bob"))).items[0]
    assert bob.roles == {"reader"}
    [event] = await scene.api.services.audit.page(bob.id, before=None, limit=9)
    assert (event.type, event.actor_id) == (EventType.ACCOUNT_INVITED, scene.root.id)
    assert len(await sent_mail(scene.api.services, "bob@example.com")) == 1
    again = await scene.browser.send(form, **{"emails": MIXED, "role reader": "yes"})
    assert [result for _, result in results_of(again)][:4] == [exists] * 4
    assert len(await sent_mail(scene.api.services, "bob@example.com")) == 1


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"emails": " , ;\r\n"}, "Enter at least one address."),
        ({"emails": " ".join(f"a{n}@example.com" for n in range(51))}, "Enter at most 50"),
        ({"emails": "a@example.com b@example.com", "name": "A"}, "Leave it empty if there are"),
        ({"emails": "a@example.com", "name": "A" * 201}, "Enter a name of at most 200"),
    ],
)
async def test_fields_that_do_not_fit(scene: Scene, fields: dict[str, str], problem: str) -> None:
    before = await accounts(scene)
    answer = await scene.send(PATH, **fields)
    assert answer.status_code == 422
    assert alerts_of(page_of(answer))[0].startswith(problem)
    assert await accounts(scene) == before


async def test_one_person_has_a_name(scene: Scene) -> None:
    await scene.send(PATH, emails="bob@example.com", name="Bob")
    [bob] = (await scene.api.services.accounts.administration.page(UserFilter("bob"))).items
    assert bob.name == "Bob"
    refused = await scene.send(PATH, **{"emails": "dan@example.com", "role x": "yes"})
    assert "dan@example.com" not in await accounts(scene)
    assert "Not invited" in page_of(refused).text


async def test_what_was_typed_is_kept(scene: Scene) -> None:
    form = {"emails": "a@example.com\r\n<b>@example.com", "name": "A", "role editor": "yes"}
    root = page_of(await scene.send(PATH, **form))
    [field] = root.all("textarea")
    assert field.text == "a@example.com <b>@example.com"
    assert [box["name"] for box in root.all("input") if "checked" in box] == ["role editor"]


async def test_a_login_that_is_too_old_types_the_password(scene: Scene) -> None:
    with travel_to(now() + STALE):
        form = form_of(await scene.browser.open(PATH), "Invite")
        assert "password" in {item["name"] for item in form.typed}
        refused = await scene.browser.send(form, emails="bob@example.com", password="wrong")
        assert refused.status in {401, 403, 422}
        assert await accounts(scene) == [ALICE, scene.root.email]
        await scene.browser.send(form, emails="bob@example.com", password=PASSWORD)
        assert "bob@example.com" in await accounts(scene)


async def test_user_names_where_there_are_some(database_url: str) -> None:
    async with console(console_settings(database_url, login_identifier="both")) as scene:
        await scene.send(PATH, emails="bob@example.com", username="bobby")
        [bob] = (await scene.api.services.accounts.administration.page(UserFilter("bob"))).items
        assert bob.username == "bobby"


async def test_without_mail_nobody_is_invited(database_url: str) -> None:
    async with console(console_settings(database_url, mail_url="none:")) as scene:
        answer = await scene.send(PATH, emails="bob@example.com")
        assert answer.status_code == 403
        assert await accounts(scene) == [ALICE, scene.root.email]
