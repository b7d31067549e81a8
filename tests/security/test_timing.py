"""Measures that failed logins take the same time and get the same response (OWASP ASVS 6.3.8).

Wrong passwords of a known account are interleaved with all other kinds of failures, so that other
load of the machine affects both in the same way.
"""

import random
import statistics
import time

import httpx
import pytest

from authapi import Settings, create_app
from authapi.clock import now
from authapi.domain.email_address import parse_email
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.second_factors import add_second_factors

pytestmark = [pytest.mark.slow, pytest.mark.real_hashes]

ROUNDS = 300
WRONG = "a wrong horse, a wrong battery"
UNLIMITED = "100000/second"
LIMITS = ("limit_account_and_network", "limit_account", "limit_network", "limit_total")


async def attempt(api: Client, email: str, password: str) -> tuple[float, httpx.Response]:
    body = {"email": email, "password": password}
    began = time.perf_counter()
    response = await api.post("/login", json=body)
    return time.perf_counter() - began, response


def shape(response: httpx.Response) -> object:
    """The parts of a response to compare: all but the request id."""
    body = response.json()
    assert body.pop("request_id") == response.headers["x-request-id"]
    headers = [item for item in response.headers.multi_items() if item[0] != "x-request-id"]
    return response.status_code, headers, body


async def test_failed_logins_are_indistinguishable(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(**dict.fromkeys(LIMITS, UNLIMITED))
    async with client(create_app(settings)) as api:
        known = await api.create_user("known@example.com")
        gone = await api.create_user("deactivated@example.com")
        await api.services.accounts.administration.change(gone.id, {"is_active": False})
        await api.services.accounts.registration.create(parse_email("bare@example.com"), None)
        factors = await add_second_factors(
            api.services, await api.create_user("factors@example.com")
        )
        kinds = {
            "known": (known.email, WRONG),
            "unknown": ("unknown@example.com", WRONG),
            "with a second factor": (factors.user.email, WRONG),
            "deactivated": (gone.email, WRONG),
            "deactivated, right password": (gone.email, PASSWORD),
            "without password": ("bare@example.com", WRONG),
        }
        dice = random.Random(1)
        shapes = list[object]()
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind in dice.sample(list(kinds), len(kinds)):
                took, response = await attempt(api, *kinds[kind])
                assert response.status_code == 401
                times[kind].append(took)
                if shape(response) not in shapes:
                    shapes.append(shape(response))
    known_time, *others = (statistics.median(taken) for taken in times.values())
    figures = [
        (kind, took, took / known_time - 1) for kind, took in zip([*kinds][1:], others, strict=True)
    ]
    with capsys.disabled():
        told = "; ".join(f"{kind} {took * 1000:.2f} ms ({off:+.2%})" for kind, took, off in figures)
        print(f"\nmedians of {ROUNDS}: known {known_time * 1000:.2f} ms; {told}")  # noqa: T201
    assert len(shapes) == 1
    # Without the decoy hash, the difference would be 90 % of the time.
    assert [kind for kind, _, off in figures if abs(off) > 0.25] == []


async def test_over_long_password_is_rejected_without_hashing(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    async with client(create_app(make_settings())) as api:
        known = await api.create_user("known@example.com")
        times: dict[str, list[float]] = {known.email: [], "unknown@example.com": []}
        shapes = list[object]()
        for _ in range(ROUNDS):
            for email, taken in times.items():
                took, response = await attempt(api, email, "x" * 1025)
                assert response.status_code == 422
                taken.append(took)
                if shape(response) not in shapes:
                    shapes.append(shape(response))
    here, there = (statistics.median(taken) for taken in times.values())
    with capsys.disabled():
        print(f"\nover-long: known {here * 1000:.2f} ms, unknown {there * 1000:.2f} ms")  # noqa: T201
    assert len(shapes) == 1
    assert max(here, there) < 0.02  # no hash was computed


async def test_throttled_logins_are_indistinguishable(
    make_settings: SettingsFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """429 for an address with an account and one without, where each attempt records an event."""
    settings = make_settings(limit_account_and_network="1/hour")
    async with client(create_app(settings)) as api:
        known = await api.create_user("known@example.com")
        times: dict[str, list[float]] = {known.email: [], "unknown@example.com": []}
        for email in times:
            assert (await attempt(api, email, WRONG))[1].status_code == 401
        # With one event a minute, only attempts without an event would be measured.
        monkeypatch.setattr("authapi.services.audit.trail._once", lambda _, tell, *__: tell())
        dice = random.Random(2)
        shapes = list[object]()
        for number in range(ROUNDS + 1):
            waits = list[int]()
            for email in dice.sample(list(times), 2):
                took, response = await attempt(api, email, WRONG)
                assert response.status_code == 429
                if number:  # the first one fills caches, such as that of statements
                    times[email].append(took)
                waits.append(int(response.headers.pop("retry-after")))
                if shape(response) not in shapes:
                    shapes.append(shape(response))
            # Retry-After counts down from the first attempts, which differ by a moment.
            assert max(waits) - min(waits) <= 2
    here, there = (statistics.median(taken) for taken in times.values())
    with capsys.disabled():
        told = (
            f"known {here * 1000:.2f} ms, unknown {there * 1000:.2f} ms ({there / here - 1:+.2%})"
        )
        print(f"\nthrottled, medians of {ROUNDS}: {told}")  # noqa: T201
    assert len(shapes) == 1
    assert abs(there / here - 1) < 0.25


KINDS = {
    "/password/forgot": {},
    "/email/confirm/request": {},
    "/register": {"password": "a new horse, a new battery"},
}


@pytest.mark.parametrize("path", KINDS)
async def test_requests_about_an_address_are_indistinguishable(
    database_url: str, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """202 for an address with an account and one without, with identical responses."""
    limits = dict.fromkeys((*LIMITS, "limit_registrations", "limit_mails"), UNLIMITED)
    settings = Settings(database_url=database_url, registration="confirm", **limits)  # type: ignore[arg-type]
    rounds = 40 if path == "/register" else 120
    async with client(create_app(settings)) as api:
        confirmed, bare = [await api.create_user(f"{name}@example.com") for name in ("one", "two")]
        async with api.services.database.transaction() as store:
            await store.users.confirm_email(confirmed.id, at=now())
        emails = {"known": confirmed.email, "unconfirmed": bare.email, "unknown": "no@example.com"}
        times: dict[str, list[float]] = {kind: [] for kind in emails}
        shapes = list[object]()
        dice = random.Random(3)
        # In random order: the work after a request (a mail, or none) affects the next request, so
        # each kind follows each other kind equally often.
        order = list(emails) * rounds
        dice.shuffle(order)
        for number, kind in enumerate([*emails, *order]):
            if kind == "unknown":  # a registration request creates the account
                emails[kind] = f"no{number}@example.com"
            began = time.perf_counter()
            answer = await api.post(path, json={"email": emails[kind], **KINDS[path]})
            took = time.perf_counter() - began
            # Wait for the deferred work, so that it does not affect the next measurement.
            await api.services.outbox.drain()
            assert answer.status_code == 202
            if number >= len(
                emails
            ):  # the first of each kind fill caches, such as that of statements
                times[kind].append(took)
            told = [item for item in answer.headers.multi_items() if item[0] != "x-request-id"]
            if (told, answer.content) not in shapes:
                shapes.append((told, answer.content))
    known, *others = (statistics.median(taken) for taken in times.values())
    figures = [(kind, it / known - 1) for kind, it in zip([*times][1:], others, strict=True)]
    with capsys.disabled():
        told_of = "; ".join(f"{kind} {off:+.2%}" for kind, off in figures)
        print(f"\n{path}, medians of {rounds}: known {known * 1000:.2f} ms; {told_of}")  # noqa: T201
    assert len(shapes) == 1
    assert [kind for kind, off in figures if abs(off) > 0.25] == []
