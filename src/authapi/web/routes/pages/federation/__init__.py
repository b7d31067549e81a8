"""Pages on the way back from another provider."""
