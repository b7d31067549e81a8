"""Accounts: registration, authentication, passwords, addresses, invitations, administration."""

from authapi.services.accounts.service import Accounts

__all__ = ["Accounts"]
