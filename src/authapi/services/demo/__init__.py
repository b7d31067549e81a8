"""Example accounts for a development database."""
