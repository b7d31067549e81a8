"""What can be measured: one module each, with a `measure(bench)` that gives plain data."""
