"""Benchmarks of authapi and comparable projects. See README.md; authapi does not import this."""
