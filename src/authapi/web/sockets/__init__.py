"""WebSockets of an application that end with the session of their caller."""
