"""Logins: a proved first factor, the second factor that it may need, and the result."""
