"""What goes on between requests: a `task` from start to stop, and `housekeeping` in one."""
