"""Commands that print the configuration, and what it needs, without opening a database."""
