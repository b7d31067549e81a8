"""/account/activity shows the events of the account as sentences."""

import re
from datetime import timedelta

import pytest

from authapi.clock import now
from authapi.domain.client import Client as Peer
from authapi.domain.events import REFUSALS, EventType
from authapi.domain.user import User
from authapi.testing import Client
from tests.web.logins import sign_in
from tests.web.pages.checks import check_page, main_of
from tests.web.routes.pages.account.history import QUESTION, add, items

ACTIVITY = "/account/activity"


@pytest.fixture
async def api(api_on_each: Client) -> Client:
    return api_on_each


@pytest.fixture
async def alice(api: Client) -> User:
    user = await api.create_user("alice@example.com")
    api.headers.update(await sign_in(api.services, user))
    return user


async def test_events_are_sentences(api: Client, alice: User) -> None:
    bob = await api.create_user("bob@example.com")
    at = now()
    await add(api, alice.id, EventType.PASSWORD_CHANGED, at - timedelta(days=2))
    await add(api, alice.id, EventType.LOGIN_REFUSED, at - timedelta(days=1))
    await add(api, alice.id, EventType.LOGIN_REFUSED, at - timedelta(days=31))
    await add(api, alice.id, EventType.ACCOUNT_DEACTIVATED, at - timedelta(days=40), actor=bob.id)
    await add(api, bob.id, EventType.EMAIL_CHANGED, at)
    shown = await api.get(ACTIVITY)
    check_page(shown, 200, "Activity")
    refused = "A sign-in was refused, most likely for a wrong password Refused"
    device = "Chrome on Windows, 203.0.113.7 ·"
    assert items(shown) == [
        "Signed in to your account 127.0.0.1 ·",
        "Account created",
        f"{refused} {device} {QUESTION}",
        f"Password changed {device}",
        f"{refused} {device}",
        "Account deactivated By an administrator ·",
    ]
    assert f'<time datetime="{at - timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"' in shown.text
    assert 'href="security/password">Was' in shown.text
    korean = await api.get(f"{ACTIVITY}?lang=ko")
    assert items(korean)[3] == "비밀번호가 변경되었습니다 Windows의 Chrome, 203.0.113.7 ·"


@pytest.mark.parametrize(
    ("show", "kinds"),
    [
        ("sign-ins", {EventType.LOGIN, EventType.LOGOUT}),
        ("changes", {EventType.ACCOUNT_REGISTERED, EventType.PASSWORD_CHANGED}),
        ("refused", {EventType.THROTTLED}),
        ("other", None),
        ("", None),
    ],
)
async def test_events_are_filtered(
    api: Client, alice: User, show: str, kinds: set[EventType] | None
) -> None:
    for kind in (EventType.LOGOUT, EventType.PASSWORD_CHANGED, EventType.THROTTLED):
        await add(api, alice.id, kind, now())
    shown = await api.get(ACTIVITY, params={"show": show})
    assert len(items(shown)) == (5 if kinds is None else len(kinds))
    [current] = re.findall(r'<a href="([^"]*)" aria-current="true">', shown.text)
    assert current == ("activity" if kinds is None else f"activity?show={show}")
    # The form that changes the language keeps the filter.
    assert f'name="show" value="{show}"' in shown.text or show == ""


async def test_an_empty_filter_leads_on(api: Client, alice: User) -> None:
    shown = await api.get(f"{ACTIVITY}?show=refused")
    check_page(shown, 200, "There is nothing here.")
    assert '<a href="activity">Show all activity</a>' in shown.text


async def test_older_events_are_on_further_pages(api: Client, alice: User) -> None:
    at = now()
    for number in range(110):
        kind = EventType.LOGOUT if number % 11 else EventType.THROTTLED
        await add(api, alice.id, kind, at - timedelta(minutes=number))
    address, sizes, whole = ACTIVITY, [], list[str]()
    while True:
        shown = await api.get(address)
        whole += re.findall(r'datetime="([^"]+)"', main_of(shown))
        sizes.append(len(items(shown)))
        older = re.search(r'href="(activity\?before=[^"]+)">Older', shown.text)
        assert ('href="activity">Newest' in shown.text) is (len(sizes) > 1)
        if older is None:
            break
        address = f"/account/{older[1]}"
    assert sizes == [50, 50, 12]
    assert whole == sorted(whole, reverse=True)
    refused = await api.get(f"{ACTIVITY}?show=refused")
    assert len(items(refused)) == 10
    assert "Older" not in refused.text
    exact = await api.get(f"{ACTIVITY}?show=sign-ins")
    before = re.search(r"before=([^\"]+)\">Older", exact.text)
    assert before is not None
    last = await api.get(f"{ACTIVITY}?show=sign-ins&before={before[1]}")
    assert len(items(last)) == 50
    assert "show=sign-ins&amp;before=" in last.text


@pytest.mark.parametrize("before", ["", "x", "0" * 32, "f" * 32, "'--", "9" * 5000])
async def test_another_place_shows_a_page(api: Client, alice: User, before: str) -> None:
    shown = await api.get(ACTIVITY, params={"before": before})
    assert shown.status_code == 200


async def test_names_of_others_are_text(api: Client, alice: User) -> None:
    evil = "<img src=x>"
    peer = Peer("203.0.113.7", f"{evil} Mozilla/5.0")
    detail = {"name": evil}
    await add(api, alice.id, EventType.TOKEN_CREATED, now(), peer=peer, detail=detail)
    shown = await api.get(ACTIVITY)
    check_page(shown, 200, f"Access token made: {evil}")
    assert "<img" not in shown.text
    assert "Unknown device" in shown.text


async def test_the_page_is_light(api: Client, alice: User) -> None:
    for number in range(60):
        kind = sorted(REFUSALS)[number % len(REFUSALS)]
        await add(api, alice.id, kind, now() - timedelta(seconds=number))
    shown = await api.get(ACTIVITY)
    assert len(items(shown)) == 50
    # 12 KiB are for 20 rows.
    item = max(map(len, re.findall(r"<li>.*?</li>", shown.text, re.DOTALL)))
    assert len(shown.text.encode()) - 30 * item <= 12 * 1024


async def test_a_person_who_is_signed_out_signs_in(api: Client) -> None:
    shown = await api.get(f"{ACTIVITY}?show=refused")
    assert shown.status_code == 303
    assert shown.headers["location"] == "sign-in?next=%2Faccount%2Factivity"
