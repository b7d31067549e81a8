"""What superusers and operators do with undelivered mail and webhooks."""
