"""Authentication strategies: each reads one kind of credential and returns an `Identity`.

`base` defines the base classes and explains how to write a strategy. `registry` loads the
strategies that the settings name. Every other module is one strategy; none imports another.
"""
