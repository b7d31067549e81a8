"""The tables with their default names, as the tests see them."""

from authapi.storage.models import tables_of
from authapi.storage.schema.names import DEFAULT_NAMES

PREFIX = DEFAULT_NAMES.prefix
TABLES = tables_of(DEFAULT_NAMES)
metadata = TABLES.metadata
users, sessions, events = TABLES.users, TABLES.sessions, TABLES.events
signing_keys, refresh_families = TABLES.signing_keys, TABLES.refresh_families
email_tokens, outbox = TABLES.email_tokens, TABLES.outbox
