"""What the owner of an account is told of, in the transaction that did it (OWASP ASVS 6.3.7)."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from authapi.testing import PASSWORD, Client
from tests.storage.rows import sql
from tests.web.logins import sign_in

NEW = "another horse battery staple"


async def subjects(api: Client) -> list[str]:
    return [f"{message['To']}: {message['Subject']}" for message in await api.outbox()]


async def test_a_changed_password(api_on_each: Client) -> None:
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
    await api.services.accounts.set_password(alice.id, PASSWORD)
    assert await subjects(api) == ["alice@example.com: Your password was changed"] * 2


async def test_a_refused_change_of_the_password_tells_nobody(api_on_each: Client) -> None:
    api = api_on_each
    await api.login(await api.create_user())
    body = {"current_password": "wrong horse battery", "new_password": NEW}
    assert (await api.post("/me/password", json=body)).status_code == 403
    assert await api.outbox() == []


async def test_a_personal_access_token(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    headers = await sign_in(api.services, alice)
    answer = await api.post("/me/tokens", json={"name": "nightly backup"}, headers=headers)
    assert answer.status_code == 201
    assert await subjects(api) == ["alice@example.com: An access token was made for your account"]
    (message,) = await api.outbox()
    assert answer.json()["access_token"] not in message.as_string()


async def test_a_token_that_is_refused_tells_nobody(api_on_each: Client) -> None:
    api = api_on_each
    headers = await sign_in(api.services, await api.create_user())
    body = {"name": "x", "scopes": ["nowhere"]}
    assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 422
    assert await api.outbox() == []


async def test_a_refresh_token_that_comes_twice(api_on_each: Client) -> None:
    api = api_on_each
    alice = await api.create_user("alice@example.com")
    first = (await api.login(alice, strategy="jwt")).json()["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first}
    assert (await api.post("/token", data=form)).status_code == 200
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=5), tick=True):
        assert (await api.post("/token", data=form)).status_code == 400
        assert await subjects(api) == ["alice@example.com: A login to your account was ended"]


async def test_whoever_took_the_address_of_another_cannot_flood_them(api: Client) -> None:
    mallory = await api.create_user("victim@example.com")
    headers = await sign_in(api.services, mallory)
    for number in range(8):
        body = {"name": f"{number}"}
        assert (await api.post("/me/tokens", json=body, headers=headers)).status_code == 201
    assert len(await api.outbox()) == 5, "as many as limit_mails says"
    url = api.services.settings.resolved_database_url
    sql(url, "UPDATE users SET email_confirmed_at = created_at")
    for number in range(8):
        await api.post("/me/tokens", json={"name": f"{number}"}, headers=headers)
    assert len(await api.outbox()) == 13, "an owner is told of each"


async def test_a_change_that_is_not_committed_tells_nobody(
    api_on_each: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = api_on_each
    await api.login(await api.create_user())

    async def fails(*_: object, **__: object) -> None:
        raise OSError("at the last moment")

    # The last thing that the transaction does.
    monkeypatch.setattr(api.services.database.changes, "announce", fails)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert (await api.post("/me/password", json=body)).status_code == 500
    assert await api.outbox() == []


async def test_an_account_that_goes_takes_its_mail_along(
    api_on_each: Client, database_url: str
) -> None:
    api = api_on_each
    alice = await api.create_user()
    await api.services.outbox.stop()
    await api.services.accounts.set_password(alice.id, NEW)
    assert sql(database_url, "SELECT count(*) FROM outbox") == [(1,)]
    await api.services.accounts.delete(alice.id)
    assert sql(database_url, "SELECT count(*) FROM outbox") == [(0,)]
