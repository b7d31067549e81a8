"""Logins: the first step by password, and the second step."""
