"""SQLite: connections."""
