"""Second factors of accounts: authenticator apps and recovery codes."""
