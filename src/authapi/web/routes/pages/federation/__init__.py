"""Pages on the way to another provider, and on the way back."""
