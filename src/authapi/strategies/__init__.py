"""Strategies: each turns one kind of credential on a request into an Identity.

`base` is the contract and explains how to write one; every other file is one strategy. They do not
know one another. `registry` finds them by name.
"""
