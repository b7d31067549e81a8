"""Copies of the rows of a test database, to reset it between tests."""
