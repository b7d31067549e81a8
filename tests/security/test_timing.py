"""Logins that fail look the same, also on a clock (OWASP ASVS 6.3.8). A measurement.

Wrong passwords of a known account are interleaved with each other way to fail, so that whatever
else the machine does falls upon both alike.
"""

import random
import statistics
import time

import httpx
import pytest

from authapi import create_app
from authapi.services.addresses import parse_email
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory

pytestmark = pytest.mark.slow

PAIRS = 300
WRONG = "a wrong horse, a wrong battery"
UNLIMITED = "100000/second"
LIMITS = ("limit_account_and_network", "limit_account", "limit_network", "limit_total")


async def attempt(api: Client, email: str, password: str) -> tuple[float, httpx.Response]:
    body = {"email": email, "password": password}
    began = time.perf_counter()
    response = await api.post("/login", json=body)
    return time.perf_counter() - began, response


def shape(response: httpx.Response) -> object:
    """All of an answer that may tell something: everything but its id."""
    body = response.json()
    assert body.pop("request_id") == response.headers["x-request-id"]
    headers = [item for item in response.headers.multi_items() if item[0] != "x-request-id"]
    return response.status_code, headers, body


async def test_failed_logins_cannot_be_told_apart(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(**dict.fromkeys(LIMITS, UNLIMITED))
    async with client(create_app(settings)) as api:
        known = await api.create_user("known@example.com")
        gone = await api.create_user("deactivated@example.com")
        await api.services.accounts.set_active(gone.id, False)
        await api.services.accounts.create(parse_email("bare@example.com"), None)
        kinds = {
            "unknown": ("nobody@example.com", WRONG),
            "deactivated": (gone.email, WRONG),
            "deactivated, right password": (gone.email, PASSWORD),
            "without password": ("bare@example.com", WRONG),
        }
        dice = random.Random(1)  # an order, not a secret
        figures, shapes = [], list[object]()
        for kind, (email, password) in kinds.items():
            times: dict[str, list[float]] = {"known": [], kind: []}
            for _ in range(PAIRS):
                pair = [("known", known.email, WRONG), (kind, email, password)]
                dice.shuffle(pair)
                for name, address, secret in pair:
                    took, response = await attempt(api, address, secret)
                    assert response.status_code == 401
                    times[name].append(took)
                    if shape(response) not in shapes:
                        shapes.append(shape(response))
            here, there = (statistics.median(times[name]) for name in ("known", kind))
            figures.append((kind, here, there, (there - here) / here))
    with capsys.disabled():
        told = "; ".join(
            f"{kind} {there * 1000:.2f} ms against {here * 1000:.2f} ms ({difference:+.2%})"
            for kind, here, there, difference in figures
        )
        print(f"\nmedians of {PAIRS} pairs against a known account: {told}")  # noqa: T201
    assert len(shapes) == 1
    # Without the decoy the difference would be nine tenths of the time.
    assert [kind for kind, _, _, difference in figures if abs(difference) > 0.25] == []


async def test_an_over_long_password_is_refused_alike(
    make_settings: SettingsFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    async with client(create_app(make_settings())) as api:
        known = await api.create_user("known@example.com")
        times: dict[str, list[float]] = {known.email: [], "nobody@example.com": []}
        shapes = list[object]()
        for _ in range(PAIRS):
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
    assert max(here, there) < 0.02  # nothing was hashed
