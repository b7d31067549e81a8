"""An application with its own tables and its own Alembic chain in the database of authapi."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from authapi.orm import ORM
from tests.storage.rows import sql, sync_url

_ENV = """
from alembic import context
import sqlalchemy as sa

attributes = context.config.attributes
engine = sa.create_engine(attributes["url"], poolclass=sa.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=attributes["metadata"],
        include_name=attributes["orm"].include_name,
        include_object=attributes["orm"].include_object,
        include_schemas=attributes["include_schemas"],
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
"""
_TEMPLATE = '''
"""${message}"""
import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
'''


def tables_with(orm: ORM) -> sa.MetaData:
    """Returns the tables of the application, which refer to accounts."""
    metadata = sa.MetaData()
    sa.Table(
        "users",  # their customers, for example
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("account_id", sa.Uuid, orm.user_fk(ondelete="SET NULL", name="fk_users_account")),
    )
    add_items(metadata, orm)
    return metadata


def add_items(metadata: sa.MetaData, orm: ORM) -> None:
    """Adds one of these tables to `metadata`."""
    sa.Table(
        "items",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.String(100)),
        sa.Column(
            "owner_id", sa.Uuid, orm.user_fk(ondelete="CASCADE", name="fk_items_owner"), index=True
        ),
    )


@dataclass
class Guest:
    """The commands of the application."""

    folder: Path
    url: str
    orm: ORM
    metadata: sa.MetaData
    include_schemas: bool = False

    def __post_init__(self) -> None:
        (self.folder / "versions").mkdir(parents=True)
        (self.folder / "env.py").write_text(_ENV)
        (self.folder / "script.py.mako").write_text(_TEMPLATE)

    @property
    def config(self) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self.folder))
        config.set_main_option("path_separator", "os")
        config.attributes.update(
            url=sync_url(self.url),
            metadata=self.metadata,
            orm=self.orm,
            include_schemas=self.include_schemas,
        )
        return config

    def autogenerate(self, name: str) -> str:
        """Writes the next revision. Returns its text from `upgrade` on."""
        before = set(self.folder.glob("versions/*.py"))
        command.revision(self.config, name, autogenerate=True, rev_id=name)
        [path] = set(self.folder.glob("versions/*.py")) - before
        return path.read_text().partition("def upgrade")[2]

    def upgrade(self) -> None:
        command.upgrade(self.config, "head")

    def downgrade(self) -> None:
        command.downgrade(self.config, "base")

    def check(self) -> None:
        """Raises CommandError if the next revision would not be empty."""
        command.check(self.config)

    def is_current(self) -> bool:
        head = ScriptDirectory.from_config(self.config).get_current_head()
        return sql(self.url, "SELECT version_num FROM alembic_version") == [(head,)]
