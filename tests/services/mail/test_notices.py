"""Notices to the owner, queued in the transaction of the change (OWASP ASVS 6.3.7)."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.testing import PASSWORD, Client
from tests.storage.rows import sql
from tests.web.logins import sign_in

NEW = "another horse battery staple"


async def subjects(api: Client) -> list[str]:
    return [f"{message['To']}: {message['Subject']}" for message in await api.outbox()]


async def test_changed_password_is_notified(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    await api.login(alice)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await api.post("/me/password", json=body)).status_code == 204
    assert await subjects(api) == ["alice@example.com: Your password was changed"]
    (message,) = await api.outbox()
    text = message.get_body(("plain",))
    assert text is not None
    assert "from 127.0.0.1" in text.get_content()
    assert NEW not in message.as_string()
    await api.services.accounts.passwords.set(alice.id, PASSWORD)
    assert await subjects(api) == ["alice@example.com: Your password was changed"] * 2


async def test_rejected_password_change_sends_no_notice(api_on_each: Client) -> None:
    api = api_on_each
    await api.login(await api.create_user())
    body = {"current_password": "wrong horse battery", "new_password": NEW}
    assert (await api.post("/me/password", json=body)).status_code == 403
    assert await api.outbox() == []


async def test_new_personal_access_token_is_notified(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    headers = await sign_in(api.services, alice)
    answer = await api.post("/me/tokens", json={"name": "nightly backup"}, headers=headers)
    assert answer.status_code == 201
    assert await subjects(api) == [
        "alice@example.com: An access token was created for your account"
    ]
    (message,) = await api.outbox()
    assert answer.json()["access_token"] not in message.as_string()


async def test_rejected_token_creation_sends_no_notice(api_on_each: Client) -> None:
    api = api_on_each
    headers = await sign_in(api.services, await api.create_user())
    body = {"name": "x", "scopes": ["nowhere"]}
    assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 422
    assert await api.outbox() == []


async def test_reused_refresh_token_is_notified(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    first = (await api.login(alice, strategy="jwt")).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first}
    assert (await api.post("/token", data=form)).status_code == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5), tick=True):
        assert (await api.post("/token", data=form)).status_code == 400
        assert await subjects(api) == ["alice@example.com: A login to your account was ended"]


async def test_account_with_a_foreign_address_cannot_flood_its_owner(api: Client) -> None:
    mallory = await api.create_user("victim@example.com")
    headers = await sign_in(api.services, mallory)
    for number in range(8):
        body = {"name": f"{number}"}
        assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 201
    assert len(await api.outbox()) == 5, "the limit of limit_mails"
    url = api.services.settings.resolved_database_url
    sql(url, "UPDATE authapi_users SET email_confirmed_at = created_at")
    for number in range(8):
        await api.post("/me/tokens", json={"name": f"{number}"}, headers=headers)
    assert len(await api.outbox()) == 13, "a confirmed owner gets every notice"


async def test_rolled_back_change_sends_no_notice(
    api_on_each: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = api_on_each
    await api.login(await api.create_user())

    async def fails(*_: object, **__: object) -> None:
        raise OSError("at the last moment")

    # The last step of the transaction.
    monkeypatch.setattr(api.services.database.notifications, "notify", fails)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await api.post("/me/password", json=body)).status_code == 500
    assert await api.outbox() == []


async def test_deleting_an_account_deletes_its_queued_mail(
    api_on_each: Client, database_url: str
) -> None:
    api = api_on_each
    alice = await api.create_user()
    await api.services.outbox.stop()
    await api.services.accounts.passwords.set(alice.id, NEW)
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(1,)]
    await api.services.accounts.deletion.delete(alice.id)
    assert sql(database_url, "SELECT count(*) FROM authapi_outbox") == [(0,)]
