"""Sessions: creation by a login, lookup, and revalidation inside transactions."""
