"""What is under load. The apps of peers run in an environment of their own, without authapi."""
