"""Items belong to accounts of authapi. The table of fastapi-users is dropped.

`authapi users import ... --from fastapi-users --keep-ids` runs before.
"""

import sqlalchemy as sa
from alembic import op

from authapi.orm import users

revision = "0002"
down_revision = "0001"

GUID = sa.CHAR(36).with_variant(sa.Uuid(), "postgresql")


def upgrade() -> None:
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    old_id: sa.ColumnElement[object] = sa.column("id")
    if is_sqlite:  # authapi stores the ids without hyphens
        old_id = sa.func.replace(old_id, "-", "")
    imported = sa.select(users.c.id)
    missing = sa.select(sa.func.count()).select_from(sa.table("user"))
    count = connection.scalar(missing.where(old_id.not_in(imported)))
    if count:
        raise SystemExit(f"{count} accounts are not in authapi: run authapi users import first")

    with op.batch_alter_table("item") as item:
        item.drop_constraint("fk_item_owner", type_="foreignkey")
    if is_sqlite:
        op.execute("UPDATE item SET owner_id = replace(owner_id, '-', '')")
    with op.batch_alter_table("item") as item:
        item.alter_column("owner_id", existing_type=GUID, type_=sa.Uuid(), existing_nullable=False)
        item.create_foreign_key("fk_item_owner", users.name, ["owner_id"], ["id"])
    op.drop_table("user")


def downgrade() -> None:
    raise SystemExit("the accounts are in authapi: restore a backup to go back to fastapi-users")
