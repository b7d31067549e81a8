"""How the service does, in numbers."""
