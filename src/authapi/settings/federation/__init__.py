"""Settings of logins at other providers."""
