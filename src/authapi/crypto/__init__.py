"""Cryptography and strict parsing: pure functions and values.

The only layer that imports passlib, python-jose and cryptography.
"""
