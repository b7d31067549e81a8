"""What superusers and operators do with the mail and the webhooks that the outbox has not delivered."""
