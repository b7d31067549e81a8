"""The built-in providers, one module for each."""
