"""What OAuth clients and resource servers ask for: tokens, their end, their state, and metadata."""
