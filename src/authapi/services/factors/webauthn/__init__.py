"""Passkeys as WebAuthn sees them: the relying party, and the verification of assertions."""
