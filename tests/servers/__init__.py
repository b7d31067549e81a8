"""Real servers for tests: PostgreSQL, PgBouncer, Valkey, SMTP, webhooks, and authapi itself."""
