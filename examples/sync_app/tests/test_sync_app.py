"""The application in this process, on a migrated database.

The database is a new SQLite file, or that of `TEST_DATABASE_URL`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from authapi import EmailTaken, NotFound, User
from authapi.testing import PASSWORD

MIGRATIONS = ("authapi --app sync_app:auth db upgrade", "alembic upgrade head")
numbers = count(1)

NewUser = Callable[..., User]
"""Creates an account with an address of its own."""
LogIn = Callable[[User], dict[str, str]]
"""Logs in by the form of the application; returns the headers of later requests."""


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The application. Its database has all tables and no rows."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        url = os.environ.get("TEST_DATABASE_URL", f"sqlite:///{folder}/test.db")
        patch.setenv("DATABASE_URL", url)
        patch.setenv("AUTHAPI_DATA_DIR", str(folder))
        for command in MIGRATIONS:
            subprocess.run([sys.executable, "-m", *command.split()], check=True)

        import sync_app  # reads the environment

        yield sync_app.app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    """A client of the running application."""
    with TestClient(app) as found:
        yield found


@pytest.fixture
def session(app: FastAPI) -> Iterator[Session]:
    """A Session of the application."""
    from sync_app.database import engine

    with Session(engine) as found:
        yield found


@pytest.fixture
def new_user(client: TestClient) -> NewUser:
    """`auth.sync` creates accounts in the running application."""
    from sync_app import auth

    def create(*, is_superuser: bool = False) -> User:
        email = f"user{next(numbers)}@example.com"
        return auth.sync.accounts.create(email, PASSWORD, is_superuser=is_superuser)

    return create


@pytest.fixture
def log_in(client: TestClient) -> LogIn:
    def post(user: User) -> dict[str, str]:
        form = {"username": user.email, "password": PASSWORD}
        answer = client.post("/login/access-token", data=form)
        assert answer.status_code == 200
        assert answer.json().keys() == {"access_token", "token_type"}
        assert answer.headers["Cache-Control"] == "no-store"
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    return post


def test_each_user_sees_own_items(client: TestClient, new_user: NewUser, log_in: LogIn) -> None:
    alice, bob = log_in(new_user()), log_in(new_user())
    made = client.post("/items", headers=alice, json={"title": "tea"})
    assert made.status_code == 201
    path = f"/items/{made.json()['id']}"
    assert client.get("/items", headers=alice).json() == [made.json()]
    assert client.get("/items", headers=bob).json() == []
    assert client.delete(path, headers=bob).status_code == 404
    assert client.delete(path, headers=alice).status_code == 204
    assert client.get("/items", headers=alice).json() == []


def test_titles_of_an_owner_are_unique(
    client: TestClient, new_user: NewUser, log_in: LogIn
) -> None:
    alice, bob = log_in(new_user()), log_in(new_user())
    answers = [
        client.post("/items", headers=owner, json={"title": "tea"}) for owner in (alice, alice, bob)
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 201]


def test_the_gates_refuse(client: TestClient, new_user: NewUser, log_in: LogIn) -> None:
    assert client.get("/items").status_code == 401
    assert client.get("/users", headers=log_in(new_user())).status_code == 403


@pytest.mark.parametrize(
    ("username", "status"), [("nobody@example.com", 401), ("no address", 422), ("", 422)]
)
def test_the_form_refuses(client: TestClient, username: str, status: int) -> None:
    form = {"username": username, "password": "a wrong password"}
    answer = client.post("/login/access-token", data=form)
    assert answer.status_code == status


def test_a_superuser_creates_an_account_with_items(
    client: TestClient, new_user: NewUser, log_in: LogIn
) -> None:
    root = log_in(new_user(is_superuser=True))
    body = {"email": "new@example.com", "password": PASSWORD, "items": ["tea", "jam"]}
    made = client.post("/users", headers=root, json=body)
    assert (made.status_code, made.json()) == (201, {"email": "new@example.com", "items": 2})
    assert made.json() in client.get("/users", headers=root).json()

    again = client.post("/users", headers=root, json={**body, "items": ["rice"]})
    assert (again.status_code, again.json()["code"]) == (409, "email_taken")
    assert made.json() in client.get("/users", headers=root).json()


def test_a_refused_item_undoes_the_account(
    client: TestClient, new_user: NewUser, log_in: LogIn
) -> None:
    from sync_app import auth

    root = log_in(new_user(is_superuser=True))
    body = {"email": "twice@example.com", "password": PASSWORD, "items": ["tea", "tea"]}
    assert client.post("/users", headers=root, json=body).status_code == 409
    with pytest.raises(NotFound):
        auth.sync.accounts.find_by_email("twice@example.com")
    assert client.post("/users", headers=root, json={**body, "items": ["tea"]}).status_code == 201


def test_an_account_with_items_is_not_deleted(
    client: TestClient, new_user: NewUser, log_in: LogIn
) -> None:
    alice = log_in(new_user())
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
