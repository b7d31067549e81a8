"""How the pages of the console show events."""
