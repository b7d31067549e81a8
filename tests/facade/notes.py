"""A table of an application, in the database of authapi."""

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def driver_url(url: str, kind: str) -> str:
    """Returns `url` with the driver of an `async` or a `sync` engine."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        name = "sqlite+aiosqlite" if kind == "async" else "sqlite"
    else:
        name = "postgresql+psycopg"
    return parsed.set(drivername=name).render_as_string(hide_password=False)


def sync_engine(url: str) -> Engine:
    """Returns a synchronous engine of the application, with foreign keys on SQLite."""
    engine = sa.create_engine(driver_url(url, "sync"))
    if engine.dialect.name == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def _(connection: object, __: object) -> None:
            connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]  # sqlite3

    return engine


def create_notes(url: str) -> None:
    """Creates the table."""
    engine = sa.create_engine(driver_url(url, "sync"))
    Base.metadata.create_all(engine)
    engine.dispose()


def texts(url: str) -> list[str]:
    """Returns the texts of all notes, as another connection sees them."""
    engine = sa.create_engine(driver_url(url, "sync"))
    try:
        with engine.connect() as connection:
            return list(connection.scalars(sa.select(Note.text).order_by(Note.id)))
    finally:
        engine.dispose()
