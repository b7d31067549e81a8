"""Checks of the configuration, for `authapi doctor` and for the service itself."""
