"""Background work: the outbox and its deliveries, the cleanup of expired rows, and shutdown."""
