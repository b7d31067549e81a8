"""/console/people/{id}: one account, and what a superuser changes about it."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from uuid import uuid4

import pytest

from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.domain.events import EventType
from authapi.errors import NotFound
from authapi.testing import PASSWORD
from tests.clocks import travel_to
from tests.second_factors import add_second_factors, insert_passkey
from tests.soft_authenticator import SoftAuthenticator
from tests.web.logins import sign_in
from tests.web.pages.anatomy import alerts_of, page_of
from tests.web.pages.page_routes import ID
from tests.web.pages.scenes import create_person, furnish, mailed
from tests.web.routes.pages.console.scene import (
    ROLES,
    Scene,
    console,
    console_settings,
    form_of,
)
from tests.web.routes.pages.people import ALICE, STALE, banner_of

OWN = "Ask another administrator to change your own account."
ACTIONS = (
    *("save", "activate", "deactivate", "end-login", "end-token", "end-all"),
    *("reset-factors", "invite", "reset-link", "delete"),
)


async def test_the_page_shows_the_account(scene: Scene) -> None:
    await scene.furnish()
    page = await scene.browser.open(scene.person)
    assert page.root.all("h1")[0].text == ALICE
    for text in (str(scene.alice.id), "Unknown device", "token 19", "Access token made: token 19"):
        assert text in page.text or text in page.answer.text, text
    seen = ""
    for kind in ("logins", "tokens"):
        pages, shown = 0, page
        while older := [
            link["href"]
            for link in shown.root.all("a")
            if link.text == "Older" and f"?{kind}=" in link["href"]
        ]:
            shown = await scene.browser.open(f"/console/people/{older[0]}")
            assert shown.status == 200
            seen, pages = seen + shown.text, pages + 1
        assert pages >= 3, kind
    assert "Edge on Windows" in seen
    assert "token 0" in seen
    [events] = [link["href"] for link in page.root.all("a") if "All events" in link.text]
    assert events.endswith(f"events?user={scene.alice.id}")


@pytest.mark.parametrize("text", [ID, "x", "%00", "1", "%F0%9F%98%80", "a" * 300])
async def test_an_account_that_does_not_exist(scene: Scene, text: str) -> None:
    for method, fields in (("GET", None), ("POST", {"action": "deactivate"})):
        answer = await scene.browser.request(method, f"/console/people/{text}", fields)
        assert answer.status_code == 404


async def test_the_profile_is_saved(scene: Scene) -> None:
    page = await scene.browser.open(scene.person)
    saved = await scene.browser.send(
        form_of(page, "save"), **{"name": "Alice B.", "role editor": "yes", "superuser": "yes"}
    )
    assert banner_of(saved.answer) == "The account is saved."
    user = await scene.current()
    assert (user.name, set(user.roles), user.is_superuser) == ("Alice B.", {"editor"}, True)
    ticked = [it["name"] for it in form_of(saved, "save").form.all("input") if "checked" in it]
    assert ticked == ["role editor", "superuser"]
    await scene.browser.send(form_of(saved, "save"), name="", superuser="")
    user = await scene.current()
    assert (user.name, set(user.roles), user.is_superuser) == (None, {"editor"}, False)
    kinds = {event.type: event.actor_id for event in await scene.events()}
    for kind in (
        *(EventType.ACCOUNT_RENAMED, EventType.ROLES_CHANGED),
        *(EventType.SUPERUSER_GRANTED, EventType.SUPERUSER_REVOKED),
    ):
        assert kinds[kind] == scene.root.id


async def test_a_profile_that_has_changed_meanwhile_is_not_saved(scene: Scene) -> None:
    page = await scene.browser.open(scene.person)
    await scene.api.services.accounts.administration.change(scene.alice.id, {"name": "First"})
    shown = await scene.browser.send(form_of(page, "save"), name="Second")
    assert shown.status == 412
    assert alerts_of(shown.root) == [
        "This was changed meanwhile, perhaps in another window. Look again."
    ]
    assert form_of(shown, "save").values["name"] == "Second"
    assert (await scene.current()).name == "First"


async def test_a_role_that_is_not_configured_stays(scene: Scene) -> None:
    async with scene.api.services.database.transaction() as store:
        await store.users.lock(scene.alice.id)
        await store.users.set_roles(scene.alice.id, frozenset({"old", "reader"}), at=now())
    page = await scene.browser.open(scene.person)
    assert "Not configured any longer: old" in page.text
    await scene.browser.send(form_of(page, "save"), name="A name")
    assert (await scene.current()).roles == {"old", "reader"}
    forged = {**form_of(await scene.browser.open(scene.person), "save").values, "role x": "yes"}
    answer = await scene.send(scene.person, **forged)
    assert answer.status_code == 422


async def test_an_account_is_deactivated_and_activated(scene: Scene) -> None:
    await sign_in(scene.api.services, scene.alice)
    done = await scene.do("deactivate")
    assert banner_of(done) == (
        "The account is deactivated. All its sign-ins and access tokens ended."
    )
    assert await scene.sessions(scene.alice.id) == 0
    assert not (await scene.current()).is_active
    assert banner_of(await scene.do("activate")) == "The account is activated."
    [activated, deactivated, *_] = await scene.events()
    assert (activated.type, deactivated.type) == (
        EventType.ACCOUNT_ACTIVATED,
        EventType.ACCOUNT_DEACTIVATED,
    )
    assert activated.actor_id == deactivated.actor_id == scene.root.id


async def test_one_login_and_one_token_end(scene: Scene) -> None:
    services = scene.api.services
    await scene.furnish(2)
    page = await scene.browser.open(scene.person)
    for action, what in (("end-login", "device"), ("end-token", "token")):
        form = next(form for form in page.forms() if form.values.get("action") == action)
        first = await scene.browser.send(form)
        again = await scene.browser.send(form)
        ended = {"device": "That device is signed out.", "token": "That token has ended."}
        assert banner_of(first.answer) == ended[what]
        assert "already" in banner_of(again.answer)
        [event, *_] = await scene.events()
        assert event.actor_id == scene.root.id
        assert str(event.session_id) == form.values["id"]
    assert await scene.sessions(scene.alice.id) == 2
    assert len(await services.tokens.personal.list_of(scene.alice.id)) == 1
    for wrong in ("x", "", str(uuid4())):
        answer = await scene.send(scene.person, action="end-login", id=wrong)
        assert answer.status_code in {303, 404}
    [own] = await services.sessions.list_for_user(scene.root.id)
    await scene.do("end-login", id=str(own.id))
    assert await scene.sessions(scene.root.id) == 1


async def test_a_form_ends_no_login_of_another_account(scene: Scene) -> None:
    """The id in the form is that of a login or token of another account than the path names."""
    services = scene.api.services
    bob = await create_person(scene.api, "bob@example.com")
    roles = {"roles": frozenset(ROLES)}
    await services.accounts.administration.change(bob.id, roles)  # type: ignore[arg-type]  # one change
    await furnish(scene.api, bob, rows=1)
    for user in (bob, scene.root):
        await sign_in(services, user)
        before = await scene.sessions(user.id)
        tokens = await services.tokens.personal.list_of(user.id)
        assert bool(tokens) == (user is bob)
        ids = [login.id for login in await services.sessions.list_for_user(user.id)]
        for each in (*ids, *(token.id for token in tokens)):
            for action in ("end-login", "end-token"):
                page = await scene.do(action, id=str(each))
                assert "already" in banner_of(page)
        assert await scene.sessions(user.id) == before
        assert await services.tokens.personal.list_of(user.id) == tokens
    for text, status in {"": 404, "x": 404, "9" * 300: 404, "\x00": 400}.items():
        answer = await scene.send(scene.person, action="end-login", id=text)
        assert answer.status_code == status
    assert EventType.SESSION_ENDED not in {event.type for event in await scene.events()}


@pytest.mark.parametrize("version", [None, "", "x", "9999-12-31T00:00:00+00:00"])
async def test_a_forged_version_saves_nothing(scene: Scene, version: str | None) -> None:
    fields = {"action": "save", "name": "Forged", "superuser": "yes", "role editor": "yes"}
    if version is not None:
        fields["version"] = version
    answer = await scene.send(scene.person, **fields)
    assert answer.status_code == 412
    assert await scene.current() == scene.alice


async def test_the_own_rank_and_roles_stay(scene: Scene) -> None:
    """Fields that the form of the own account does not have are ignored."""
    own = f"/console/people/{scene.root.id}"
    form = form_of(await scene.browser.open(own), "save")
    await scene.browser.send(form, **{"role editor": "yes", "superuser": ""})
    user = await scene.api.services.accounts.profiles.find(scene.root.id)
    assert (user.is_superuser, user.roles) == (True, frozenset())
    # As in the API, superusers may end all their own logins, this one too.
    assert await scene.sessions(scene.root.id) == 1
    assert (await scene.send(own, action="end-all")).status_code == 303
    assert await scene.sessions(scene.root.id) == 0
    assert (await scene.browser.request("GET", own, None)).status_code == 404


async def test_all_logins_and_tokens_end(scene: Scene) -> None:
    await scene.furnish(2)
    assert banner_of(await scene.do("end-all")) == "5 sign-ins and access tokens ended."
    assert banner_of(await scene.do("end-all")) == "No sign-in and no access token was left."
    assert (await scene.events())[0].actor_id == scene.root.id


async def test_second_factors_are_shown_and_removed(scene: Scene) -> None:
    assert "The account has no second step." in (await scene.browser.open(scene.person)).text
    await add_second_factors(scene.api.services, scene.alice)
    await insert_passkey(scene.api.services, scene.alice, SoftAuthenticator())
    page = await scene.browser.open(scene.person)
    assert "Authenticator app" in page.text
    assert "codes left" in page.text
    with travel_to(now() + STALE):
        stale = await scene.browser.open(scene.person)
        assert "Authenticator app" not in stale.text
        assert "to see how the account is protected" in stale.text
    assert banner_of(await scene.do("reset-factors")).startswith("The second steps are removed")
    assert banner_of(await scene.do("reset-factors")) == "The account has no second step."
    assert (await scene.events())[0].actor_id == scene.root.id


async def test_mails_to_the_owner(scene: Scene) -> None:
    administration = scene.api.services.accounts.administration
    dan = await administration.invite(parse_email("dan@example.com"))
    page = await scene.browser.open(f"/console/people/{dan.id}")
    sent = await scene.browser.send(form_of(page, "invite"))
    assert banner_of(sent.answer) == "Another invitation is on its way."
    assert banner_of(await scene.do("reset-link")) == (
        "An e-mail with a link to choose a password is on its way to the owner."
    )
    [event, *_] = await scene.events()
    assert (event.type, event.actor_id) == (EventType.PASSWORD_RESET_SENT, scene.root.id)
    refused = await scene.send(scene.person, action="invite")
    assert refused.status_code == 409
    assert "cannot be invited" in alerts_of(page_of(refused))[0]


async def test_an_account_is_deleted_after_its_address_is_typed(scene: Scene) -> None:
    for typed in ("", "bob@example.com", "x", ALICE.replace("a", "b")):
        refused = await scene.send(scene.person, action="delete", email=typed)
        assert refused.status_code == 422
        assert alerts_of(page_of(refused)) == ["That is not the address of this account."]
    deleted = await scene.do("delete", email=ALICE.upper())
    assert deleted.url.path == "/console/people"
    assert banner_of(deleted) == "The account is deleted."
    with pytest.raises(NotFound):
        await scene.current()
    assert (await scene.send(scene.person, action="delete", email=ALICE)).status_code == 404
    [event, *_] = await scene.events()
    assert (event.type, event.actor_id) == (EventType.ACCOUNT_DELETED, scene.root.id)


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_login_that_is_too_old_proves_itself_first(scene: Scene, action: str) -> None:
    await sign_in(scene.api.services, scene.alice)
    before = await scene.current()
    fields = await _fields(scene, action)
    cookie = scene.api.headers.pop("cookie")
    name, _, secret = cookie.partition("=")
    scene.api.cookies.set(name, secret)  # the proof renews it
    with travel_to(now() + STALE):
        asked = await scene.send(scene.person, **fields)
        if action == "save":
            assert asked.status_code == 401
            fields |= {"password": ""}
        root = page_of(asked)
        assert root.all("h1")[0].text
        assert await scene.current() == before
        wrong = await scene.send(scene.person, **fields, **_password("wrong", fields))
        assert wrong.status_code in {401, 403, 422}
        assert await scene.current() == before
        fields.pop("password", None)
        done = await scene.send(scene.person, **fields, password=PASSWORD)
        assert done.status_code in {303, 409}, done.text
        assert (await scene.browser.open(scene.person)).status in {200, 404}


def _password(text: str, fields: Mapping[str, str]) -> Mapping[str, str]:
    return {} if "password" in fields else {"password": text}


async def _fields(scene: Scene, action: str) -> dict[str, str]:
    page = await scene.browser.open(scene.person)
    if action == "save":
        return {**form_of(page, "save").values, "name": "New"}
    [login, *_] = await scene.api.services.sessions.list_for_user(scene.alice.id)
    return {"action": action, "email": ALICE, "id": str(login.id)}


async def test_a_form_of_one_button_keeps_what_was_typed(scene: Scene) -> None:
    with travel_to(now() + STALE):
        page = await scene.browser.open(scene.person)
        form = form_of(page, "delete")
        asked = await scene.browser.send(form, email=ALICE)
        assert asked.root.all("h1")[0].text == "Delete the account"
        again = form_of(asked, "delete")
        assert again.values["email"] == ALICE


async def test_the_own_account_is_not_administered(scene: Scene) -> None:
    own = f"/console/people/{scene.root.id}"
    page = await scene.browser.open(own)
    assert OWN in page.text
    posts = [form for form in page.forms() if form.method == "post"]
    assert [form.values.get("action") for form in posts] == [None, "save"]  # None signs out
    saved = await scene.browser.send(form_of(page, "save"), name="Root")
    assert banner_of(saved.answer) == "The account is saved."
    for action in ("deactivate", "reset-factors", "invite", "reset-link", "delete"):
        fields = {"action": action, "email": scene.root.email}
        refused = await scene.send(own, **fields)
        assert refused.status_code == 403, action
        assert alerts_of(page_of(refused)) == [OWN]
    user = await scene.api.services.accounts.profiles.find(scene.root.id)
    assert (user.name, user.is_active, user.is_superuser) == ("Root", True, True)


async def test_the_last_superuser_stays(scene: Scene) -> None:
    """Of two superusers who demote each other at the same time, one succeeds."""
    services = scene.api.services
    await services.accounts.administration.change(scene.alice.id, {"is_superuser": True})
    cookies = [await sign_in(services, user) for user in (scene.root, scene.alice)]
    scene.api.headers.pop("cookie")
    people = (scene.alice, scene.root)
    forms = []
    for cookie, person in zip(cookies, people, strict=True):
        path = f"/console/people/{person.id}"
        shown = await scene.browser.request("GET", path, headers=cookie)
        form = form_of(scene.browser.show(shown), "save")
        values = {name: text for name, text in form.values.items() if name != "superuser"}
        forms.append((path, values, cookie))
    answers = await asyncio.gather(*(scene.browser.request("POST", *form) for form in forms))
    assert sorted(answer.status_code for answer in answers) == [303, 404]
    users = [await services.accounts.profiles.find(person.id) for person in people]
    assert sorted(user.is_superuser for user in users) == [False, True]


async def test_an_unknown_action_changes_nothing(scene: Scene) -> None:
    for fields in ({}, {"action": "x"}, {"action": "save", "version": "x"}):
        answer = await scene.send(scene.person, **fields)
        assert answer.status_code in {303, 412}
    assert await scene.current() == scene.alice


async def test_user_names_where_there_are_some(database_url: str) -> None:
    settings = console_settings(database_url, login_identifier="both")
    async with console(settings) as scene:
        await scene.api.create_user("bob@example.com", username="bobby")
        page = await scene.browser.open(scene.person)
        taken = await scene.browser.send(form_of(page, "save"), username="Bobby")
        assert taken.status == 409
        assert alerts_of(taken.root) == ["Another account has this user name. Choose another one."]
        invalid = await scene.browser.send(form_of(page, "save"), username="a b")
        assert invalid.status == 422
        await scene.browser.send(form_of(page, "save"), username="ali.ce")
        assert (await scene.current()).username == "ali.ce"


async def test_a_link_in_a_mail_ends_with_a_new_one(scene: Scene) -> None:
    from authapi.domain.email_token import Purpose  # used here only

    token = await mailed(scene.api, scene.alice, Purpose.RESET)
    await scene.do("reset-link")
    shown = await scene.browser.request("GET", f"/account/reset?token={token}")
    assert shown.status_code == 400


async def test_the_page_is_light(database_url: str) -> None:
    settings = console_settings(database_url, terms_url="https://acme.example/terms")
    async with console(settings, language="ko") as scene:
        await scene.furnish()
        await add_second_factors(scene.api.services, scene.alice)
        page = await scene.browser.open(scene.person)  # the browser limits the weight
        assert len(page.root.all("tr")) + len(page.root.all("li")) > 20
        with travel_to(now() + timedelta(hours=1)):
            assert (await scene.browser.open(scene.person)).status == 200
