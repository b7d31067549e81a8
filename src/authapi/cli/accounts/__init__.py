"""Commands on accounts and what is theirs: `users`, `sessions`, `tokens`, `events`, `passwords`."""
