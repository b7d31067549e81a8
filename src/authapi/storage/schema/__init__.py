"""The names of the tables, and how they stand beside the tables of another application."""
