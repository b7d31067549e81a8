"""Requests of ours to others: a range API of breached passwords, receivers of webhooks."""
