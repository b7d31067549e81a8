"""Queries: one module for each table.

Every method can raise the errors of SQLAlchemy, which `Database.read` and `Database.transaction`
turn into StorageUnavailable if the database is unavailable.
"""
