"""/account/sign-in/address: the address that a login at a provider lacks."""

import re
from collections.abc import AsyncIterator

import pytest

from authapi.testing import PASSWORD
from tests.web.federation.visits import Visitor, person, settings_with_providers, visiting
from tests.web.pages.checks import check_page

ADDRESS = "/account/sign-in/address"
NO_ADDRESS = person(email=None, email_verified=False, is_authoritative=False)


@pytest.fixture
async def visitor(sqlite_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(sqlite_url, registration="open")) as found:
        yield found


@pytest.fixture
async def confirming(sqlite_url: str) -> AsyncIterator[Visitor]:
    async with visiting(settings_with_providers(sqlite_url, registration="confirm")) as found:
        yield found


async def arrive(visitor: Visitor, **body: object) -> None:
    """Comes back from a provider that tells no address."""
    answer = await visitor.log_in(NO_ADDRESS, **{"continue": "/home", **body})
    assert answer.headers["location"] == "../../../account/sign-in/address?next=%2Fhome"
    assert (await visitor.api.get("/me")).status_code == 401


async def test_an_address_is_enough_with_open_registration(visitor: Visitor) -> None:
    await arrive(visitor)
    shown = await visitor.api.get(f"{ADDRESS}?next=/home")
    check_page(shown, 200, "Your account needs one.")
    assert "We send a link there." not in shown.text
    sent = await visitor.api.post(ADDRESS, data={"email": "ada@example.com", "next": "/home"})
    assert sent.headers["location"] == "../sign-in?done=up&next=%2Fhome"
    me = (await visitor.api.get("/me")).json()
    assert (me["email"], me["email_confirmed_at"]) == ("ada@example.com", None)
    # The ticket was used, and its cookie is gone.
    again = await visitor.api.get(ADDRESS)
    assert again.headers["location"] == "../sign-in?done=expired"


async def test_an_address_of_another_account_is_refused(visitor: Visitor) -> None:
    await visitor.api.create_user("ada@example.com")
    await arrive(visitor)
    sent = await visitor.api.post(ADDRESS, data={"email": "ada@example.com", "next": "/home"})
    assert sent.status_code == 409
    assert 'role="alert"' in sent.text
    assert (await visitor.api.get("/me")).status_code == 401
    other = await visitor.api.post(ADDRESS, data={"email": "eva@example.com", "next": "/home"})
    assert other.status_code == 303
    assert (await visitor.api.get("/me")).json()["email"] == "eva@example.com"


@pytest.mark.parametrize("email", ["", "  ", "no address", "a@b@c"])
async def test_what_is_no_address_is_refused(visitor: Visitor, email: str) -> None:
    await arrive(visitor)
    sent = await visitor.api.post(ADDRESS, data={"email": email})
    check_page(sent, 422, "Enter one e-mail address", is_error=True)


async def test_without_a_ticket_the_page_leads_away(visitor: Visitor) -> None:
    form = {"email": "ada@example.com", "next": "/x"}
    sent = await visitor.api.post(ADDRESS, data=form)
    assert sent.headers["location"] == "../sign-in?done=expired&next=%2Fx"
    visitor.api.cookies.set("authapi-address-ticket", "junk")
    sent = await visitor.api.post(ADDRESS, data=form)
    assert sent.headers["location"] == "../sign-in?done=expired&next=%2Fx"
    assert "authapi-address-ticket=;" in sent.headers["set-cookie"]


async def test_a_token_is_exchanged_after_it(visitor: Visitor) -> None:
    await arrive(visitor, strategy="token")
    sent = await visitor.api.post(ADDRESS, data={"email": "ada@example.com"})
    where, _, code = sent.headers["location"].partition("#code=")
    assert where == "/home"
    answer = await visitor.api.post("/login/with/exchange", json={"code": code})
    assert answer.json()["user"]["email"] == "ada@example.com"


async def test_the_mail_and_this_browser_together_sign_in(confirming: Visitor) -> None:
    visitor = confirming
    await arrive(visitor)
    shown = await visitor.api.get(ADDRESS)
    check_page(shown, 200, "We send a link there. Open it in this browser.")
    sent = await visitor.api.post(ADDRESS, data={"email": "ada@example.com", "next": "/home"})
    assert sent.headers["location"] == "../check-mail?next=%2Fhome"
    link = await mailed_link(visitor)
    assert (await visitor.api.get("/me")).status_code == 401
    page = await visitor.api.get(f"/account/confirm?token={link}")
    assert "Confirm and sign in" in page.text
    done = await visitor.api.post(
        "/account/confirm", data={"token": link, "action": "with_provider"}
    )
    assert done.headers["location"].endswith("sign-in?done=up&next=%2Fhome"), done.text
    me = (await visitor.api.get("/me")).json()
    assert me["email"] == "ada@example.com"
    assert me["email_confirmed_at"] is not None
    await visitor.api.post("/logout")
    assert (await visitor.log_in(NO_ADDRESS)).headers["location"].endswith("done=in")


async def test_the_mail_alone_does_not_sign_in(confirming: Visitor) -> None:
    visitor = confirming
    await arrive(visitor)
    await visitor.api.post(ADDRESS, data={"email": "ada@example.com"})
    link = await mailed_link(visitor)
    visitor.api.cookies.clear()  # the owner of the mailbox, who did not ask for it
    page = await visitor.api.get(f"/account/confirm?token={link}")
    assert "Confirm and sign in" not in page.text
    done = await visitor.api.post(
        "/account/confirm", data={"token": link, "action": "with_provider"}
    )
    assert done.status_code == 422
    assert (await visitor.api.get("/me")).status_code == 401


async def test_the_answer_is_the_same_for_an_address_with_an_account(confirming: Visitor) -> None:
    visitor = confirming
    await visitor.api.create_user("known@example.com", password=PASSWORD)
    answers = []
    for email in ("known@example.com", "unknown@example.com"):
        await arrive(visitor)
        sent = await visitor.api.post(ADDRESS, data={"email": email, "next": "/home"})
        answers.append((sent.status_code, sent.headers["location"], sent.text))
    assert answers[0] == answers[1]


async def test_row_24_another_person_does_not_go_on_with_the_login(visitor: Visitor) -> None:
    """A login that waits for an address ends with the next login, and with a sign-out."""
    bob = {"email": "bob@example.com", "password": PASSWORD}
    await visitor.api.create_user(bob["email"], password=PASSWORD)
    await arrive(visitor)
    assert (await visitor.api.post("/login", json=bob)).status_code == 200
    assert not [name for name in visitor.api.cookies if "address-ticket" in name]
    form = {"next": "/home"}
    for path, is_logged_in in (
        ("/logout", True),
        ("/account/sign-out", True),
        ("/account/sign-out", False),
    ):
        if is_logged_in:
            await visitor.api.post("/login", json=bob)
        await visitor.log_in(NO_ADDRESS)
        assert [name for name in visitor.api.cookies if "address-ticket" in name]
        left = await visitor.api.post(path, data=form if path != "/logout" else None)
        assert left.status_code in {204, 303}, left.text
        assert not [name for name in visitor.api.cookies if "address-ticket" in name], path
        again = await visitor.api.post(ADDRESS, data={"email": "eva@example.com"})
        assert again.headers["location"] == "../sign-in?done=expired"


async def mailed_link(visitor: Visitor) -> str:
    """Returns the token of the newest link to confirm an address."""
    await visitor.api.services.outbox.drain()
    for message in reversed(await visitor.api.outbox()):
        body = message.get_body(("plain",))
        text = "" if body is None else body.get_content()
        if found := re.search(r"/account/confirm\?token=([^\s&]+)", text):
            return found[1]
    raise AssertionError("no mail")
