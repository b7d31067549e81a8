"""Hooks, user names and foreign keys of the application, in the facade and in transactions."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi import Body, FastAPI, HTTPException, Request, Response
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse

from authapi import (
    AccountInUse,
    AuthAPI,
    Event,
    EventType,
    InvalidInput,
    NotFound,
    Settings,
    Transaction,
    User,
    UsernameTaken,
)
from authapi.orm import user_fk
from authapi.testing import client
from tests.facade.notes import Note, create_notes, driver_url, sync_engine, texts

PASSWORD = "correct horse battery staple"
REGISTERED = EventType.ACCOUNT_REGISTERED

metadata = sa.MetaData()
orders = sa.Table(
    "facade_orders", metadata, sa.Column("user_id", sa.Uuid, user_fk(ondelete="NO ACTION"))
)


@pytest.fixture
def orders_of(database_url: str) -> Iterator[sa.Table]:
    """A table of the application whose rows refuse the deletion of their accounts."""
    engine = sa.create_engine(driver_url(database_url, "sync"))
    metadata.create_all(engine)
    yield orders
    metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def auth(database_url: str) -> AuthAPI:
    """Accounts with addresses or user names, and a table `notes`."""
    create_notes(database_url)
    return AuthAPI(Settings(database_url=database_url, login_identifier="both"))  # type: ignore[arg-type]


async def test_hooks_run_in_the_transaction_of_the_application(
    auth: AuthAPI, database_url: str
) -> None:
    @auth.on(REGISTERED)
    async def note(event: Event, tx: Transaction) -> None:
        tx.session.add(Note(text=f"hook {event.type}"))

    @auth.on(EventType.ACCOUNT_RENAMED)
    async def refuse(_: Event, tx: Transaction) -> None:
        await tx.execute(sa.insert(Note).values(text="undone"))
        raise HTTPException(409, "not this name")

    async with auth.running() as service:
        async with auth.transaction() as tx:
            tx.session.add(Note(text="before"))
            user = await tx.accounts.create("a@example.com", PASSWORD)
            with pytest.raises(HTTPException):
                await tx.accounts.rename(user.id, "B")
            tx.session.add(Note(text="after"))
        assert (await service.accounts.find(user.id)).name is None
        assert texts(database_url) == ["before", "hook account_registered", "after"]
        with pytest.raises(ZeroDivisionError):
            await _create_and_fail(auth)
    assert texts(database_url) == ["before", "hook account_registered", "after"]


async def _create_and_fail(auth: AuthAPI) -> None:
    async with auth.transaction() as tx:
        await tx.accounts.create("b@example.com", PASSWORD)
        raise ZeroDivisionError


async def test_a_failed_flush_of_a_hook_undoes_its_call_or_everything(
    auth: AuthAPI, database_url: str
) -> None:
    @auth.on(REGISTERED)
    async def fail(_: Event, tx: Transaction) -> None:
        tx.session.add(Note(id=1, text="a second row with this key"))

    failed = False
    async with auth.running() as service:
        try:
            async with auth.transaction() as tx:
                await tx.execute(sa.insert(Note).values(id=1, text="first"))
                with pytest.raises(sa.exc.IntegrityError):
                    await tx.accounts.create("a@example.com", PASSWORD)
        except Exception:
            failed = True
        with pytest.raises(NotFound):
            await service.accounts.find_by_email("a@example.com")
    assert texts(database_url) == ([] if failed else ["first"])


def test_hooks_run_in_a_session_of_the_application(auth: AuthAPI, database_url: str) -> None:
    @auth.on(REGISTERED)
    async def note(event: Event, tx: Transaction) -> None:
        await tx.execute(sa.insert(Note).values(text=f"hook {event.type}"))

    @auth.before_delete
    async def refuse(_: User, tx: Transaction) -> None:
        await tx.execute(sa.insert(Note).values(text="undone"))
        raise HTTPException(409, "not yet")

    engine = sync_engine(database_url)
    with Session(engine) as session:
        with auth.sync.transaction(session) as tx:
            user = tx.accounts.create("a@example.com", PASSWORD, username="Alice")
            with pytest.raises(HTTPException):
                tx.accounts.delete(user.id)
        session.add(Note(text="mine"))
        session.commit()
    assert texts(database_url) == ["hook account_registered", "mine"]
    assert auth.sync.accounts.find_by_username("ALICE") == user
    with Session(engine) as session:
        with auth.sync.transaction(session) as tx:
            tx.accounts.create("b@example.com", PASSWORD)
        session.rollback()
    with pytest.raises(NotFound):
        auth.sync.accounts.find_by_email("b@example.com")
    assert texts(database_url) == ["hook account_registered", "mine"]
    auth.sync.close()
    engine.dispose()


async def test_user_names(auth: AuthAPI) -> None:
    async with auth.running() as service:
        accounts = service.accounts
        user = await accounts.create("a@example.com", PASSWORD, username="Alice")
        assert user.username == "Alice"
        assert await accounts.find_by_username("aLICE") == user
        assert (await accounts.set_username(user.id, "Carol")).username == "Carol"
        other = await accounts.create("b@example.com", PASSWORD)
        for taken in ("carol", "ALICE"):
            with pytest.raises(UsernameTaken):
                await accounts.set_username(other.id, taken)
        async with auth.transaction() as tx:
            with pytest.raises(UsernameTaken):
                await tx.accounts.create("c@example.com", PASSWORD, username="carol")
            assert (await tx.accounts.set_username(other.id, "Bob")).username == "Bob"
        assert (await accounts.find_by_username("bob")).id == other.id
        assert (await accounts.set_username(other.id, None)).username is None
        wrong: Any = 7
        for name in ("a b", "", wrong):
            with pytest.raises(InvalidInput):
                await accounts.set_username(user.id, name)
            with pytest.raises(InvalidInput):
                await accounts.find_by_username(name)
        with pytest.raises(NotFound):
            await accounts.find_by_username("nemo")


async def test_an_account_with_rows_of_the_application_stays(
    auth: AuthAPI, orders_of: sa.Table
) -> None:
    async with auth.running() as service:
        async with auth.transaction() as tx:
            user = await tx.accounts.create("a@example.com", PASSWORD)
            await tx.execute(sa.insert(orders_of).values(user_id=user.id))
        with pytest.raises(AccountInUse):
            await service.accounts.delete(user.id)
        async with auth.transaction() as tx:
            with pytest.raises(AccountInUse):
                await tx.accounts.delete(user.id)
            assert (await tx.accounts.rename(user.id, "A")).name == "A"
        async with auth.transaction() as tx:
            await tx.execute(sa.delete(orders_of))
            await tx.accounts.delete(user.id)
        with pytest.raises(NotFound):
            await service.accounts.find(user.id)


async def test_a_login_form_runs_the_hook_and_takes_either_name(auth: AuthAPI) -> None:
    seen: list[tuple[str, str]] = []

    @auth.before_login
    async def check(request: Request, email: str) -> None:
        seen.append((request.url.path, email))
        if request.headers.get("captcha") == "wrong":
            raise HTTPException(403, "the CAPTCHA is wrong")

    app = FastAPI(lifespan=auth.lifespan)
    auth.install(app)

    def add(path: str, sign_in: Callable[..., Any]) -> None:
        app.post(path)(sign_in)

    async def sign_in(request: Request, name: str = Body(), password: str = Body()) -> Response:
        done = await auth.log_in(request, name, password, strategy="token")
        return JSONResponse(dict(done.body))

    def sync_sign_in(request: Request, name: str = Body(), password: str = Body()) -> Response:
        return JSONResponse(dict(auth.sync.log_in(request, name, password, strategy="token").body))

    add("/sign-in", sign_in)
    add("/sync-sign-in", sync_sign_in)
    async with client(app) as api:
        await auth.accounts.create("A@example.com", PASSWORD, username="Alice")
        for path in ("/sign-in", "/sync-sign-in"):
            for name in ("a@Example.com", "ALICE"):
                answer = await api.post(path, json={"name": name, "password": PASSWORD})
                assert answer.status_code == 200
                assert answer.json()["access_token"]
                assert seen.pop() == (path, "a@example.com")
            body = {"name": "Alice", "password": PASSWORD}
            refused = await api.post(path, json=body, headers={"captcha": "wrong"})
            assert refused.status_code == 403
            unknown = await api.post(path, json={"name": "Nemo", "password": PASSWORD})
            assert unknown.status_code == 401
            assert seen.pop() == (path, "nemo"), "the function runs for unknown names too"
            wrong = await api.post(path, json={"name": "a b", "password": PASSWORD})
            assert wrong.status_code == 422
