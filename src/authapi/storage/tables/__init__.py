"""The queries, on one table each."""
