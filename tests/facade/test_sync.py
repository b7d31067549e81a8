"""`auth.sync`: in threads, in handlers, after a fork, and in the transaction of a Session."""

import asyncio
import inspect
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from fastapi import Body, FastAPI, Request
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, sessionmaker
from starlette.responses import JSONResponse, Response

from authapi import (
    Accounts,
    AuthAPI,
    ConfigurationError,
    EmailTaken,
    NotFound,
    Settings,
    SyncAccounts,
)
from authapi.testing import client
from tests.facade.notes import Note, sync_engine, texts

PASSWORD = "correct horse battery staple"


@pytest.fixture
def closing(auth: AuthAPI) -> Iterator[AuthAPI]:
    """The AuthAPI, whose thread is closed afterwards."""
    yield auth
    auth.sync.close()


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A synchronous Session of the application."""
    engine = sync_engine(database_url)
    with Session(engine) as found:
        yield found
    engine.dispose()


def test_every_method_is_mirrored_with_its_arguments_and_result() -> None:
    def methods(kind: type) -> dict[str, inspect.Signature]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: inspect.signature(call) for name, call in found if name[0] != "_"}

    assert methods(SyncAccounts) == methods(Accounts)
    assert len(methods(Accounts)) == 16


def test_a_script_without_an_event_loop(closing: AuthAPI) -> None:
    accounts = closing.sync.accounts
    user = accounts.create("a@example.com", PASSWORD, name="A")
    assert accounts.find(user.id) == accounts.find_by_email("a@example.com") == user
    assert accounts.rename(user.id, "B").name == "B"
    assert accounts.change_email(user.id, "b@example.com").email == "b@example.com"
    accounts.set_password(user.id, PASSWORD + "!")
    assert accounts.confirm_email(user.id).email_confirmed_at is not None
    assert not accounts.deactivate(user.id).is_active
    assert accounts.activate(user.id).is_active
    assert accounts.set_roles(user.id, []).roles == frozenset()
    assert accounts.end_sessions(user.id) == 0
    assert accounts.set_superuser(user.id, True).is_superuser
    accounts.create("root@example.com", is_superuser=True)
    accounts.delete(user.id)
    with pytest.raises(NotFound):
        accounts.find(user.id)
    closing.sync.close()
    assert accounts.find_by_email("root@example.com").is_superuser  # opens again


async def test_a_running_event_loop_is_refused(auth: AuthAPI, session: Session) -> None:
    with pytest.raises(RuntimeError, match=r"in `async def`, await auth\.accounts"):
        auth.sync.accounts.create("a@example.com", PASSWORD)
    with (
        pytest.raises(RuntimeError, match="in `async def`"),
        auth.sync.transaction(session),
    ):
        pass


def test_a_failing_start_is_reported_each_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/missing/authapi.db"
    auth = AuthAPI(Settings(database_url=url))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            auth.sync.accounts.find_by_email("a@example.com")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own_connections(closing: AuthAPI) -> None:
    closing.sync.accounts.create("parent@example.com", PASSWORD)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            found: object = closing.sync.accounts.find_by_email("parent@example.com").email
            closing.sync.accounts.create("child@example.com", PASSWORD)
        except BaseException as error:  # reported to the parent
            found = repr(error)
        os.write(writer, pickle.dumps(found))
        os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader, "rb") as pipe:
        assert pickle.loads(pipe.read()) == "parent@example.com"
    assert closing.sync.accounts.find_by_email("child@example.com").is_active


def application(auth: AuthAPI, session_factory: "sessionmaker[Session]") -> FastAPI:
    """An application with `def` handlers, a synchronous Session, and a login form of its own."""
    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    @app.post("/sign-up")
    def sign_up(email: str) -> JSONResponse:
        with session_factory.begin() as session, auth.sync.transaction(session) as tx:
            user = tx.accounts.create(email, PASSWORD)
            session.add(Note(text=str(user.id)))
        return JSONResponse({"id": str(user.id)})

    @app.post("/form")
    def form(
        request: Request,
        username: str = Body(),
        password: str = Body(),
        strategy: str | None = Body(default=None),
    ) -> Response:
        done = auth.sync.log_in(request, username, password, strategy=strategy)
        response = JSONResponse({"as": done.strategy, **done.body})
        done.set_on(response)
        return response

    @app.post("/ban")
    def ban(user_id: UUID) -> None:
        auth.sync.accounts.deactivate(user_id)

    return app


async def test_def_handlers_use_the_running_services(auth: AuthAPI, database_url: str) -> None:
    create = auth.sync.accounts.create
    await asyncio.to_thread(create, "early@example.com", PASSWORD)  # before the start
    engine = sync_engine(database_url)
    app = application(auth, sessionmaker(engine))
    async with client(app) as api:
        made = await api.post("/sign-up", params={"email": "a@example.com"})
        user_id = made.json()["id"]
        login = await api.post("/form", json={"username": "a@example.com", "password": PASSWORD})
        assert login.json() == {"as": "session"}
        assert login.headers["cache-control"] == "no-store"
        assert (await api.get("/me")).json()["id"] == user_id
        # The change reaches the identity cache of the running services before the response.
        await api.post("/ban", params={"user_id": user_id})
        assert (await api.get("/me")).status_code == 401
        taken = await api.post("/sign-up", params={"email": "a@example.com"})
        assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    assert texts(database_url) == [user_id]
    engine.dispose()
    await asyncio.to_thread(auth.sync.close)


async def test_a_form_of_the_application_has_the_rules_of_the_login(
    auth: AuthAPI, database_url: str
) -> None:
    engine = sync_engine(database_url)
    app = application(auth, sessionmaker(engine))
    good = {"username": "a@example.com", "password": PASSWORD}
    async with client(app) as api:
        await api.post("/sign-up", params={"email": "a@example.com"})
        foreign = await api.post("/form", json=good, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        token = (await api.post("/form", json={**good, "strategy": "jwt"})).json()
        assert {"access_token", "refresh_token"} <= token.keys()
        assert (await api.post("/form", json={**good, "strategy": "x"})).status_code == 422
        assert (await api.post("/form", json={**good, "username": "a"})).status_code == 422
        assert (await api.post("/form", json={**good, "password": "p" * 5000})).status_code == 422
        answers = [
            (await api.post("/form", json={**good, "password": f"wrong {number}"})).status_code
            for number in range(30)
        ]
    assert set(answers) == {401, 429}
    engine.dispose()


def test_a_session_commits_both_sides_or_nothing(
    closing: AuthAPI, session: Session, database_url: str
) -> None:
    with closing.sync.transaction(session) as tx:
        session.add(Note(text="mine"))
        user = tx.accounts.create("a@example.com", PASSWORD)
        assert tx.accounts.find(user.id) == user
        assert texts(database_url) == []
    session.commit()
    assert closing.sync.accounts.find(user.id) == user
    assert texts(database_url) == ["mine"]
    with closing.sync.transaction(session) as tx:
        session.add(Note(text="lost"))
        tx.accounts.delete(user.id)
    session.rollback()
    assert closing.sync.accounts.find(user.id) == user
    assert texts(database_url) == ["mine"]


def test_a_refusal_in_a_session_undoes_its_own_call_only(
    closing: AuthAPI, session: Session, database_url: str
) -> None:
    closing.sync.accounts.create("taken@example.com", PASSWORD)
    with closing.sync.transaction(session) as tx:
        session.add(Note(text="kept"))
        with pytest.raises(EmailTaken):
            tx.accounts.create("taken@example.com", PASSWORD)
        tx.accounts.create("free@example.com", PASSWORD)
    session.commit()
    assert closing.sync.accounts.find_by_email("free@example.com").is_active
    assert texts(database_url) == ["kept"]


def test_an_ended_transaction_is_refused(closing: AuthAPI, session: Session) -> None:
    with closing.sync.transaction(session) as tx:
        tx.accounts.create("a@example.com", PASSWORD)
        session.commit()
        with pytest.raises(RuntimeError, match="has ended"):
            tx.accounts.create("b@example.com", PASSWORD)
    with pytest.raises(RuntimeError, match="has ended"):
        tx.accounts.create("b@example.com", PASSWORD)


def test_events_are_logged_at_the_commit_only(
    closing: AuthAPI, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    def logged() -> int:
        return sum("account_registered" in str(record.__dict__) for record in caplog.records)

    with caplog.at_level("INFO"):
        with closing.sync.transaction(session) as tx:
            tx.accounts.create("a@example.com", PASSWORD)
        assert logged() == 0
        session.rollback()
        assert logged() == 0
        with closing.sync.transaction(session) as tx:
            tx.accounts.create("a@example.com", PASSWORD)
        session.commit()
        assert logged() == 1


def test_a_session_that_cannot_join_is_refused_and_stays_as_it_was(
    closing: AuthAPI, database_url: str, tmp_path: Path
) -> None:
    is_sqlite = database_url.startswith("sqlite")
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")

    @sa.event.listens_for(other, "connect")
    def _(connection: object, __: object) -> None:
        connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]  # sqlite3

    own = sync_engine(database_url)
    refused = [
        (Session(other), "another database"),
        (Session(), "has no single engine"),
        (Session(own.execution_options(isolation_level="AUTOCOMMIT")), "autocommit"),
    ]
    if is_sqlite:
        plain = sa.create_engine(own.url)
        refused.append((Session(plain), "foreign keys off"))
    else:
        strict = own.execution_options(isolation_level="SERIALIZABLE")
        refused.append((Session(strict), "isolation level serializable"))
    for session, message in refused:
        with (
            session,
            pytest.raises(ConfigurationError, match=message),
            closing.sync.transaction(session),
        ):
            pass
    with pytest.raises(TypeError, match="synchronous Session"):
        closing.sync.transaction(AsyncSession()).__enter__()  # type: ignore[arg-type]
    for engine in (other, own):
        engine.dispose()
