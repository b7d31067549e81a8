"""Queries on the identities at other providers."""
