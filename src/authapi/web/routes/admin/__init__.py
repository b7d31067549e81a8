"""/admin: all accounts and events, for superusers."""
