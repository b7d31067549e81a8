"""Real servers for tests: PostgreSQL, and our own command as a process."""
