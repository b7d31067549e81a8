"""The scenarios: one module each, with `measure(bench)`, which returns plain data."""
