"""Second factors, and how strong a login by them is."""
