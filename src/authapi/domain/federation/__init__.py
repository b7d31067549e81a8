"""Values of logins at other providers: what is sent there, what comes back, and what is linked."""
