"""Definitions of tables, which `models` puts together."""
