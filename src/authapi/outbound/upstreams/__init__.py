"""Logins at other providers: what is asked there, and what is checked in their answers."""
