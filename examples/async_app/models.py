"""The tables of the application, with foreign keys to the accounts of authapi."""

from uuid import UUID, uuid4

from sqlalchemy import MetaData, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from authapi.orm import UserRow, user_fk


class Base(DeclarativeBase):
    """The base of all models."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
        }
    )


class UserProfile(Base):
    """Own columns of an account. authapi reads and writes them as `profile`."""

    __tablename__ = "profiles"

    user_id: Mapped[UUID] = mapped_column(user_fk(ondelete="CASCADE"), primary_key=True)
    handle: Mapped[str] = mapped_column(String(30), unique=True)
    city: Mapped[str | None] = mapped_column(String(100), index=True)


class Item(Base):
    """A thing that its owner keeps, shows to others or lends."""

    __tablename__ = "items"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    title: Mapped[str] = mapped_column(String(200))
    is_public: Mapped[bool] = mapped_column(default=False)
    lent_to: Mapped[str | None] = mapped_column(String(100))
    owner_id: Mapped[UUID | None] = mapped_column(user_fk(ondelete="SET NULL"), index=True)
    owner: Mapped[UserRow | None] = relationship()
