"""The metadata and the keys that other issuers publish."""
