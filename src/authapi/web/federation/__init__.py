"""Visits to other providers: how one begins in a browser, and how it comes back."""
