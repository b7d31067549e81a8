"""The services of authapi for code of the application: in scripts, handlers and transactions."""
