"""HTTP requests to other services: the Pwned Passwords range API, and webhook endpoints."""
