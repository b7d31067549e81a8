"""HTTP requests to other services: issuers, the Pwned Passwords range API, webhook endpoints."""
