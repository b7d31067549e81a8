"""The definitions of groups of tables, which `models.py` joins."""
