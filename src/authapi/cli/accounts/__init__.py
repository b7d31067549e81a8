"""Commands on accounts and their data: `users`, `sessions`, `tokens`, `events`, `passwords`."""
