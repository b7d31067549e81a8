"""Queries on several tables, for an operator."""
