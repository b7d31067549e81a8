"""Pure functions over secrets, passwords, signatures and untrusted text.

The only floor that imports passlib, python-jose and cryptography.
"""
