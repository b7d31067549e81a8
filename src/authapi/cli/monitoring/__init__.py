"""Commands that print how the service does."""
