"""Commands on accounts and what belongs to them: `users`, `sessions`, `tokens`, `events`, `passwords`."""
