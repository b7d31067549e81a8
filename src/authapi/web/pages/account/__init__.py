"""What the pages of an account show: events, devices, times, messages, and secrets once."""
