"""Accounts: registration, authentication, passwords, addresses, invitations, administration."""
