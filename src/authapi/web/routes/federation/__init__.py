"""Routes of logins at other providers."""
