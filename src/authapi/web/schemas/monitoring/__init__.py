"""Models of how the service does."""
