"""The application, with the fixtures of the plugin `authapi`: a clean database for each test."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI
from sqlmodel import Session, select

from authapi import EmailTaken, NotFound, User
from authapi.testing import PASSWORD, CleanDatabase, SyncClient

LogIn = Callable[[User], dict[str, str]]
"""Logs in by the form of the application; returns the headers of later requests."""


@pytest.fixture(scope="session")
def authapi_prepare() -> Callable[[str], object]:
    """Creates the tables of the application beside those of authapi."""

    def prepare(url: str) -> None:
        os.environ["DATABASE_URL"] = url.replace("postgresql:", "postgresql+psycopg:")
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], check=True)

    return prepare


@pytest.fixture
def authapi_app(authapi_database: CleanDatabase) -> FastAPI:
    """The application, which reads its settings when it is imported."""
    os.environ.update(authapi_database.environment)
    import sync_app

    return sync_app.app


@pytest.fixture
def client(authapi_sync_client: SyncClient) -> SyncClient:
    """A client of the running application."""
    return authapi_sync_client


@pytest.fixture
def session(authapi_database_url: str, authapi_app: FastAPI) -> Iterator[Session]:
    """A Session of the application, on the clean database."""
    from sync_app.database import engine

    with Session(engine) as found:
        yield found


@pytest.fixture
def log_in(client: SyncClient) -> LogIn:
    def post(user: User) -> dict[str, str]:
        form = {"username": user.email, "password": PASSWORD}
        answer = client.post("/login/access-token", data=form)
        assert answer.status_code == 200
        assert answer.json().keys() == {"access_token", "token_type"}
        assert answer.headers["Cache-Control"] == "no-store"
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    return post


def test_each_user_sees_own_items(client: SyncClient, log_in: LogIn) -> None:
    alice, bob = log_in(client.create_user()), log_in(client.create_user())
    made = client.post("/items", headers=alice, json={"title": "tea"})
    assert made.status_code == 201
    path = f"/items/{made.json()['id']}"
    assert client.get("/items", headers=alice).json() == [made.json()]
    assert client.get("/items", headers=bob).json() == []
    assert client.delete(path, headers=bob).status_code == 404
    assert client.delete(path, headers=alice).status_code == 204
    assert client.get("/items", headers=alice).json() == []


def test_titles_of_an_owner_are_unique(client: SyncClient, log_in: LogIn) -> None:
    alice, bob = log_in(client.create_user()), log_in(client.create_user())
    answers = [
        client.post("/items", headers=owner, json={"title": "tea"}) for owner in (alice, alice, bob)
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 201]


def test_the_gates_refuse(client: SyncClient, log_in: LogIn) -> None:
    assert client.get("/items").status_code == 401
    assert client.get("/users", headers=log_in(client.create_user())).status_code == 403


@pytest.mark.parametrize(
    ("username", "status"), [("nobody@example.com", 401), ("no address", 422), ("", 422)]
)
def test_the_form_refuses(client: SyncClient, username: str, status: int) -> None:
    form = {"username": username, "password": "a wrong password"}
    answer = client.post("/login/access-token", data=form)
    assert answer.status_code == status


def test_a_superuser_creates_an_account_with_items(client: SyncClient, log_in: LogIn) -> None:
    root = log_in(client.create_user(is_superuser=True))
    body = {"email": "new@example.com", "password": PASSWORD, "items": ["tea", "jam"]}
    made = client.post("/users", headers=root, json=body)
    assert (made.status_code, made.json()) == (201, {"email": "new@example.com", "items": 2})
    assert made.json() in client.get("/users", headers=root).json()

    again = client.post("/users", headers=root, json={**body, "items": ["rice"]})
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")
    assert made.json() in client.get("/users", headers=root).json()


def test_a_refused_item_undoes_the_account(client: SyncClient, log_in: LogIn) -> None:
    from sync_app import auth

    root = log_in(client.create_user(is_superuser=True))
    body = {"email": "twice@example.com", "password": PASSWORD, "items": ["tea", "tea"]}
    assert client.post("/users", headers=root, json=body).status_code == 409
    with pytest.raises(NotFound):
        auth.sync.accounts.find_by_email("twice@example.com")
    assert client.post("/users", headers=root, json={**body, "items": ["tea"]}).status_code == 201


def test_an_account_with_items_is_not_deleted(client: SyncClient, log_in: LogIn) -> None:
    alice = log_in(client.create_user())
    item = client.post("/items", headers=alice, json={"title": "tea"}).json()
    refused = client.delete("/me", headers=alice)
    assert (refused.status_code, refused.json()["code"]) == (409, "account_in_use")
    assert client.get("/items", headers=alice).json() == [item]
    assert client.delete(f"/items/{item['id']}", headers=alice).status_code == 204
    assert client.delete("/me", headers=alice).status_code == 204
    assert client.get("/items", headers=alice).status_code == 401


def test_a_script_joins_its_session(session: Session) -> None:
    """Without a running application, as in a management command."""
    from sync_app import auth
    from sync_app.models import Item

    def seed(email: str) -> None:
        with auth.sync.transaction(session) as tx:
            owner = tx.accounts.create(email, PASSWORD)
            session.add(Item(title=email, owner_id=owner.id))

    seed("undone@example.com")
    session.rollback()
    seed("kept@example.com")
    with auth.sync.transaction(session) as tx, pytest.raises(EmailTaken):
        tx.accounts.create("kept@example.com", PASSWORD)
    session.commit()

    with pytest.raises(NotFound):
        auth.sync.accounts.find_by_email("undone@example.com")
    owner = auth.sync.accounts.find_by_email("kept@example.com")
    [item] = session.exec(select(Item).where(Item.owner_id == owner.id)).all()
    assert (item.title, item.owner.email) == ("kept@example.com", "kept@example.com")
    assert session.exec(select(Item).where(Item.title == "undone@example.com")).all() == []
    auth.sync.close()
