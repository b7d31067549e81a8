"""Accounts that link providers, while something else happens to the session or the account."""

from collections.abc import Callable
from functools import partial

import pyotp
import pytest

from tests.journeys.providers.service import (
    PASSWORD,
    Place,
    Visitor,
    at_once,
    new_name,
    outcome_of,
)

pytestmark = pytest.mark.slow

DONE = "/linked"
LINKED = "to /linked"


def subjects(visitor: Visitor) -> list[str]:
    return sorted(it["subject"] for it in visitor.identities())


def owner(visitor: Visitor) -> str:
    """Registers a new account in this browser; returns its address."""
    email = f"{new_name()}@example.org"
    visitor.register(email)
    return email


def test_a_callback_of_another_browser_links_nothing(place: Place, visitor: Visitor) -> None:
    owner(visitor)
    mine = new_name()
    callback = visitor.at_provider(visitor.begin_link(to=DONE), mine)
    for is_logged_in in (False, True):
        with Visitor(place.service.url) as thief:
            if is_logged_in:
                owner(thief)
                thief.begin_link()  # has a flow of its own
            assert outcome_of(thief.come_back(callback)) == "login-flow-invalid"
            if is_logged_in:
                assert subjects(thief) == []
    assert outcome_of(visitor.come_back(callback)) == LINKED
    assert subjects(visitor) == [mine]


def log_out(visitor: Visitor, email: str) -> None:
    assert visitor.post("/logout").status_code == 204


def log_in_again(visitor: Visitor, email: str) -> None:
    visitor.log_in(email)


def log_in_to_another(visitor: Visitor, email: str) -> None:
    owner(visitor)


def log_in_to_another_at_a_provider(visitor: Visitor, email: str) -> None:
    assert outcome_of(visitor.log_in_at(new_name(), to=DONE)) == LINKED


def change_the_password_elsewhere(visitor: Visitor, email: str) -> None:
    with Visitor(str(visitor.base_url)) as other:
        other.log_in(email)
        body = {"current_password": PASSWORD, "new_password": f"{PASSWORD}!"}
        assert other.post("/me/password", json=body).status_code == 204


def end_all_sessions_elsewhere(visitor: Visitor, email: str) -> None:
    with Visitor(str(visitor.base_url)) as other:
        other.log_in(email)
        assert other.delete("/me/sessions").status_code == 204


def delete_the_account(visitor: Visitor, email: str) -> None:
    answer = visitor.request("DELETE", "/me", json={"password": PASSWORD})
    assert answer.status_code == 204, answer.text


@pytest.mark.parametrize(
    "meanwhile",
    [
        log_out,
        log_in_again,
        log_in_to_another,
        log_in_to_another_at_a_provider,
        change_the_password_elsewhere,
        end_all_sessions_elsewhere,
        delete_the_account,
    ],
)
def test_a_link_is_for_the_session_that_began_it(
    place: Place, visitor: Visitor, meanwhile: Callable[[Visitor, str], None]
) -> None:
    email, person = owner(visitor), new_name()
    callback = visitor.at_provider(visitor.begin_link("other", to=DONE), person)
    meanwhile(visitor, email)
    before = visitor.me()
    assert outcome_of(visitor.come_back(callback)) == "session-changed"
    assert visitor.me() == before
    # No account has the person: they are new at the provider, and their address is free.
    with Visitor(place.service.url) as someone:
        assert outcome_of(someone.log_in_at(person, "other", to=DONE)) == LINKED
        assert someone.me() == f"{person}@example.com"


def add_an_app(visitor: Visitor) -> pyotp.TOTP:
    """Adds an authenticator app to the account of this browser, whose address is confirmed."""
    begun = visitor.post("/me/factors/totp")
    assert begun.status_code in {200, 201}, begun.text
    app = pyotp.TOTP(begun.json()["secret"])
    confirmed = visitor.post("/me/factors/totp/confirm", json={"code": app.now()})
    assert confirmed.status_code in {200, 201}, confirmed.text
    return app


def test_a_second_factor_that_is_added_meanwhile(place: Place, visitor: Visitor) -> None:
    """Links that began before have no effect; those of other sessions have ended with them."""
    name, person = new_name(), new_name()
    visitor.log_in_at(name)
    with Visitor(place.service.url) as second:
        second.log_in_at(name)
        callback = visitor.at_provider(visitor.begin_link("other", to=DONE), person)
        other = second.at_provider(second.begin_link("other", to=DONE), new_name())
        add_an_app(visitor)
        assert outcome_of(second.come_back(other)) == "session-changed"
        assert outcome_of(visitor.come_back(callback)) == "session-changed"
        assert subjects(visitor) == [name]
        callback = visitor.at_provider(visitor.begin_link("other", to=DONE), person)
        assert outcome_of(visitor.come_back(callback)) == LINKED
        assert subjects(visitor) == [name, person]
        # A login at either provider is asked for the factor.
        for provider, who in (("acme", name), ("other", person)):
            assert outcome_of(second.log_in_at(who, provider)).endswith("sign-in/second")
            assert second.me() is None


def test_an_identity_that_is_linked_elsewhere_meanwhile(place: Place, visitor: Visitor) -> None:
    owner(visitor)
    person = new_name()
    callback = visitor.at_provider(visitor.begin_link("other", to=DONE), person)
    with Visitor(place.service.url) as stranger:
        stranger.log_in_at(person, "other")
        assert outcome_of(visitor.come_back(callback)) == "identity-taken"
        assert (subjects(visitor), subjects(stranger)) == ([], [person])


def test_one_identity_that_is_linked_twice(visitor: Visitor) -> None:
    owner(visitor)
    person = new_name()
    for _ in range(2):
        # A link that began before the first one would have no effect after it.
        callback = visitor.at_provider(visitor.begin_link(to=DONE), person)
        assert outcome_of(visitor.come_back(callback)) == LINKED
    assert subjects(visitor) == [person]
    callback = visitor.at_provider(visitor.begin_link(to=DONE), person)
    assert outcome_of(visitor.come_back(callback)) == LINKED
    assert outcome_of(visitor.come_back(callback)) == LINKED  # loaded again
    visitor.post("/logout")
    assert outcome_of(visitor.come_back(callback)) == "login-flow-invalid"


def test_a_tab_that_links_and_a_tab_that_logs_in(visitor: Visitor) -> None:
    email, mine, stranger = owner(visitor), new_name(), new_name()
    link = visitor.at_provider(visitor.begin_link("other", to=DONE), mine)
    login = visitor.at_provider(visitor.begin(), stranger)
    assert outcome_of(visitor.come_back(login)) == "in"
    assert outcome_of(visitor.come_back(link)) == "session-changed"
    assert subjects(visitor) == [stranger]
    visitor.log_in(email)
    link = visitor.at_provider(visitor.begin_link("other", to=DONE), mine)
    login = visitor.at_provider(visitor.begin(), stranger)
    assert outcome_of(visitor.come_back(link)) == LINKED
    assert subjects(visitor) == [mine]
    assert outcome_of(visitor.come_back(login)) == "in"
    assert subjects(visitor) == [stranger]


def test_a_caller_with_a_token(place: Place, visitor: Visitor) -> None:
    email, person = owner(visitor), new_name()
    visitor.cookies.clear()
    token = visitor.log_in(email, strategy="token")["access_token"]
    refused = visitor.post(
        "/me/identities/acme", json={}, headers={"authorization": f"Bearer {token}"}
    )
    assert refused.status_code == 401
    jwt = {"authorization": f"Bearer {visitor.log_in(email, strategy='jwt')['access_token']}"}
    callback = visitor.at_provider(visitor.begin_link(headers=jwt, to=DONE), person)
    with Visitor(place.service.url) as thief:
        assert outcome_of(thief.come_back(callback)) == "login-flow-invalid"
    assert outcome_of(visitor.come_back(callback)) == LINKED
    assert visitor.me() is None  # a link is no login
    listed = visitor.get("/me/identities", headers=jwt)
    assert [it["subject"] for it in listed.json()] == [person]
    # A flow of a token that is ended meanwhile.
    callback = visitor.at_provider(visitor.begin_link(headers=jwt, to=DONE), new_name())
    assert visitor.post("/logout", headers=jwt).status_code == 204
    assert outcome_of(visitor.come_back(callback)) == "session-changed"


def two_ways_in(place: Place, visitor: Visitor) -> tuple[dict[str, str], Visitor]:
    """Creates an account with two identities and no password.

    Returns the ids of both by provider, and a second browser, which has logged in with the other.
    """
    first, second = new_name(), new_name()
    visitor.log_in_at(first)
    callback = visitor.at_provider(visitor.begin_link("other", to=DONE), second)
    assert outcome_of(visitor.come_back(callback)) == LINKED
    browser = place.service.visitor()
    browser.log_in_at(second, "other")
    return {it["provider"]: it["id"] for it in visitor.identities()}, browser


def test_two_sessions_unlink_both_ways_in_at_once(place: Place, visitor: Visitor) -> None:
    ids, second = two_ways_in(place, visitor)
    ends = at_once(
        *[lambda: visitor.delete(f"/me/identities/{ids['other']}")] * 25,
        *[lambda: second.delete(f"/me/identities/{ids['acme']}")] * 25,
    )
    assert ends["204"] == 1, ends
    assert ends.keys() <= {"204", "not_found", "last_way_in", "unauthenticated"}
    # The session that has unlinked the other way in stays, and the other one has ended.
    assert sorted(it.me() is None for it in (visitor, second)) == [False, True]
    left = visitor if visitor.me() else second
    assert len(left.identities()) == 1


def test_an_identity_that_is_unlinked_while_people_log_in_with_it(
    place: Place, visitor: Visitor
) -> None:
    email, person = owner(visitor), new_name()
    assert outcome_of(visitor.come_back(visitor.at_provider(visitor.begin_link(), person))) == "in"
    [linked] = visitor.identities()
    browsers = [place.service.visitor() for _ in range(49)]
    callbacks = [(it, it.at_provider(it.begin(), person)) for it in browsers]
    place.acme.about[person] = {"email": email}  # that of the account: no new one is created
    ends = at_once(
        *(partial(it.come_back, callback) for it, callback in callbacks),
        lambda: visitor.delete(f"/me/identities/{linked['id']}"),
    )
    assert ends.keys() <= {"204", "in", "link-required", "provider-failed", "invalid-credentials"}
    assert ends["204"] == 1, ends
    assert visitor.me() == email
    assert visitor.identities() == []
    assert [it.me() for it in browsers] == [None] * 49


def test_an_account_that_is_deleted_while_people_log_in_to_it(
    place: Place, visitor: Visitor
) -> None:
    person = new_name()
    visitor.log_in_at(person)
    browsers = [place.service.visitor() for _ in range(49)]
    callbacks = [(it, it.at_provider(it.begin(), person)) for it in browsers]
    before = visitor.get("/me").json()["id"]
    ends = at_once(
        *(partial(it.come_back, callback) for it, callback in callbacks),
        lambda: visitor.request("DELETE", "/me", json={}),
    )
    assert ends["204"] == 1, ends
    assert ends.keys() <= {"204", "in", "link-required", "provider-failed"}
    accounts = {it.get("/me").json().get("id") for it in browsers} - {None}
    assert before not in accounts
    assert len(accounts) <= 1  # a callback that came later has made a new account
    last = place.service.visitor()
    assert outcome_of(last.log_in_at(person)) == "in"
    assert accounts <= {last.get("/me").json()["id"]}
