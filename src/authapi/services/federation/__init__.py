"""Logins at other providers: what they lead to, and what is linked to which account."""
