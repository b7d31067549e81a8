"""What superusers do with the mail and the webhooks that the outbox has not delivered."""
