"""/admin/stats over HTTP. `test_users` tests who may read it."""

import httpx

from authapi import create_app
from authapi.testing import PASSWORD, client
from tests.conftest import SettingsFactory
from tests.web.logins import sign_in


async def test_a_superuser_reads_the_numbers(make_settings: SettingsFactory) -> None:
    async with client(create_app(make_settings())) as api:
        root = await api.create_user("root@example.com", is_superuser=True)
        headers = await sign_in(api.services, root)
        refused = {"email": "root@example.com", "password": PASSWORD[::-1]}
        assert (await api.post("/login", json=refused)).status_code == 401
        await api.post("/password/forgot", json={"email": "root@example.com"})
        found: httpx.Response = await api.get("/admin/stats", headers=headers)
        assert found.headers["cache-control"] == "no-store"
        body = found.json()
    assert body["accounts"] == {
        "total": 1,
        "active": 1,
        "deactivated": 0,
        "confirmed": 0,
        "superusers": 1,
        "mfa": 0,
    }
    assert body["sessions"] == {"session": 1, "token": 0, "jwt": 0}
    assert body["events"]["last_day"]["refused_sign_ins"] == 1
    hours = body["events"]["by_hour"]
    assert [hour["since"] for hour in hours] == sorted(hour["since"] for hour in hours)
    assert (len(hours), hours[-1]["refused_sign_ins"]) == (24, 1)
    assert body["outbox"].keys() == {"waiting", "given_up", "oldest_at", "queues"}
    assert body["keys"]["active"] == body["keys"]["next"] == 1
    assert body["keys"]["next_rotation_at"].endswith("Z")
