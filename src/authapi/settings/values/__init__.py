"""Values of settings: durations, colours, and what text of the environment means."""
