"""Queries that follow the restore of a backup."""
