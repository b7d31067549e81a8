"""`authapi.testing`, the test helpers for importing applications."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

import httpx
import pytest
from fastapi import Depends, FastAPI

from authapi import AuthAPI, Identity, User, create_app, current_identity, current_user
from authapi.errors import EmailTaken, InvalidInput
from authapi.testing import PASSWORD, Client, acting_as, client
from tests.conftest import SettingsFactory


def application(make_settings: SettingsFactory, **changes: object) -> FastAPI:
    """An application that has authapi installed, and routes of its own."""
    auth = AuthAPI(make_settings(scopes={"reports:read": "Read", "a": "A"}, **changes))
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.get("/who")
    async def who(identity: Annotated[Identity, Depends(current_identity())]) -> dict[str, object]:
        return {
            "email": identity.user.email,
            "strategy": identity.strategy,
            "session_id": identity.session_id,
            "scopes": sorted(identity.scopes),
            "amr": identity.amr,
            "expires_at": identity.expires_at,
        }

    @app.get("/jwt")
    def by_jwt(user: Annotated[User, Depends(current_user("jwt"))]) -> str:
        return user.email

    @app.get("/cookie")
    def by_cookie(user: Annotated[User, Depends(current_user("session"))]) -> str:
        return user.email

    @app.get("/reports")
    async def reports(
        user: Annotated[User, Depends(current_user("jwt", "token", scopes={"reports:read"}))],
    ) -> str:
        return user.email

    @app.get("/fresh")
    async def fresh(user: Annotated[User, Depends(current_user(fresh=True))]) -> str:
        return user.email

    @app.get("/staff")
    async def staff(user: Annotated[User, Depends(current_user(superuser=True))]) -> str:
        return user.email

    @app.get("/slow")
    async def slow(user: Annotated[User, Depends(current_user())]) -> str:
        await asyncio.sleep(0)
        return user.email

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("broken")

    return app


@pytest.fixture
async def own(make_settings: SettingsFactory) -> AsyncIterator[Client]:
    async with client(application(make_settings)) as api:
        yield api


# The client ---------------------------------------------------------------------------------------


async def test_client_runs_the_lifespan(make_settings: SettingsFactory) -> None:
    app = create_app(make_settings())
    async with client(app) as api:
        assert (await api.get("/health/ready")).status_code == 200
        alice = await api.create_user()
        await api.login(alice)
        services = api.services
    assert api.is_closed
    with pytest.raises(RuntimeError):
        await services.passwords.hash(PASSWORD)  # its threads ended with the lifespan


async def test_client_runs_the_lifespan_of_the_application(make_settings: SettingsFactory) -> None:
    seen: list[str] = []
    auth = AuthAPI(make_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with auth.lifespan(app):
            seen.append("begin")
            yield
            seen.append("end")

    app = FastAPI(lifespan=lifespan)
    auth.install(app)
    async with client(app) as api:
        assert seen == ["begin"]
        await api.create_user()
    assert seen == ["begin", "end"]


async def test_an_application_without_authapi_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"call AuthAPI\(\).install\(app\)"):
        async with client(FastAPI()):
            pass


async def test_two_applications_are_independent(
    make_settings: SettingsFactory, postgres_url: str
) -> None:
    settings = make_settings(database_url=postgres_url)
    async with client(create_app(make_settings())) as one, client(create_app(settings)) as other:
        alice = await one.create_user("alice@example.com")
        twin = await other.create_user("alice@example.com")
        assert alice.id != twin.id
        await one.login(alice)
        other.cookies.update(one.cookies)
        assert (await one.get("/me")).status_code == 200
        assert (await other.get("/me")).status_code == 401


async def test_client_accepts_another_base_url(make_settings: SettingsFactory) -> None:
    public = "https://auth.example.com"
    async with client(create_app(make_settings(public_url=public)), base_url=public) as api:
        alice = await api.create_user()
        await api.login(alice)
        assert list(api.cookies) == ["__Host-authapi"]
        assert (await api.get("/me")).status_code == 200


async def test_an_error_in_a_handler_is_a_500_response(own: Client) -> None:
    answer = await own.get("/broken")
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")


# Users --------------------------------------------------------------------------------------------


async def test_created_users_can_log_in(own: Client) -> None:
    users = [await own.create_user() for _ in range(3)]
    assert len({user.email for user in users}) == 3
    for user in users:
        body = {"email": user.email, "password": PASSWORD}
        answer = await own.post("/login", json=body)
        assert answer.json()["user"]["id"] == str(user.id)
        assert isinstance(user.id, UUID)
        assert (user.is_active, user.is_superuser, user.name) == (True, False, None)


async def test_create_user_accepts_all_attributes(own: Client) -> None:
    root = await own.create_user(
        "Root@example.com", password="another horse and battery", name="Root", is_superuser=True
    )
    assert (root.email, root.name, root.is_superuser) == ("Root@example.com", "Root", True)
    await own.login(root, password="another horse and battery")
    assert (await own.get("/staff")).json() == "Root@example.com"
    with pytest.raises(EmailTaken):
        await own.create_user("root@EXAMPLE.com")
    with pytest.raises(InvalidInput):
        await own.create_user("no address")
    with pytest.raises(InvalidInput):
        await own.create_user(password="short")


@pytest.mark.parametrize("strategy", ["session", "token", "jwt"])
async def test_login_keeps_the_credential_in_the_client(own: Client, strategy: str) -> None:
    alice = await own.create_user()
    answer = await own.login(alice, strategy=strategy)
    assert answer.json()["strategy"] == strategy
    assert bool(own.cookies) is (strategy == "session")
    assert ("Authorization" in own.headers) is (strategy != "session")
    seen = (await own.get("/who")).json()
    assert (seen["email"], seen["strategy"]) == (alice.email, strategy)
    assert seen["session_id"] is not None


async def test_a_failed_login_raises(own: Client) -> None:
    alice = await own.create_user()
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        await own.login(alice, password="x" + PASSWORD)
    assert (await own.get("/who")).status_code == 401


# Acting -------------------------------------------------------------------------------------------


async def test_acting_as_ends_with_its_block(own: Client) -> None:
    alice, bob = await own.create_user(), await own.create_user()
    assert (await own.get("/who")).status_code == 401
    with acting_as(alice):
        assert (await own.get("/who")).json()["email"] == alice.email
        with acting_as(bob):
            assert (await own.get("/who")).json()["email"] == bob.email
        assert (await own.get("/who")).json()["email"] == alice.email
        assert (await own.get("/jwt")).json() == alice.email, "in `def` handlers too"
    assert (await own.get("/who")).status_code == 401
    with pytest.raises(ZeroDivisionError), acting_as(alice):
        raise ZeroDivisionError
    assert (await own.get("/who")).status_code == 401


async def test_acting_as_sets_the_identity(own: Client) -> None:
    alice = await own.create_user()
    with acting_as(alice, scopes=["reports:read"]):
        assert (await own.get("/who")).json() == {
            "email": alice.email,
            "strategy": "token",  # the first strategy of the route: headers come before the cookie
            "session_id": None,
            "scopes": ["reports:read"],
            "amr": ["pwd"],
            "expires_at": None,
        }


async def test_gates_run_with_acting_as(own: Client) -> None:
    alice = await own.create_user()

    async def code(path: str) -> str:
        body = (await own.get(path)).json()
        return body["code"] if isinstance(body, dict) else "allowed"

    with acting_as(alice):
        assert await code("/reports") == "insufficient_scope"
        assert await code("/staff") == "superuser_required"
        assert await code("/fresh") == "allowed"
    with acting_as(alice, scopes={"a"}):
        assert await code("/reports") == "insufficient_scope"
    with acting_as(alice, scopes={"reports:read", "a"}):
        assert await code("/reports") == "allowed"
    with acting_as(replace(alice, is_superuser=True)):
        assert await code("/staff") == "allowed"
    with acting_as(replace(alice, is_active=False)):
        assert await code("/who") == "inactive_account"
    with acting_as(alice, auth_time=datetime.now(UTC) - timedelta(minutes=6)):
        assert await code("/fresh") == "stale_authentication"
    with acting_as(alice, amr=()):
        assert await code("/fresh") == "stale_authentication"
        assert (await own.get("/who")).json()["amr"] == []


async def test_acting_as_with_one_strategy(own: Client) -> None:
    alice = await own.create_user()
    paths = ("/jwt", "/cookie", "/reports", "/who")
    for strategy, expected in {
        "jwt": [200, 401, 403, 200],
        "session": [401, 200, 401, 200],
        "token": [401, 401, 403, 200],
        "nope": [401, 401, 401, 401],
    }.items():
        with acting_as(alice, strategy=strategy):
            assert [(await own.get(path)).status_code for path in paths] == expected, strategy


async def test_acting_as_replaces_the_credential_of_the_client(own: Client) -> None:
    alice, bob = await own.create_user(), await own.create_user()
    await own.login(alice)
    with acting_as(bob):
        assert (await own.get("/who")).json()["email"] == bob.email
    assert (await own.get("/who")).json()["email"] == alice.email
    with acting_as(bob, strategy="jwt"):
        assert (await own.get("/cookie")).json() == alice.email, "the route has no strategy `jwt`"


async def test_acting_as_is_independent_in_each_task(own: Client) -> None:
    users = [await own.create_user() for _ in range(5)]

    async def ask(user: User) -> str:
        with acting_as(user):
            await asyncio.sleep(0)
            return str((await own.get("/slow")).json())

    assert await asyncio.gather(*map(ask, users)) == [user.email for user in users]
    assert (await own.get("/slow")).status_code == 401


async def test_acting_as_accepts_a_user_without_a_row(own: Client) -> None:
    now = datetime.now(UTC)
    user = User(UUID(int=7), "unstored@example.com", None, True, False, now, now, now)
    with acting_as(user):
        assert (await own.get("/who")).json()["email"] == "unstored@example.com"


async def test_acting_as_works_on_the_routes_of_authapi(own: Client) -> None:
    # The identity has no session, so routes that need one answer 404.
    alice = await own.create_user()
    with acting_as(alice):
        assert (await own.get("/me")).json()["id"] == str(alice.id)
        assert (await own.get("/me/identity")).json()["session_id"] is None
        assert (await own.get("/me/sessions")).json() == []
        assert (await own.get("/me/session")).status_code == 404
        assert (await own.patch("/me/session", json={"a": 1})).status_code == 404
        assert (await own.post("/me/tokens", json={"name": "x"})).status_code == 201
        assert (await own.post("/logout")).status_code == 204
        assert (await own.delete("/me")).status_code == 204


def test_one_application_can_be_used_by_several_tests(make_settings: SettingsFactory) -> None:
    # The application is a module-level object. Each test runs its lifespan in a new event loop.
    app = application(make_settings)

    async def one_test() -> None:
        async with client(app) as api:
            users = await asyncio.gather(*(api.create_user() for _ in range(5)))
            with acting_as(users[0]):
                assert (await api.get("/who")).json()["email"] == users[0].email
            assert (await api.get("/who")).status_code == 401
            await api.login(users[1])
            assert (await api.get("/who")).json()["email"] == users[1].email

    for _ in range(3):
        asyncio.run(one_test())


async def test_one_application_can_have_two_clients(make_settings: SettingsFactory) -> None:
    app = application(make_settings)
    async with client(app) as first:
        alice, bob = await first.create_user(), await first.create_user()
        async with Client(app, base_url="http://127.0.0.1:8000") as second:
            await first.login(alice)
            await second.login(bob)
            for api, user in ((first, alice), (second, bob)):
                assert (await api.get("/who")).json()["email"] == user.email
            with acting_as(bob):
                assert (await first.get("/who")).json()["email"] == bob.email


async def test_mail_is_captured(make_settings: SettingsFactory, tmp_path: Path) -> None:
    settings = make_settings(mail_url=f"folder:{tmp_path / 'mail'}")
    async with client(create_app(settings)) as api:
        alice = await api.create_user("alice@example.com")
        assert await api.outbox() == []
        await api.services.accounts.passwords.set(alice.id, "another horse battery staple")
        (message,) = await api.outbox()
        assert message["To"] == "alice@example.com"
        assert await api.outbox() == [message], "the mail is kept"
    assert not (tmp_path / "mail").exists(), "no mail was sent"


async def test_mail_is_sent_with_delivers_mail(
    make_settings: SettingsFactory, tmp_path: Path
) -> None:
    settings = make_settings(mail_url=f"folder:{tmp_path / 'mail'}")
    async with client(create_app(settings), delivers_mail=True) as api:
        alice = await api.create_user()
        await api.services.accounts.passwords.set(alice.id, "another horse battery staple")
        assert await api.outbox() == []
    (file,) = (tmp_path / "mail").iterdir()
    assert file.suffix == ".eml"
