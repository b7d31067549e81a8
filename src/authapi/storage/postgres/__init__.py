"""What only PostgreSQL has: parameters of a session, privileges of a role."""
