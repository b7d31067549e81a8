"""Signatures that are not those of access tokens."""
