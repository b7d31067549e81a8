"""Values and pure rules that every layer may use. They depend on the errors only.

Values are immutable snapshots, not rows of the database: they can be cached and passed to other
threads.
"""
