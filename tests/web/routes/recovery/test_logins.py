"""Logins from new devices: the mail, and its link that ends the login, by API and by page."""

from collections.abc import AsyncIterator, Mapping
from email.message import EmailMessage

import anyio
import httpx
import pytest
from fastapi import FastAPI

from authapi import AuthAPI, Settings, User
from authapi.clock import now
from authapi.testing import PASSWORD, Client, client
from tests.conftest import SettingsFactory
from tests.security.peers import Service, serving
from tests.web.mailbox import client_with_mailbox, mail_kinds, secret_in
from tests.web.pages.checks import check_page, main_of
from tests.web.pages.texts import ENGLISH, KOREAN
from tests.web.responses import problem

ALICE = "alice@example.com"
OTHER = "another horse, another battery"
HOME, AWAY = "192.0.2.1", "198.51.100.1"
AGENT = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[Client]:
    async with client_with_mailbox(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    async with serving(Settings(database_url=database_url)) as found:  # type: ignore[arg-type]
        yield found


async def account(api: Client, **changes: str) -> User:
    """An account with a confirmed address, which has logged in."""
    user = await api.create_user(ALICE, **changes)  # type: ignore[arg-type]
    async with api.services.database.transaction() as store:
        await store.users.confirm_email(user.id, at=now())
    await log_in(api)
    api.cookies.clear()
    return await api.services.accounts.profiles.find(user.id)


async def log_in(
    visitor: httpx.AsyncClient, agent: str = AGENT, strategy: str = "session"
) -> Mapping[str, str]:
    """Logs in; returns the members of the response."""
    body = {"email": ALICE, "password": PASSWORD, "strategy": strategy}
    answer = await visitor.post("/login", json=body, headers={"user-agent": agent})
    assert answer.status_code == 200
    found: Mapping[str, str] = answer.json()
    return found


async def secret_of_a_foreign_login(api: Client) -> tuple[str, dict[str, str]]:
    """A token of the mail about a login from a new device, and the headers of that login."""
    tokens = await log_in(api, "curl/8", "token")
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    return await secret_in(api.services, "new_device", ALICE), headers


def text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert body is not None
    return str(body.get_content())


# The mail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["en", "ko"])
async def test_mail_tells_time_device_and_network(service: Service, locale: str) -> None:
    api = service.api
    alice = await account(api, name="Alice")
    if locale == "ko":
        await api.services.accounts.profiles.edit(
            alice.id, {"locale": "ko"}, is_stale=lambda _: False
        )
    async with service.at(AWAY) as visitor:
        await log_in(visitor)
    (message,) = await api.outbox()
    text = text_of(message)
    assert message["To"] == ALICE
    at = now()
    days = {"en": f"{at:%B} {at.day}, {at.year}", "ko": f"{at.year}년 {at.month}월 {at.day}일"}
    for fact in ("Alice", AWAY, "Firefox", "Windows", days[locale], "UTC"):
        assert fact in text, fact
    assert "Mozilla" not in message.as_string()
    assert "http://127.0.0.1:8000/account/disown?token=" in text
    if locale == "ko":
        assert message["Subject"] == "새 기기에서 계정에 로그인했습니다"
        assert "본인이 아니라면" in text
    else:
        assert message["Subject"] == "A new device has logged in to your account"
        assert "with Firefox on Windows" in text


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_every_strategy_is_told(service: Service, strategy: str) -> None:
    await account(service.api)
    async with service.at(AWAY) as visitor:
        for _ in range(2):
            await log_in(visitor, strategy=strategy)
    assert len(await service.api.outbox()) == 1


async def test_password_grant_is_told(service: Service) -> None:
    await account(service.api)
    form = {"grant_type": "password", "username": ALICE, "password": PASSWORD}
    async with service.at(AWAY) as visitor:
        assert (await visitor.post("/token", data=form)).status_code == 200
    assert len(await service.api.outbox()) == 1


async def test_http_basic_is_not_told(service: Service) -> None:
    await account(service.api)
    async with service.at(AWAY) as visitor:
        answer = await visitor.get("/me", auth=(ALICE, PASSWORD))
    assert answer.status_code in {200, 401}
    assert await service.api.outbox() == []


@pytest.mark.parametrize(
    "agent",
    [
        b"evil.example/1 win a prize",
        b"https://evil.example/",
        b"<a href=//evil.example>EVIL</a>",
        b"{{ 7 * 7 }}{% raw %}",
        b"x\x00\x1b[31mevil",
        b"Mozilla/5.0 (Windows) evil.example <script>",
        "\u202eevil.example".encode(),
        b"\xff\xfe evil.example",
        b"A" * 10_000,
        b"x, Bcc: victim@evil.example",
        b"=?utf-8?q?=0D=0ABcc:_victim=40evil.example?=",
        b"",
    ],
)
async def test_hostile_user_agent_stays_out_of_the_mail(api: Client, agent: bytes) -> None:
    api.services.outbox.register("mail", api.services.mail.deliver)
    await account(api)
    body = {"email": ALICE, "password": PASSWORD, "strategy": "token"}
    answer = await api.post("/login", json=body, headers=[(b"user-agent", agent)])
    assert answer.status_code == 200
    (message,) = await api.outbox()
    assert [*message.keys()].count("To") == 1
    assert message["Bcc"] is None
    whole = "\n".join(
        [*map(str, message.values())]
        + [part.get_content() for part in message.walk() if not part.is_multipart()]
    )
    for text in ("evil.example", "EVIL", "{{", "7 * 7", "<script", "\x1b", "\u202e", "A" * 33):
        assert text not in whole, text


# The link -----------------------------------------------------------------------------------------


async def test_link_ends_the_login(api: Client) -> None:
    await account(api)
    owner = {"authorization": f"Bearer {(await log_in(api, strategy='jwt'))['access_token']}"}
    secret, foreign = await secret_of_a_foreign_login(api)
    assert (await api.get("/me", headers=foreign)).status_code == 200
    answer = await api.post("/login/disown", json={"token": secret})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await api.get("/me", headers=foreign)).status_code == 401
    assert (await api.get("/me", headers=owner)).status_code == 200
    again = await api.post("/login/disown", json={"token": secret})
    problem(again, 400, "invalid_one_time_secret")
    (ended, *_) = (await api.get("/me/events", headers=owner)).json()["items"]
    assert (ended["type"], ended["detail"]) == ("session_ended", {"because": "disowned"})


async def test_refresh_family_of_the_login_ends(api: Client) -> None:
    await account(api)
    tokens = await log_in(api, "curl/8", "jwt")
    headers = {"authorization": f"Bearer {tokens['access_token']}"}
    assert (await api.get("/me", headers=headers)).status_code == 200
    secret = await secret_in(api.services, "new_device", ALICE)
    assert (await api.post("/login/disown", json={"token": secret})).status_code == 204
    assert (await api.get("/me", headers=headers)).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refused = await api.post("/token", data=form)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_link_works_after_a_logout(api: Client) -> None:
    await account(api)
    secret, foreign = await secret_of_a_foreign_login(api)
    assert (await api.post("/logout", headers=foreign)).status_code == 204
    assert (await api.post("/login/disown", json={"token": secret})).status_code == 204
    used = await api.post("/login/disown", json={"token": secret})
    problem(used, 400, "invalid_one_time_secret")


async def test_link_works_after_the_attacker_has_changed_the_password(api: Client) -> None:
    await account(api)
    tokens = await log_in(api, "curl/8", "jwt")
    foreign = {"authorization": f"Bearer {tokens['access_token']}"}
    secret = await secret_in(api.services, "new_device", ALICE)
    body = {"current_password": PASSWORD, "new_password": OTHER}
    assert (await api.post("/me/password", json=body, headers=foreign)).status_code == 204
    assert (await api.post("/login/disown", json={"token": secret})).status_code == 204
    assert (await api.get("/me", headers=foreign)).status_code == 401


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("x", 400, "invalid_one_time_secret"),
        ("A" * 43, 400, "invalid_one_time_secret"),
        ("", 422, "validation_failed"),
        ("é" * 43, 422, "validation_failed"),
        ("A" * 10_000, 422, "validation_failed"),
    ],
)
async def test_other_text_is_refused(api: Client, token: str, status: int, code: str) -> None:
    problem(await api.post("/login/disown", json={"token": token}), status, code)


async def test_token_of_another_mail_is_refused(api: Client) -> None:
    await account(api)
    await api.post("/password/forgot", json={"email": ALICE})
    reset = await secret_in(api.services, "reset", ALICE)
    problem(await api.post("/login/disown", json={"token": reset}), 400, "invalid_one_time_secret")
    secret, _ = await secret_of_a_foreign_login(api)
    body = {"token": secret, "new_password": OTHER}
    problem(await api.post("/password/reset", json=body), 400, "invalid_one_time_secret")
    body = {"token": secret, "email": ALICE}
    problem(await api.post("/email/undo", json=body), 400, "invalid_one_time_secret")
    assert (await api.post("/login/disown", json={"token": secret})).status_code == 204


async def test_one_of_50_concurrent_uses_succeeds(api: Client) -> None:
    await account(api)
    secret, foreign = await secret_of_a_foreign_login(api)
    statuses: list[int] = []

    async def use() -> None:
        answer = await api.post("/login/disown", json={"token": secret})
        statuses.append(answer.status_code)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(use)
    assert (statuses.count(204), statuses.count(400)) == (1, 49)
    assert (await api.get("/me", headers=foreign)).status_code == 401


# The page -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ko"])
async def test_page_ends_the_login(api: Client, language: str) -> None:
    texts = {"en": ENGLISH, "ko": KOREAN}[language]
    accepts = {"accept-language": language}
    await account(api)
    secret, foreign = await secret_of_a_foreign_login(api)
    for _ in range(2):  # GET changes nothing
        shown = await api.get("/account/disown", params={"token": secret}, headers=accepts)
        check_page(shown, 200, texts["disown.lead"])
        assert texts["disown.button"] in shown.text
        assert main_of(shown).count("<input") == 1, "the token is the only field"
        assert (await api.get("/me", headers=foreign)).status_code == 200
    form = {"token": secret, "action": "go"}
    done = await api.post("/account/disown", data=form, headers=accepts, follow_redirects=True)
    check_page(done, 200, texts["disown.done"])
    assert f'href="forgot">{texts["to_reset"]}</a>' in done.text
    assert secret not in done.text
    assert (await api.get("/me", headers=foreign)).status_code == 401
    used = await api.post("/account/disown", data=form, headers=accepts)
    check_page(used, 400, texts["invalid_one_time_secret"], is_error=True)


async def test_page_refuses_other_origins(api: Client) -> None:
    await account(api)
    secret, foreign = await secret_of_a_foreign_login(api)
    answer = await api.post(
        "/account/disown", data={"token": secret}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert (await api.get("/me", headers=foreign)).status_code == 200


async def test_mail_scanner_that_submits_the_form_ends_one_login_only(api: Client) -> None:
    alice = await account(api)
    owner = {"authorization": f"Bearer {(await log_in(api, strategy='token'))['access_token']}"}
    secret, foreign = await secret_of_a_foreign_login(api)
    before = await api.services.accounts.profiles.find(alice.id)
    done = await api.post("/account/disown", data={"token": secret}, follow_redirects=True)
    check_page(done, 200, ENGLISH["disown.done"])
    assert await api.services.accounts.profiles.find(alice.id) == before
    assert await mail_kinds(api.services) == ["new_device"]
    assert (await api.get("/me", headers=owner)).status_code == 200
    assert (await api.get("/me", headers=foreign)).status_code == 401
    # The owner of that device logs in again. It is known now.
    await log_in(api, "curl/9", "token")
    assert await mail_kinds(api.services) == ["new_device"]


async def test_link_has_the_prefix(make_settings: SettingsFactory) -> None:
    prefix = "/api/v1/auth"
    auth = AuthAPI(make_settings())
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app, prefix=prefix)
    async with client(app) as api:
        alice = await api.create_user(ALICE)
        await api.services.accounts.email_changes.confirm_for_operator(alice.id)
        await api.login(alice)
        api.headers["user-agent"] = "curl/8"
        await api.login(alice)
        (message,) = await api.outbox()
        [link] = [line for line in text_of(message).splitlines() if line.startswith("http")]
        assert link.startswith(f"http://127.0.0.1:8000{prefix}/account/disown?token=")
        shown = await api.get(link)
        check_page(shown, 200, ENGLISH["disown.lead"])
        token = link.partition("token=")[2].partition("&")[0]
        answer = await api.post(f"{prefix}/login/disown", json={"token": token})
        assert answer.status_code == 204
        assert (await api.get(f"{prefix}/me")).status_code == 401


async def test_without_mail_there_is_no_route(make_settings: SettingsFactory) -> None:
    auth = AuthAPI(make_settings(mail_url="none:"))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)
    async with client(app) as api:
        for path in ("/email/undo", "/login/disown"):
            assert (await api.post(path, json={})).status_code == 404
