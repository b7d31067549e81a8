"""A proof on a page counts as a write, as `POST /me/reauthenticate` does."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from authapi import create_app
from authapi.domain.events import EventFilter, EventType
from authapi.testing import PASSWORD, client
from tests.clocks import travel_to
from tests.conftest import SettingsFactory
from tests.web.pages.checks import check_page
from tests.web.routes.pages.people import ALICE, sign_in_by_page

NOON = datetime(2031, 5, 6, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/account/security/app", {}),
        ("/account/tokens/new", {"name": "x", "expires": "7"}),
        ("/account", {"action": "email", "email": "new@example.com"}),
    ],
)
async def test_a_proof_over_the_limit_of_writes_changes_nothing(
    make_settings: SettingsFactory, path: str, fields: Mapping[str, str]
) -> None:
    async with client(create_app(make_settings(limit_writes="4/minute"))) as api:
        with travel_to(NOON):
            alice = await api.create_user(ALICE)
            await sign_in_by_page(api)
            forms = [{"password": PASSWORD, **fields, "form": str(number)} for number in range(8)]
            answers = [await api.post(path, data=form) for form in forms]
            check_page(answers[-1], 429, "Too many attempts. Try again in 1 minute.", is_error=True)
            proofs = EventFilter(user_id=alice.id, types=frozenset({EventType.REAUTHENTICATED}))
            assert len(await api.services.audit.search(proofs, limit=100)) <= 4


async def test_an_old_login_over_the_limit_of_writes_stays_old(
    make_settings: SettingsFactory,
) -> None:
    settings = make_settings(limit_writes="4/hour", fresh_max_age=600)
    async with client(create_app(settings)) as api:
        proofs = EventFilter(types=frozenset({EventType.REAUTHENTICATED}))
        with travel_to(NOON):
            await api.create_user(ALICE)
            await sign_in_by_page(api)
            form = {"password": PASSWORD}
            answers = [await api.post("/account/security/app", data=form) for _ in range(5)]
            assert answers[-1].status_code == 429
            before = len(await api.services.audit.search(proofs, limit=100))
        with travel_to(NOON + timedelta(minutes=20)):
            answer = await api.post("/account/prove", data=form)
            check_page(answer, 429, "Too many attempts. Try again in 40 minutes.", is_error=True)
            assert "authapi" not in answer.headers.get("set-cookie", "")
            assert len(await api.services.audit.search(proofs, limit=100)) == before
            assert (await api.get("/account/prove")).status_code == 200  # still asks
