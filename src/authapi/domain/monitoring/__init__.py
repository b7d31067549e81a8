"""Values that describe how the service does."""
