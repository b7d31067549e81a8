"""Second factors: codes of authenticator apps, and recovery codes."""
