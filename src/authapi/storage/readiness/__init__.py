"""Whether the database can serve this release."""
