"""Models of logins at other providers."""
