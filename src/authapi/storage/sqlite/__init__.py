"""What is particular about SQLite."""
