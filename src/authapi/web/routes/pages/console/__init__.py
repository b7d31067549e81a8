"""The pages with which superusers administer accounts, events, queues and keys."""
